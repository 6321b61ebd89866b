"""The registry of results in a SQL database: names, aliases and the changes of protected ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from strata.artifacts.database.schema import alias_requests, aliases, names
from strata.artifacts.metadata import naming
from strata.artifacts.metadata.listings import ready_version
from strata.artifacts.metadata.naming import NAME_OWNED, may_move, note, put_name, state, state_of, upsert
from strata.artifacts.metadata.records import Act, NameOrder, NameRecord, VersionSummary
from strata.artifacts.metadata.rows import name_record
from strata.artifacts.registry.contract import (
    ALIAS_IS_NAME,
    CHANGED,
    MOST_ALIASES,
    MOST_PENDING,
    OTHER_REQUEST,
    OWN_REQUEST,
    TOO_MANY_ALIASES,
    TOO_MANY_PENDING,
    AliasRecord,
    Event,
    PendingChange,
    Version,
)
from strata.artifacts.registry.sql_events import list_events, summaries_of
from strata.artifacts.registry.sql_labels import Labels
from strata.outcomes import Refused


@attrs.frozen(eq=False)
class SqlRegistry(Labels):
    """The registry in the database of a metadata store; see :class:`.contract.RegistryStore`."""

    def set_name(self, tenant: str, order: NameOrder, target: Version) -> NameRecord | Refused | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            if not ready_version(connection, tenant, *target):
                return None
            return put_name(connection, tenant, order, target, now)

    def drop_name(self, tenant: str, order: NameOrder) -> NameRecord | Refused | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            old = _name(connection, tenant, order.name)
            if old is None:
                return None
            if not may_move(old.owner, order):
                return NAME_OWNED
            connection.execute(names.delete().where(*_called(tenant, order.name)))
            note(connection, attrs.evolve(order.act, old=state_of(old)), now)
            return old

    def set_alias(
        self, tenant: str, order: NameOrder, alias: str, target: Version
    ) -> AliasRecord | Refused | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            if not ready_version(connection, tenant, *target):
                return None
            old = _alias(connection, tenant, order.name, alias)
            refused = _refused(connection, tenant, order, alias, old)
            if refused is not None:
                return refused
            return self._put(connection, tenant, order, alias, target=target, old=old, at=now)

    def drop_alias(self, tenant: str, order: NameOrder, alias: str) -> AliasRecord | Refused | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            old = _alias(connection, tenant, order.name, alias)
            if old is None:
                return None
            refused = _refused(connection, tenant, order, alias, old)
            if refused is not None:
                return refused
            connection.execute(aliases.delete().where(*_of(aliases, tenant, order.name, alias)))
            note(connection, attrs.evolve(order.act, old=_told(old)), now)
            return old

    def get_alias(self, tenant: str, name: str, alias: str) -> AliasRecord | None:
        """See :class:`.contract.RegistryStore`."""
        with self.store.reading() as connection:
            return _alias(connection, tenant, name, alias)

    def aliases_of(self, tenant: str, names: Sequence[str]) -> Mapping[str, tuple[AliasRecord, ...]]:
        """See :class:`.contract.RegistryStore`."""
        query = sa.select(aliases).where(aliases.c.tenant == tenant, aliases.c.name.in_(names))
        found: dict[str, tuple[AliasRecord, ...]] = {}
        with self.store.reading() as connection:
            for row in connection.execute(query.order_by(aliases.c.name, aliases.c.alias)):
                found[row.name] = (*found.get(row.name, ()), _alias_record(row))
        return found

    def request_change(
        self, tenant: str, order: NameOrder, alias: str, target: Version | None
    ) -> PendingChange | Refused | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            if target is not None and not ready_version(connection, tenant, *target):
                return None
            alias_now = _alias(connection, tenant, order.name, alias)
            if target is None and alias_now is None:
                return None
            known = _pending(connection, tenant, order.name, alias)
            refused = _refused(connection, tenant, order, alias, alias_now)
            if refused is None and known is not None and known.requested_by != order.act.principal:
                refused = OTHER_REQUEST
            if refused is None and known is None:
                refused = _full(connection, alias_requests, MOST_PENDING, TOO_MANY_PENDING, tenant=tenant)
            if refused is not None:
                return refused
            if target is None:
                assert alias_now is not None
                target = (alias_now.artifact_id, alias_now.version)
                change = PendingChange(order.name, alias, "delete", *target, order.act.principal, now)
            else:
                change = PendingChange(order.name, alias, "set", *target, order.act.principal, now)
            upsert(connection, alias_requests, {"tenant": tenant, **attrs.asdict(change)})
            note(connection, attrs.evolve(order.act, new=_told(change)), now)
            return change

    def get_pending(self, tenant: str, name: str, alias: str) -> PendingChange | None:
        """See :class:`.contract.RegistryStore`."""
        with self.store.reading() as connection:
            return _pending(connection, tenant, name, alias)

    def list_pending(
        self, tenant: str, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[tuple[PendingChange, VersionSummary | None], ...]:
        """See :class:`.contract.RegistryStore`."""
        keys = (alias_requests.c.name, alias_requests.c.alias)
        query = sa.select(alias_requests).where(alias_requests.c.tenant == tenant).order_by(*keys)
        if after is not None:
            query = query.where(sa.tuple_(*keys) > sa.tuple_(*after))
        with self.store.reading() as connection:
            found = [_change(row) for row in connection.execute(query.limit(limit))]
            targets = summaries_of(connection, tenant, [(one.artifact_id, one.version) for one in found])
        return tuple((one, targets.get((one.artifact_id, one.version))) for one in found)

    def approve(
        self, tenant: str, name: str, alias: str, act: Act, *, own: bool, expected: Version | None = None
    ) -> PendingChange | Refused | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            change = _pending(connection, tenant, name, alias)
            if change is None:
                return None
            target = (change.artifact_id, change.version)
            if change.requested_by == act.principal and not own:
                return OWN_REQUEST
            if expected is not None and expected != target:
                return CHANGED
            old = _alias(connection, tenant, name, alias)
            if change.action == "set":
                if not ready_version(connection, tenant, *target):
                    return None
                asker = attrs.evolve(act, principal=change.requested_by)
                order = NameOrder(name=name, act=asker, others=True)
                refused = _refused(connection, tenant, order, alias, old)
                if refused is not None:
                    return refused
                self._put(connection, tenant, order, alias, target=target, old=old, at=now, act=act)
            else:
                connection.execute(aliases.delete().where(*_of(aliases, tenant, name, alias)))
                gone = state(name=name, alias=alias) if old is None else _told(old)
                note(connection, attrs.evolve(act, old=gone), now)
            connection.execute(alias_requests.delete().where(*_of(alias_requests, tenant, name, alias)))
            return change

    def reject(self, tenant: str, name: str, alias: str, act: Act) -> PendingChange | None:
        """See :class:`.contract.RegistryStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            change = _pending(connection, tenant, name, alias)
            if change is not None:
                connection.execute(alias_requests.delete().where(*_of(alias_requests, tenant, name, alias)))
                note(connection, attrs.evolve(act, old=_told(change)), now)
            return change

    def list_events(
        self,
        tenant: str,
        *,
        name: str | None = None,
        artifact_id: str | None = None,
        before: int | None = None,
        since: int | None = None,
        limit: int,
    ) -> tuple[Event, ...]:
        """See :class:`.contract.RegistryStore`."""
        with self.store.reading() as connection:
            return list_events(
                connection,
                tenant,
                name=name,
                artifact_id=artifact_id,
                before=before,
                since=since,
                limit=limit,
            )

    def _put(
        self,
        connection: sa.Connection,
        tenant: str,
        order: NameOrder,
        alias: str,
        *,
        target: Version,
        old: AliasRecord | None,
        at: float,
        act: Act | None = None,
    ) -> AliasRecord:
        """Point an alias at a version; it keeps its owner."""
        owner = order.act.principal if old is None else old.owner
        record = AliasRecord(order.name, alias, *target, at, owner)
        upsert(connection, aliases, {"tenant": tenant, **attrs.asdict(record)})
        before = None if old is None else _told(old)
        note(connection, attrs.evolve(act or order.act, old=before, new=_told(record)), at)
        return record


def _called(tenant: str, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    return names.c.tenant == tenant, names.c.name == name


def _of(table: sa.Table, tenant: str, name: str, alias: str) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.tenant == tenant, table.c.name == name, table.c.alias == alias


def _name(connection: sa.Connection, tenant: str, name: str) -> NameRecord | None:
    row = connection.execute(sa.select(names).where(*_called(tenant, name)).with_for_update()).first()
    return None if row is None else name_record(row)


def _alias(connection: sa.Connection, tenant: str, name: str, alias: str) -> AliasRecord | None:
    row = connection.execute(sa.select(aliases).where(*_of(aliases, tenant, name, alias))).first()
    return None if row is None else _alias_record(row)


def _pending(connection: sa.Connection, tenant: str, name: str, alias: str) -> PendingChange | None:
    query = sa.select(alias_requests).where(*_of(alias_requests, tenant, name, alias))
    row = connection.execute(query).first()
    return None if row is None else _change(row)


def _refused(
    connection: sa.Connection, tenant: str, order: NameOrder, alias: str, old: AliasRecord | None
) -> Refused | None:
    """Return why an order may not change an alias of its name, or None."""
    named = _name(connection, tenant, order.name)
    owner = named.owner if named is not None else None if old is None else old.owner
    if not may_move(owner, order):
        return NAME_OWNED
    if old is not None:
        return None
    written = f"{order.name}{naming.ALIAS_SIGN}{alias}"
    if _name(connection, tenant, written) is not None:
        return ALIAS_IS_NAME
    mine = {"tenant": tenant, "name": order.name}
    return _full(connection, aliases, MOST_ALIASES, TOO_MANY_ALIASES, **mine)


def _full(
    connection: sa.Connection, table: sa.Table, most: int, refused: Refused, **key: str
) -> Refused | None:
    """Return ``refused`` if a table has the maximum of rows with a key."""
    mine = [table.c[name] == value for name, value in key.items()]
    count = connection.scalar(sa.select(sa.func.count()).select_from(table).where(*mine))
    return refused if (count or 0) >= most else None


def _alias_record(row: sa.Row[Any]) -> AliasRecord:
    return AliasRecord(row.name, row.alias, row.artifact_id, row.version, row.updated_at, row.owner)


def _change(row: sa.Row[Any]) -> PendingChange:
    return PendingChange(
        row.name, row.alias, row.action, row.artifact_id, row.version, row.requested_by, row.requested_at
    )


def _told(of: AliasRecord | PendingChange) -> str:
    """Return an alias and the version it points at, or is to point at, as the text of an audit record."""
    asked = of.requested_by if isinstance(of, PendingChange) else None
    return state(
        name=of.name, alias=of.alias, artifact_id=of.artifact_id, version=of.version, requested_by=asked
    )

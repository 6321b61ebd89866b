"""Tags and pins of versions in a SQL database, and the names of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from strata.artifacts.database.keys import among
from strata.artifacts.database.schema import names, pins, tags
from strata.artifacts.metadata.listings import ready_version
from strata.artifacts.metadata.naming import note, state, upsert
from strata.artifacts.metadata.records import Act
from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.artifacts.registry.contract import (
    MOST_PINS,
    MOST_TAGS,
    TOO_MANY_PINS,
    TOO_MANY_TAGS,
    PinRecord,
    Tagged,
    Version,
)
from strata.artifacts.registry.sql_events import summaries_of
from strata.outcomes import Refused


@attrs.frozen(eq=False)
class Labels:
    """Tags and pins in the database of a metadata store; see :class:`.contract.RegistryStore`.

    Attributes:
        store: The store.
    """

    store: SqlMetadataStore

    def set_tag(self, tenant: str, version: Version, key: str, value: str, act: Act) -> bool | Refused:
        """Set a tag; false: there is no such ready version."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            if not ready_version(connection, tenant, *version):
                return False
            known = _texts(connection, tags, tenant, version)
            if key not in known and len(known) >= MOST_TAGS:
                return TOO_MANY_TAGS
            row = {**_key(tenant, version), "key": key, "value": value}
            upsert(connection, tags, row)
            old = _told(version, key=key, value=known[key]) if key in known else None
            told = _told(version, key=key, value=value)
            note(connection, attrs.evolve(act, old=old, new=told), now)
            return True

    def drop_tag(self, tenant: str, version: Version, key: str, act: Act) -> str | None:
        """Remove a tag and return its value."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            value = _texts(connection, tags, tenant, version).get(key)
            if value is not None:
                connection.execute(tags.delete().where(*_of(tags, tenant, version), tags.c.key == key))
                told = _told(version, key=key, value=value)
                note(connection, attrs.evolve(act, old=told), now)
            return value

    def tags_of(self, tenant: str, versions: Sequence[Version]) -> Mapping[Version, Mapping[str, str]]:
        """Return the tags of versions."""
        query = sa.select(tags).where(tags.c.tenant == tenant, _among(tags, versions))
        found: dict[Version, dict[str, str]] = {}
        with self.store.reading() as connection:
            for row in connection.execute(query.order_by(tags.c.key)):
                found.setdefault((row.artifact_id, row.version), {})[row.key] = row.value
        return found

    def names_of(self, tenant: str, versions: Sequence[Version]) -> Mapping[Version, tuple[str, ...]]:
        """Return the names of versions, in order."""
        query = sa.select(names).where(names.c.tenant == tenant, _among(names, versions))
        found: dict[Version, tuple[str, ...]] = {}
        with self.store.reading() as connection:
            for name, *key in sorted(
                (row.name, row.artifact_id, row.version) for row in connection.execute(query)
            ):
                found[key[0], key[1]] = (*found.get((key[0], key[1]), ()), name)
        return found

    def list_tagged(
        self, tenant: str, key: str, value: str | None, *, after: Version | None, limit: int
    ) -> tuple[Tagged, ...]:
        """Return versions with a tag, in order, behind a place."""
        keys = (tags.c.artifact_id, tags.c.version)
        query = sa.select(tags).where(tags.c.tenant == tenant, tags.c.key == key).order_by(*keys)
        if value is not None:
            query = query.where(tags.c.value == value)
        if after is not None:
            query = query.where(sa.tuple_(*keys) > sa.tuple_(*after))
        with self.store.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
            targets = summaries_of(connection, tenant, [(row.artifact_id, row.version) for row in rows])
        # The row of a version and its tags go in one transaction.
        return tuple(Tagged(targets[row.artifact_id, row.version], row.value) for row in rows)

    def pin(self, tenant: str, version: Version, reason: str, act: Act) -> PinRecord | Refused | None:
        """Keep a version for a reason."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            if not ready_version(connection, tenant, *version):
                return None
            rows = connection.execute(sa.select(pins).where(*_of(pins, tenant, version))).all()
            known = next((_pin(row) for row in rows if row.reason == reason), None)
            if known is not None:
                return known
            if len(rows) >= MOST_PINS:
                return TOO_MANY_PINS
            record = PinRecord(*version, reason, act.principal, now)
            connection.execute(pins.insert().values(tenant=tenant, **attrs.asdict(record)))
            note(connection, attrs.evolve(act, new=_told(version, reason=reason)), now)
            return record

    def unpin(self, tenant: str, version: Version, reason: str, act: Act) -> PinRecord | None:
        """Remove a pin and return it."""
        now = self.store.now()
        mine = (*_of(pins, tenant, version), pins.c.reason == reason)
        with self.store.writing(tenant) as connection:
            row = connection.execute(sa.select(pins).where(*mine)).first()
            if row is None:
                return None
            connection.execute(pins.delete().where(*mine))
            note(connection, attrs.evolve(act, old=_told(version, reason=reason)), now)
            return _pin(row)


def _key(tenant: str, version: Version) -> dict[str, str | int]:
    return {"tenant": tenant, "artifact_id": version[0], "version": version[1]}


def _of(table: sa.Table, tenant: str, version: Version) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(table.c[name] == value for name, value in _key(tenant, version).items())


def _among(table: sa.Table, versions: Sequence[Version]) -> sa.ColumnElement[bool]:
    return among((table.c.artifact_id, table.c.version), versions)


def _texts(connection: sa.Connection, table: sa.Table, tenant: str, version: Version) -> dict[str, str]:
    rows = connection.execute(sa.select(table).where(*_of(table, tenant, version)))
    return {row.key: row.value for row in rows}


def _pin(row: sa.Row[Any]) -> PinRecord:
    return PinRecord(row.artifact_id, row.version, row.reason, row.pinned_by, row.pinned_at)


def _told(version: Version, **more: str) -> str:
    return state(artifact_id=version[0], version=version[1], **more)

"""The end of results in a SQL database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import sqlalchemy as sa

from strata.artifacts.database.keys import among
from strata.artifacts.database.schema import (
    alias_requests,
    aliases,
    artifact_inputs,
    artifacts,
    builds,
    names,
    pins,
    removed_versions,
    tags,
    tenant_usage,
)
from strata.artifacts.metadata.listings import ARTIFACT_URI
from strata.artifacts.metadata.naming import note, upsert
from strata.artifacts.metadata.records import Act, ArtifactState
from strata.artifacts.metadata.rows import artifact_record
from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.artifacts.metadata.usage import charge, stored_bytes
from strata.artifacts.retention.contract import MOST_REMOVED, Hold, Kept, Removed, Unused, Usage

_ENDED: Final = (ArtifactState.READY.value, ArtifactState.FAILED.value)
_URI: Final = ARTIFACT_URI + artifacts.c.artifact_id + "@v=" + sa.cast(artifacts.c.version, sa.String)


def _points(table: sa.Table) -> sa.Exists:
    """Return the condition that a row of a table points at a version."""
    return sa.exists().where(
        table.c.tenant == artifacts.c.tenant,
        table.c.artifact_id == artifacts.c.artifact_id,
        table.c.version == artifacts.c.version,
    )


_IS_INPUT: Final = sa.exists().where(
    artifact_inputs.c.tenant == artifacts.c.tenant, artifact_inputs.c.uri == _URI
)
_HOLDING: Final = (names, aliases, alias_requests, pins)
_FREE: Final = sa.and_(artifacts.c.state.in_(_ENDED), ~_IS_INPUT, *(~_points(table) for table in _HOLDING))
_NO_ROW: Final = Usage(0, 0)


@attrs.frozen(eq=False)
class SqlRetention:
    """Ends results in the database of a metadata store; see :class:`.contract.RetentionStore`.

    Attributes:
        store: The store.
    """

    store: SqlMetadataStore

    def now(self) -> float:
        """See :class:`.contract.RetentionStore`."""
        return self.store.now()

    def usage(self, tenant: str) -> Usage:
        """See :class:`.contract.RetentionStore`."""
        query = sa.select(tenant_usage).where(tenant_usage.c.tenant == tenant)
        with self.store.reading() as connection:
            found = connection.execute(query).first()
        return _NO_ROW if found is None else Usage(found.stored_bytes, found.versions)

    def largest(self, limit: int) -> tuple[tuple[str, Usage], ...]:
        """See :class:`.contract.RetentionStore`."""
        order = (tenant_usage.c.stored_bytes.desc(), tenant_usage.c.tenant)
        query = sa.select(tenant_usage).order_by(*order).limit(limit)
        with self.store.reading() as connection:
            rows = connection.execute(query).all()
        return tuple((row.tenant, Usage(row.stored_bytes, row.versions)) for row in rows)

    def note_uses(self, tenant: str, uses: Mapping[tuple[str, int], float]) -> None:
        """See :class:`.contract.RetentionStore`."""
        if not uses:
            return
        statement = (
            artifacts.update()
            .where(
                artifacts.c.tenant == tenant,
                artifacts.c.artifact_id == sa.bindparam("of_id"),
                artifacts.c.version == sa.bindparam("of_version"),
                sa.or_(artifacts.c.used_at.is_(None), artifacts.c.used_at < sa.bindparam("at")),
            )
            .values(used_at=sa.bindparam("at"))
        )
        rows = [
            {"of_id": artifact_id, "of_version": version, "at": at}
            for (artifact_id, version), at in uses.items()
        ]
        with self.store.writing(tenant, unsynced=True) as connection:
            connection.execute(statement, rows)

    def note_first_uses(self, tenant: str, limit: int) -> int:
        """See :class:`.contract.RetentionStore`."""
        unknown = sa.select(artifacts.c.artifact_id, artifacts.c.version)
        unknown = unknown.where(artifacts.c.tenant == tenant, artifacts.c.used_at.is_(None)).limit(limit)
        with self.store.reading() as connection:
            found = [(row.artifact_id, row.version) for row in connection.execute(unknown)]
        self.note_uses(tenant, dict.fromkeys(found, self.store.now()))
        return len(found)

    def kept(self, tenant: str, artifact_id: str, version: int) -> Kept | None:
        """See :class:`.contract.RetentionStore`."""
        with self.store.reading() as connection:
            return _kept(connection, tenant, artifact_id, version)

    def unused(self, tenant: str, *, before: float, after: Unused | None, limit: int) -> tuple[Unused, ...]:
        """See :class:`.contract.RetentionStore`."""
        keys = (artifacts.c.used_at, artifacts.c.artifact_id, artifacts.c.version)
        query = (
            sa.select(artifacts)
            .where(artifacts.c.tenant == tenant, artifacts.c.used_at < before, _FREE)
            .order_by(*keys)
            .limit(limit)
        )
        if after is not None:
            query = query.where(sa.tuple_(*keys) > sa.tuple_(after.used_at, after.artifact_id, after.version))
        with self.store.reading() as connection:
            found = connection.execute(query, execution_options={"yield_per": 8})
            return tuple(_unused(row) for row in found)

    def remove(self, tenant: str, artifact_id: str, version: int, act: Act) -> Removed | Kept | None:
        """See :class:`.contract.RetentionStore`."""
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            removed = _claim(connection, tenant, artifact_id, version, now=now)
            if removed is None:
                return _kept(connection, tenant, artifact_id, version)
            note(connection, attrs.evolve(act, old=listed([removed])), now)
            return removed

    def collect(
        self, tenant: str, versions: Sequence[Unused], *, before: float, act: Act
    ) -> tuple[Removed, ...]:
        """See :class:`.contract.RetentionStore`."""
        found: list[Removed] = []
        now = self.store.now()
        with self.store.writing(tenant) as connection:
            for one in versions[:MOST_REMOVED]:
                removed = _claim(connection, tenant, one.artifact_id, one.version, before, now=now)
                if removed is not None:
                    found.append(removed)
            if found:
                note(connection, attrs.evolve(act, old=listed(found)), now)
        return tuple(found)

    def pending(
        self, limit: int, *, tenant: str | None = None, after: Removed | None = None
    ) -> tuple[Removed, ...]:
        """See :class:`.contract.RetentionStore`."""
        keys = (removed_versions.c.tenant, removed_versions.c.artifact_id, removed_versions.c.version)
        query = sa.select(removed_versions).where(removed_versions.c.content_sha256.is_not(None))
        if tenant is not None:
            query = query.where(removed_versions.c.tenant == tenant)
        if after is not None:
            query = query.where(sa.tuple_(*keys) > sa.tuple_(after.tenant, after.artifact_id, after.version))
        with self.store.reading() as connection:
            rows = connection.execute(query.order_by(*keys).limit(limit)).all()
        return tuple(
            Removed(row.tenant, row.artifact_id, row.version, row.byte_size, row.content_sha256)
            for row in rows
        )

    def is_needed(self, tenant: str, content_sha256: str) -> bool:
        """See :class:`.contract.RetentionStore`."""
        same = sa.and_(artifacts.c.tenant == tenant, artifacts.c.content_sha256 == content_sha256)
        query = sa.select(sa.literal(1)).where(same, artifacts.c.state == ArtifactState.READY.value).limit(1)
        with self.store.reading() as connection:
            return connection.scalar(query) is not None

    def bytes_gone(self, removed: Removed) -> None:
        """See :class:`.contract.RetentionStore`."""
        mine = sa.and_(
            removed_versions.c.tenant == removed.tenant,
            removed_versions.c.artifact_id == removed.artifact_id,
            removed_versions.c.version == removed.version,
        )
        # After a power cut the bytes are looked for once more: a sync for each would cost more.
        with self.store.writing(removed.tenant, unsynced=True) as connection:
            connection.execute(
                removed_versions.update().where(mine).values(content_sha256=None, claimed_by=None)
            )

    def forget_removed(self, tenant: str, *, before: float, limit: int) -> int:
        """See :class:`.contract.RetentionStore`."""
        keys = (removed_versions.c.artifact_id, removed_versions.c.version)
        old = (
            sa.select(*keys)
            .where(
                removed_versions.c.tenant == tenant,
                removed_versions.c.removed_at < before,
                removed_versions.c.content_sha256.is_(None),
            )
            .limit(limit)
        )
        with self.store.writing(tenant, unsynced=True) as connection:
            found = [tuple(row) for row in connection.execute(old)]
            if found:
                mine = sa.and_(removed_versions.c.tenant == tenant, among(keys, found))
                connection.execute(removed_versions.delete().where(mine))
        return len(found)


def _claim(
    connection: sa.Connection,
    tenant: str,
    artifact_id: str,
    version: int,
    before: float | None = None,
    *,
    now: float,
) -> Removed | None:
    """Remove the row of a version that nothing holds, and what belongs to it; None if it stays."""
    key = {"tenant": tenant, "artifact_id": artifact_id, "version": version}
    mine = sa.and_(*(artifacts.c[name] == value for name, value in key.items()))
    unused = mine if before is None else sa.and_(mine, artifacts.c.used_at < before)
    # The row is locked first: a name that is set meanwhile is seen by the condition of the removal.
    row = connection.execute(sa.select(artifacts).where(unused).with_for_update()).first()
    if row is None or not connection.execute(artifacts.delete().where(mine, _FREE)).rowcount:
        return None
    for table in (builds, artifact_inputs, tags):
        connection.execute(table.delete().where(*(table.c[name] == value for name, value in key.items())))
    record = artifact_record(row)
    size = (record.byte_size or 0) if record.state is ArtifactState.READY else 0
    # The hash of a lost result, too: a damaged file may be left.
    gone: dict[str, Any] = {"removed_at": now, "byte_size": size}
    if record.content_sha256 is not None:  # else a failed build may have noted bytes that it gave up
        gone["content_sha256"] = record.content_sha256
    upsert(connection, removed_versions, key | gone)
    charge(connection, tenant, -stored_bytes(record), -1)
    return Removed(tenant, artifact_id, version, size, record.content_sha256)


def _unused(row: sa.Row[Any]) -> Unused:
    return Unused(row.used_at, row.artifact_id, row.version, stored_bytes(artifact_record(row)))


def _kept(connection: sa.Connection, tenant: str, artifact_id: str, version: int) -> Kept | None:
    """Return what holds a version, or None if there is no such version."""
    mine = (artifacts.c.tenant == tenant, artifacts.c.artifact_id == artifact_id)
    query = sa.select(artifacts.c.state, artifacts.c.used_at).where(*mine, artifacts.c.version == version)
    row = connection.execute(query).first()
    if row is None:
        return None
    key = (tenant, artifact_id, version)
    called = sa.select(names.c.name).where(*_pointing(names, *key)).order_by(names.c.name).limit(MOST_REMOVED)
    uri = f"{ARTIFACT_URI}{artifact_id}@v={version}"
    made = (
        sa.select(artifact_inputs.c.artifact_id, artifact_inputs.c.version)
        .where(artifact_inputs.c.tenant == tenant, artifact_inputs.c.uri == uri)
        .order_by(artifact_inputs.c.created_at, artifact_inputs.c.artifact_id, artifact_inputs.c.version)
        .limit(MOST_REMOVED)
    )
    named = tuple(connection.scalars(called))
    also = sa.select(aliases.c.name, aliases.c.alias).where(*_pointing(aliases, *key))
    aliased = tuple(
        tuple(one) for one in connection.execute(also.order_by(*also.selected_columns).limit(MOST_REMOVED))
    )
    reasons = sa.select(pins.c.reason).where(*_pointing(pins, *key)).order_by(pins.c.reason)
    pinned = tuple(connection.scalars(reasons))
    asked = sa.select(alias_requests.c.name).where(*_pointing(alias_requests, *key)).limit(1)
    dependents = tuple(f"{ARTIFACT_URI}{one.artifact_id}@v={one.version}" for one in connection.execute(made))
    found = {
        Hold.BUILDING: row.state not in _ENDED,
        Hold.NAME: bool(named),
        Hold.ALIAS: bool(aliased),
        Hold.PIN: bool(pinned),
        Hold.PENDING: connection.execute(asked).first() is not None,
        Hold.INPUT: bool(dependents),
    }
    held = frozenset(hold for hold, holds in found.items() if holds)
    return Kept(row.used_at, held, named, dependents, aliased, pinned)


def _pointing(
    table: sa.Table, tenant: str, artifact_id: str, version: int
) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.tenant == tenant, table.c.artifact_id == artifact_id, table.c.version == version


def listed(removed: Sequence[Removed]) -> str:
    """Return the removed versions as the text of an audit record."""
    versions = [
        {"artifact_id": one.artifact_id, "version": one.version, "byte_size": one.byte_size}
        for one in removed
    ]
    return json.dumps({"versions": versions})

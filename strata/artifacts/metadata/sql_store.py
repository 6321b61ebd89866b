"""Metadata store in a SQL database; commits are synced to disk, except those that begin a build."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa

from strata.artifacts.blobs.store import BlobFacts
from strata.artifacts.database.connections import Transactions
from strata.artifacts.database.contract import Database
from strata.artifacts.database.schema import artifacts, audit, builds, names, removed_versions
from strata.artifacts.database.sqlite import SqliteDatabase
from strata.artifacts.metadata import listings
from strata.artifacts.metadata.contract import (
    INTERRUPTED,
    LOST,
    MAX_INTEGER,
    NOT_RUNNING,
    artifact_id_of,
    check_listing,
)
from strata.artifacts.metadata.naming import note, put_name, state
from strata.artifacts.metadata.ownership import give_up_bytes, interrupt, lives
from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    Cursor,
    NamedVersion,
    NameOrder,
    NameRecord,
    Page,
    Stats,
    VersionSummary,
    within_page,
)
from strata.artifacts.metadata.rows import artifact_record, audit_record, build_record, name_record
from strata.artifacts.metadata.usage import charge, text_bytes
from strata.outcomes import Refused

_READY = ArtifactState.READY.value
_BUILDING = ArtifactState.BUILDING.value
_FAILED = ArtifactState.FAILED.value
_UNFINISHED = (ArtifactState.PENDING.value, _BUILDING)
# Statements of every build and uncached read, built once: that takes SQLAlchemy longer than executing them.
# Parameters are named after their columns.
_FIND_READY = (
    sa.select(artifacts)
    .where(
        artifacts.c.tenant == sa.bindparam("tenant"),
        artifacts.c.provenance_hash == sa.bindparam("provenance_hash"),
        artifacts.c.state == _READY,
    )
    .order_by(artifacts.c.version.desc())
    .limit(1)
)
_GET_ARTIFACT = sa.select(artifacts).where(
    artifacts.c.tenant == sa.bindparam("tenant"),
    artifacts.c.artifact_id == sa.bindparam("artifact_id"),
    artifacts.c.version == sa.bindparam("version"),
)
_GET_BUILD = sa.select(builds).where(
    builds.c.tenant == sa.bindparam("tenant"), builds.c.build_id == sa.bindparam("build_id")
)
_FIND_RUNNING = (
    sa.select(builds)
    .where(
        builds.c.tenant == sa.bindparam("tenant"),
        builds.c.artifact_id == sa.bindparam("artifact_id"),
        builds.c.state.in_(_UNFINISHED),
    )
    .order_by(builds.c.version.desc())
    .limit(1)
)
_VERSIONS = tuple(
    sa.select(sa.func.max(table.c.version).label("version")).where(
        table.c.tenant == sa.bindparam("tenant"), table.c.artifact_id == sa.bindparam("artifact_id")
    )
    for table in (artifacts, removed_versions)
)
_LAST_VERSION = sa.select(sa.func.max(sa.union_all(*_VERSIONS).subquery().c.version))
_ADD_ARTIFACT, _ADD_BUILD = artifacts.insert(), builds.insert()
_NO_BUILD = {column.name: None for column in builds.c}


class SqlMetadataStore:
    """Artifacts, builds and names in a SQL database; see :class:`~strata.artifacts.MetadataStore`.

    Args:
        database: The database, or the path of a SQLite file, whose directory must exist.
        now: Wall clock, in seconds since the epoch.

    Raises:
        SchemaError: If this version cannot use the database's schema.
        RefusalError: If the database does not answer.
    """

    def __init__(self, database: Database | Path, now: Callable[[], float]) -> None:
        self.now = now
        self.server_id: str | None = None
        self.dead_servers: Callable[[], Mapping[str, float]] = dict
        self.database = SqliteDatabase(database) if isinstance(database, Path) else database
        self.reading, self.writing = self.database.reading, self.database.writing
        try:
            self.secret = self.database.open()
        except BaseException:  # raised again: no other code closes it
            self.close()
            raise

    @property
    def transactions(self) -> Transactions:
        """The transactions of this store's database, for stores of other things in it."""
        return Transactions(self.reading, self.writing)

    def probe(self) -> bool:
        """Test whether the database answers."""
        return self.database.probe()

    def begin_build(
        self,
        tenant: str,
        *,
        build_id: str,
        provenance_hash: str,
        query_hash: str,
        transform_spec: str,
        input_versions: Sequence[tuple[str, str]],
        executor_ref: str,
        name: str | None,
        refresh: bool = False,
    ) -> BuildRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        now = self.now()
        artifact_id = artifact_id_of(provenance_hash)
        # Unsynced: a power cut ends the build, too, and a sync would delay every first byte.
        with self.writing(tenant, unsynced=True) as connection:
            existing = _existing_build(connection, tenant, build_id, None if refresh else artifact_id)
            if existing is not None and self._is_dead(connection, existing):
                interrupt(connection, existing, now)
                existing = None
            if existing is not None:
                return build_record(existing._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
            mine = {"tenant": tenant, "artifact_id": artifact_id}
            last, inputs = connection.scalar(_LAST_VERSION, mine), json.dumps(dict(input_versions))
            both = {
                **mine,
                "version": (last or 0) + 1,
                "state": _BUILDING,
                "input_versions": inputs,
                "created_at": now,
            }
            version = {
                "provenance_hash": provenance_hash,
                "query_hash": query_hash,
                "transform_spec": transform_spec,
            }
            build = {"build_id": build_id, "executor_ref": executor_ref, "name": name, "started_at": now} | {
                "server_id": self.server_id
            }
            connection.execute(_ADD_ARTIFACT, both | version | {"used_at": now})
            charge(connection, tenant, text_bytes(transform_spec, inputs), 1)
            listings.note_inputs(connection, both, input_versions)
            connection.execute(_ADD_BUILD, both | build)
        return build_record(_NO_BUILD | both | build)

    def finish_build(
        self,
        tenant: str,
        build_id: str,
        *,
        facts: BlobFacts,
        row_count: int,
        arrow_schema: str,
        names: Collection[NameOrder] = (),
        act: Act | None = None,
    ) -> ArtifactRecord | Refused:
        """See :class:`~strata.artifacts.MetadataStore`."""
        now = self.now()
        with self.writing(tenant) as connection:
            build = self._end(connection, tenant, build_id, state=_READY, completed_at=now)
            if build is None:
                return NOT_RUNNING
            mine = _version(tenant, build.artifact_id, build.version)
            ready = {"state": _READY, "row_count": row_count, "arrow_schema": arrow_schema}
            blob = {"byte_size": facts.size, "content_sha256": facts.sha256}
            connection.execute(artifacts.update().where(mine).values(ready | blob | {"used_at": now}))
            charge(connection, tenant, facts.size + text_bytes(arrow_schema))
            if act is not None:
                told = state(artifact_id=build.artifact_id, version=build.version)
                note(connection, attrs.evolve(act, new=told), now)
            for order in names:
                put_name(connection, tenant, order, (build.artifact_id, build.version), now)
            return artifact_record(connection.execute(sa.select(artifacts).where(mine)).one())

    def fail_build(self, tenant: str, build_id: str, *, code: str, message: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.writing(tenant) as connection:
            changes = {"completed_at": self.now(), "error_code": code, "error_message": message}
            build = self._end(connection, tenant, build_id, state=_FAILED, **changes)
            if build is not None:
                mine = _version(tenant, build.artifact_id, build.version)
                connection.execute(artifacts.update().where(mine).values(state=_FAILED))
                give_up_bytes(connection, build, self.now())

    def find_ready(self, tenant: str, provenance_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.reading() as connection:
            wanted = {"tenant": tenant, "provenance_hash": provenance_hash}
            found = connection.execute(_FIND_READY, wanted).first()
        return None if found is None else artifact_record(found)

    def find_latest_by_query(self, tenant: str, query_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        latest = (artifacts.c.created_at.desc(), artifacts.c.version.desc(), artifacts.c.artifact_id.desc())
        wanted = (
            artifacts.c.tenant == tenant,
            artifacts.c.query_hash == query_hash,
            artifacts.c.state == _READY,
        )
        query = sa.select(artifacts).where(*wanted).order_by(*latest).limit(1)
        with self.reading() as connection:
            found = connection.execute(query).first()
        return None if found is None else artifact_record(found)

    def get_artifact(self, tenant: str, artifact_id: str, version: int) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        if version > MAX_INTEGER:  # the driver would raise for a number no row can have
            return None
        with self.reading() as connection:
            wanted = {"tenant": tenant, "artifact_id": artifact_id, "version": version}
            found = connection.execute(_GET_ARTIFACT, wanted).first()
        return None if found is None else artifact_record(found)

    def get_build(self, tenant: str, build_id: str) -> BuildRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.reading() as connection:
            found = connection.execute(_GET_BUILD, {"tenant": tenant, "build_id": build_id}).first()
        return None if found is None else build_record(found._mapping)  # noqa: SLF001  # a public name

    def list_artifacts(
        self,
        tenant: str,
        *,
        limit: int,
        offset: int,
        state: str | None = None,
        name_prefix: str | None = None,
        since: float | None = None,
        sort: str = "created_at",
        order: str = "desc",
    ) -> Page | Refused:
        """See :class:`~strata.artifacts.MetadataStore`."""
        refused = check_listing(limit=limit, offset=offset, state=state, since=since, sort=sort, order=order)
        if refused is not None:
            return refused
        chosen = partial(listings.listed, tenant=tenant, state=state, name_prefix=name_prefix, since=since)
        query = chosen(artifacts).order_by(*listings.ordered(sort, order)).limit(limit).offset(offset)
        with self.reading() as connection:
            total = connection.scalar(chosen(sa.func.count()))
            found = connection.execute(query, execution_options={"yield_per": 8})  # a page may end early
            return Page(within_page(map(artifact_record, found)), total or 0)

    def list_summaries(
        self,
        tenant: str,
        *,
        limit: int,
        after: Cursor | None = None,
        state: str | None = None,
        name_prefix: str | None = None,
        since: float | None = None,
        sort: str = "created_at",
        order: str = "desc",
    ) -> tuple[VersionSummary, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        chosen = {"tenant": tenant, "state": state, "name_prefix": name_prefix, "since": since}
        with self.reading() as connection:
            return listings.summaries(connection, sort=sort, order=order, after=after, limit=limit, **chosen)

    def get_artifacts(self, tenant: str, versions: Sequence[tuple[str, int]]) -> tuple[ArtifactRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.reading() as connection:
            return listings.artifacts_of(connection, tenant, versions)

    def list_dependents(
        self, tenant: str, uri: str, *, after: Cursor | None, limit: int
    ) -> tuple[VersionSummary, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.reading() as connection:
            return listings.dependents(connection, tenant, uri, after=after, limit=limit)

    def stats(self, tenant: str) -> Stats:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.reading() as connection:
            return listings.stats_of(connection, tenant)

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(names).where(names.c.tenant == tenant, names.c.name == name)
        with self.reading() as connection:
            found = connection.execute(query).first()
        return None if found is None else name_record(found)

    def list_names(
        self,
        tenant: str,
        *,
        prefix: str = "",
        after: str = "",
        limit: int | None = None,
        targets: bool = True,
    ) -> tuple[NamedVersion, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self.reading() as connection:
            asked = {"prefix": prefix, "after": after}
            if not targets:
                return listings.plain_names(connection, tenant, **asked, limit=limit)
            return listings.named_versions(connection, tenant, **asked, limit=limit)

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        mine = sa.and_(_version(tenant, artifact_id, version), artifacts.c.state == _READY)
        same = sa.and_(
            builds.c.tenant == tenant, builds.c.artifact_id == artifact_id, builds.c.version == version
        )
        with self.writing(tenant) as connection:
            size = connection.scalar(sa.select(artifacts.c.byte_size).where(mine))
            if connection.execute(artifacts.update().where(mine).values(state=_FAILED)).rowcount:
                charge(connection, tenant, -(size or 0))
                failed = {"state": _FAILED, "error_code": code, "error_message": LOST}
                connection.execute(builds.update().where(same).values(failed))

    def list_tenants(self, *, after: str, limit: int) -> tuple[str, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        found: list[str] = []
        with self.reading() as connection:
            while len(found) < limit:  # one index look-up per tenant, however many artifacts it has
                last = found[-1] if found else after
                query = sa.select(sa.func.min(artifacts.c.tenant)).where(artifacts.c.tenant > last)
                following = connection.scalar(query)
                if following is None:
                    break
                found.append(following)
        return tuple(found)

    def add_audit(self, act: Act) -> AuditRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        at = self.now()
        with self.writing(act.tenant) as connection:
            return note(connection, act, at)

    def list_audit(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(audit.c.tenant == tenant)
        if before is not None:
            query = query.where(audit.c.id < min(before, MAX_INTEGER))
        # On PostgreSQL rows come in small parts, as they do from SQLite: none is held beyond the page.
        with self.reading() as connection:
            rows = connection.execute(query, execution_options={"yield_per": 16})
            try:
                return within_page(map(audit_record, rows))
            finally:
                rows.close()

    def interrupted(self) -> list[str]:
        """Return the tenants with builds that are not over; at the start, those of a killed process."""
        with self.reading() as connection:
            of = sa.select(builds.c.tenant).where(builds.c.state.in_(_UNFINISHED)).distinct()
            return list(connection.scalars(of))

    def hashes(self, tenant: str) -> set[str]:
        """Return the SHA-256 of the bytes that a tenant's rows name."""
        with self.reading() as connection:
            query = sa.select(artifacts.c.content_sha256).where(
                artifacts.c.tenant == tenant, artifacts.c.content_sha256.is_not(None)
            )
            return set(connection.scalars(query))

    def sweep_interrupted(self) -> int:
        """See :class:`~strata.artifacts.MetadataStore`; one transaction for each tenant."""
        code, message = INTERRUPTED
        ended = {"completed_at": self.now(), "error_code": code, "error_message": message}
        swept = 0
        for tenant in self.interrupted():
            with self.writing(tenant) as connection:
                for table, changes in ((artifacts, {}), (builds, ended)):
                    left = sa.and_(table.c.tenant == tenant, table.c.state.in_(_UNFINISHED))
                    done = connection.execute(table.update().where(left).values(state=_FAILED, **changes))
                swept += done.rowcount
        return swept

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    def _is_dead(self, connection: sa.Connection, build: sa.Row[Any]) -> bool:
        """Whether a build runs no more because its server is gone; another one of its artifact may begin."""
        if self.server_id in (None, build.server_id) or build.state not in _UNFINISHED:
            return False
        return not lives(connection, build.server_id, self.dead_servers())

    def _end(
        self, connection: sa.Connection, tenant: str, build_id: str, **changes: object
    ) -> sa.Row[Any] | None:
        """End a running build and return its row; ``None`` if it is not running."""
        mine = sa.and_(_build(tenant, build_id), builds.c.state == _BUILDING)
        if self.server_id is not None:  # its id is a fencing token: the build of a dead server has ended
            mine = sa.and_(mine, builds.c.server_id == self.server_id)
        found = connection.execute(sa.select(builds).where(mine)).first()
        if found is not None:
            connection.execute(builds.update().where(mine).values(**changes))
        return found


def _existing_build(
    connection: sa.Connection, tenant: str, build_id: str, artifact_id: str | None
) -> sa.Row[Any] | None:
    """Return the existing build for a request: the one with ``build_id``, or the artifact's running one."""
    found = connection.execute(_GET_BUILD, {"tenant": tenant, "build_id": build_id}).first()
    if found is not None or artifact_id is None:
        return found
    return connection.execute(_FIND_RUNNING, {"tenant": tenant, "artifact_id": artifact_id}).first()


def _version(tenant: str, artifact_id: str, version: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        artifacts.c.tenant == tenant, artifacts.c.artifact_id == artifact_id, artifacts.c.version == version
    )


def _build(tenant: str, build_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(builds.c.tenant == tenant, builds.c.build_id == build_id)

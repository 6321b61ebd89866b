"""Metadata store on SQLite in WAL mode; commits are synced to disk, except those that begin a build."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import sqlalchemy as sa
import structlog
from sqlalchemy import event

from strata.artifacts.blobs.store import BlobFacts
from strata.artifacts.metadata.contract import (
    INTERRUPTED,
    LOST,
    MAX_INTEGER,
    NOT_RUNNING,
    STORE_DOWN,
    artifact_id_of,
    check_listing,
)
from strata.artifacts.metadata.migrate import opening, upgrade
from strata.artifacts.metadata.records import (
    Act,
    ArtifactRecord,
    ArtifactState,
    AuditRecord,
    BuildRecord,
    NameRecord,
    Page,
    Stats,
)
from strata.artifacts.metadata.schema import artifacts, audit, builds, names
from strata.outcomes import RefusalError, Refused

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
_LAST_VERSION = sa.select(sa.func.max(artifacts.c.version)).where(
    artifacts.c.tenant == sa.bindparam("tenant"), artifacts.c.artifact_id == sa.bindparam("artifact_id")
)
_ADD_ARTIFACT, _ADD_BUILD = artifacts.insert(), builds.insert()
_NO_BUILD = {column.name: None for column in builds.c}

BUSY_SECONDS = 30
"""Seconds a write waits for other writers, such as a backup; then the store counts as not answering."""

log = structlog.get_logger(__name__)


class SqlMetadataStore:
    """Artifacts, builds and names in a SQLite file; see :class:`~strata.artifacts.MetadataStore`.

    Args:
        path: The file; its directory must exist.
        now: Wall clock, in seconds since the epoch.

    Raises:
        NewerDatabaseError: If a newer Strata wrote the file.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._now = now
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            poolclass=sa.pool.QueuePool,
            pool_size=8,
            max_overflow=64,
        )
        self._writer = self._engine.execution_options(writes=True)
        self._unsynced_writer = self._engine.execution_options(writes=True, unsynced=True)
        self._write_lock = threading.Lock()
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        try:
            with opening(path):
                _use_wal(self._engine)
                upgrade(self._writer)
        except BaseException:
            self.close()
            raise

    def probe(self) -> bool:
        """Test whether the file can be read."""
        try:
            with self._reading() as connection:
                connection.execute(sa.text("SELECT 1 FROM alembic_version"))
        except (RefusalError, sa.exc.SQLAlchemyError):
            return False
        return True

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
        now = self._now()
        artifact_id = artifact_id_of(provenance_hash)
        # Unsynced: a power cut ends the build, too, and a sync would delay every first byte.
        with self._writing(unsynced=True) as connection:
            existing = _existing_build(connection, tenant, build_id, None if refresh else artifact_id)
            if existing is not None:
                return _build_record(existing._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
            mine = {"tenant": tenant, "artifact_id": artifact_id}
            last = connection.scalar(_LAST_VERSION, mine)
            both = {
                **mine,
                "version": (last or 0) + 1,
                "state": _BUILDING,
                "input_versions": json.dumps(dict(input_versions)),
                "created_at": now,
            }
            version = {
                "provenance_hash": provenance_hash,
                "query_hash": query_hash,
                "transform_spec": transform_spec,
            }
            build = {"build_id": build_id, "executor_ref": executor_ref, "name": name, "started_at": now}
            connection.execute(_ADD_ARTIFACT, both | version)
            connection.execute(_ADD_BUILD, both | build)
        return _build_record(_NO_BUILD | both | build)

    def finish_build(
        self, tenant: str, build_id: str, *, facts: BlobFacts, row_count: int, arrow_schema: str
    ) -> ArtifactRecord | Refused:
        """See :class:`~strata.artifacts.MetadataStore`."""
        now = self._now()
        with self._writing() as connection:
            build = self._end(connection, tenant, build_id, state=_READY, completed_at=now)
            if build is None:
                return NOT_RUNNING
            mine = _version(tenant, build.artifact_id, build.version)
            connection.execute(
                artifacts.update()
                .where(mine)
                .values(
                    state=_READY,
                    row_count=row_count,
                    byte_size=facts.size,
                    content_sha256=facts.sha256,
                    arrow_schema=arrow_schema,
                )
            )
            if build.name is not None:
                _set_name(connection, tenant, NameRecord(build.name, build.artifact_id, build.version, now))
            return _artifact(connection.execute(sa.select(artifacts).where(mine)).one())

    def fail_build(self, tenant: str, build_id: str, *, code: str, message: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._writing() as connection:
            changes = {"completed_at": self._now(), "error_code": code, "error_message": message}
            build = self._end(connection, tenant, build_id, state=_FAILED, **changes)
            if build is not None:
                mine = _version(tenant, build.artifact_id, build.version)
                connection.execute(artifacts.update().where(mine).values(state=_FAILED))

    def find_ready(self, tenant: str, provenance_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._reading() as connection:
            wanted = {"tenant": tenant, "provenance_hash": provenance_hash}
            found = connection.execute(_FIND_READY, wanted).first()
        return None if found is None else _artifact(found)

    def find_latest_by_query(self, tenant: str, query_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        latest = (artifacts.c.created_at.desc(), artifacts.c.version.desc(), artifacts.c.artifact_id.desc())
        wanted = (
            artifacts.c.tenant == tenant,
            artifacts.c.query_hash == query_hash,
            artifacts.c.state == _READY,
        )
        query = sa.select(artifacts).where(*wanted).order_by(*latest).limit(1)
        with self._reading() as connection:
            found = connection.execute(query).first()
        return None if found is None else _artifact(found)

    def get_artifact(self, tenant: str, artifact_id: str, version: int) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        if version > MAX_INTEGER:  # the driver would raise for a number no row can have
            return None
        with self._reading() as connection:
            wanted = {"tenant": tenant, "artifact_id": artifact_id, "version": version}
            found = connection.execute(_GET_ARTIFACT, wanted).first()
        return None if found is None else _artifact(found)

    def get_build(self, tenant: str, build_id: str) -> BuildRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._reading() as connection:
            found = connection.execute(_GET_BUILD, {"tenant": tenant, "build_id": build_id}).first()
        return None if found is None else _build_record(found._mapping)  # noqa: SLF001  # a public name

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
        wanted = [artifacts.c.tenant == tenant]
        if state is not None:
            wanted.append(artifacts.c.state == state)
        if since is not None:
            wanted.append(artifacts.c.created_at >= since)
        if name_prefix is not None:
            named = sa.select(names.c.artifact_id).where(
                names.c.tenant == tenant,
                # Not LIKE, which knows no case in SQLite.
                sa.func.substr(names.c.name, 1, len(name_prefix)) == name_prefix,
                names.c.artifact_id == artifacts.c.artifact_id,
                names.c.version == artifacts.c.version,
            )
            wanted.append(sa.exists(named))
        by = artifacts.c[sort]
        columns = (by, artifacts.c.artifact_id, artifacts.c.version)
        keys = [column.desc() if order == "desc" else column.asc() for column in columns]
        with self._reading() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(artifacts).where(*wanted))
            query = sa.select(artifacts).where(*wanted).order_by(*keys).limit(limit).offset(offset)
            found = connection.execute(query).all()
        return Page(tuple(_artifact(row) for row in found), total or 0)

    def stats(self, tenant: str) -> Stats:
        """See :class:`~strata.artifacts.MetadataStore`."""
        size = sa.func.coalesce(sa.func.sum(artifacts.c.byte_size), 0)
        query = sa.select(artifacts.c.state, sa.func.count(), size).where(artifacts.c.tenant == tenant)
        with self._reading() as connection:
            rows = connection.execute(query.group_by(artifacts.c.state)).all()
        counts = {state: count for state, count, _ in rows}
        ready = sum(total for state, _, total in rows if state == _READY)
        return Stats(sum(counts.values()), ready, counts)

    def set_name(self, tenant: str, name: str, artifact_id: str, version: int) -> NameRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        record = NameRecord(name, artifact_id, version, self._now())
        with self._writing() as connection:
            _set_name(connection, tenant, record)
        return record

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(names).where(names.c.tenant == tenant, names.c.name == name)
        with self._reading() as connection:
            found = connection.execute(query).first()
        return None if found is None else _name(found)

    def list_names(self, tenant: str) -> tuple[NameRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(names).where(names.c.tenant == tenant).order_by(names.c.name)
        with self._reading() as connection:
            return tuple(_name(row) for row in connection.execute(query))

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        mine = sa.and_(_version(tenant, artifact_id, version), artifacts.c.state == _READY)
        same = sa.and_(
            builds.c.tenant == tenant, builds.c.artifact_id == artifact_id, builds.c.version == version
        )
        with self._writing() as connection:
            if connection.execute(artifacts.update().where(mine).values(state=_FAILED)).rowcount:
                failed = {"state": _FAILED, "error_code": code, "error_message": LOST}
                connection.execute(builds.update().where(same).values(failed))

    def list_tenants(self, *, after: str, limit: int) -> tuple[str, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        found: list[str] = []
        with self._reading() as connection:
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
        at = self._now()
        with self._writing() as connection:
            added = connection.execute(audit.insert().values(at=at, **attrs.asdict(act)))
            assert added.inserted_primary_key is not None
            return AuditRecord(added.inserted_primary_key[0], at, act)

    def list_audit(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(audit.c.tenant == tenant)
        if before is not None:
            query = query.where(audit.c.id < min(before, MAX_INTEGER))
        with self._reading() as connection:
            return tuple(_audit_record(row) for row in connection.execute(query))

    def sweep_interrupted(self) -> int:
        """See :class:`~strata.artifacts.MetadataStore`."""
        code, message = INTERRUPTED
        ended = {"completed_at": self._now(), "error_code": code, "error_message": message}
        with self._writing() as connection:
            versions = artifacts.update().where(artifacts.c.state.in_(_UNFINISHED))
            connection.execute(versions.values(state=_FAILED))
            left = builds.update().where(builds.c.state.in_(_UNFINISHED))
            return connection.execute(left.values(state=_FAILED, **ended)).rowcount

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Read a snapshot of the database; waits for no writer."""
        with _failures_as_refusals(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self, *, unsynced: bool = False) -> Iterator[sa.Connection]:
        """Transaction that excludes other writers and is synced to disk when it ends.

        With ``unsynced``, it is synced with the next synced commit: a power cut may undo it, a crash of the
        process does not, and the database stays consistent.

        Writers of this process queue on a lock that wakes the next one at once. SQLite's own busy handler
        polls at intervals of up to a tenth of a second and may starve a writer.
        """
        if not self._write_lock.acquire(timeout=BUSY_SECONDS):
            raise RefusalError(STORE_DOWN)
        try:
            with (
                _failures_as_refusals(),
                (self._unsynced_writer if unsynced else self._writer).begin() as connection,
            ):
                yield connection
        finally:
            self._write_lock.release()

    def _end(
        self, connection: sa.Connection, tenant: str, build_id: str, **changes: object
    ) -> sa.Row[Any] | None:
        """End a running build and return its row; ``None`` if it is not running."""
        mine = sa.and_(_build(tenant, build_id), builds.c.state == _BUILDING)
        found = connection.execute(sa.select(builds).where(mine)).first()
        if found is not None:
            connection.execute(builds.update().where(mine).values(**changes))
        return found


@contextmanager
def _failures_as_refusals() -> Iterator[None]:
    """Turn a full disk, a lock held too long or a damaged file into a refusal; the cause is logged.

    Other database errors, such as a violated constraint, are bugs and pass.
    """
    try:
        yield
    except (sa.exc.DatabaseError, sa.exc.TimeoutError) as error:
        cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
        passing = isinstance(cause, (sqlite3.OperationalError, sa.exc.TimeoutError))
        if (
            not passing and type(cause) is not sqlite3.DatabaseError
        ):  # exactly this class: "malformed" and the like
            raise
        log.warning("metadata store does not answer", cause=str(cause))
        raise RefusalError(STORE_DOWN) from error


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event begins, not the driver
    connection.execute("PRAGMA synchronous=FULL")


def _use_wal(engine: sa.Engine) -> None:
    """Set the journal mode, which persists in the file; it can be set only outside a transaction."""
    pooled = engine.raw_connection()
    try:
        pooled.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        pooled.close()


def _begin(connection: sa.Connection) -> None:
    # Writers lock at their first statement, since upgrading a read lock could fail half-way.
    # Readers block no writer.
    options = connection.get_execution_options()
    if not options.get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if options.get('unsynced', False) else 'FULL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


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


def _set_name(connection: sa.Connection, tenant: str, record: NameRecord) -> None:
    mine = sa.and_(names.c.tenant == tenant, names.c.name == record.name)
    connection.execute(names.delete().where(mine))
    connection.execute(
        names.insert().values(
            tenant=tenant,
            name=record.name,
            artifact_id=record.artifact_id,
            version=record.version,
            updated_at=record.updated_at,
        )
    )


def _artifact(row: sa.Row[Any]) -> ArtifactRecord:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    del values["tenant"]
    return ArtifactRecord(**values | {"state": ArtifactState(values["state"])})


def _build_record(row: Mapping[Any, Any]) -> BuildRecord:
    values = dict(row)
    del values["tenant"], values["name"]
    return BuildRecord(**values | {"state": ArtifactState(values["state"])})


def _audit_record(row: sa.Row[Any]) -> AuditRecord:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's own way
    return AuditRecord(values.pop("id"), values.pop("at"), Act(**values))


def _name(row: sa.Row[Any]) -> NameRecord:
    return NameRecord(row.name, row.artifact_id, row.version, row.updated_at)

"""The metadata store on SQL: SQLite in WAL mode, every commit synced to disk."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from strata.artifacts.blobs import BlobFacts
from strata.artifacts.metadata import NOT_RUNNING, ORDERS, SORTS
from strata.artifacts.migrate import upgrade
from strata.artifacts.records import ArtifactRecord, ArtifactState, BuildRecord, NameRecord, Page, Stats
from strata.artifacts.tables import artifacts, builds, names
from strata.outcomes import Reason, Refused

_READY = ArtifactState.READY.value
_BUILDING = ArtifactState.BUILDING.value
_FAILED = ArtifactState.FAILED.value

BUSY_SECONDS = 30
"""How long a write waits for another process's, such as a backup's."""


class SqlMetadataStore:
    """Artifacts, builds and names in a SQLite file.

    Args:
        path: The file; its directory exists.
        now: Wall clock, in seconds since the epoch.
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
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin_immediate)
        upgrade(self._engine)

    def probe(self) -> bool:
        """Whether the file answers."""
        try:
            with self._read() as connection:
                connection.execute(sa.text("SELECT 1"))
        except sa.exc.SQLAlchemyError:
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
    ) -> BuildRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        now = self._now()
        artifact_id = provenance_hash[:32]
        versions = json.dumps(dict(input_versions))
        mine = sa.and_(artifacts.c.tenant == tenant, artifacts.c.artifact_id == artifact_id)
        with self._engine.begin() as connection:
            last = connection.scalar(sa.select(sa.func.max(artifacts.c.version)).where(mine))
            version = (last or 0) + 1
            connection.execute(
                artifacts.insert().values(
                    tenant=tenant,
                    artifact_id=artifact_id,
                    version=version,
                    state=_BUILDING,
                    provenance_hash=provenance_hash,
                    query_hash=query_hash,
                    transform_spec=transform_spec,
                    input_versions=versions,
                    created_at=now,
                )
            )
            connection.execute(
                builds.insert().values(
                    tenant=tenant,
                    build_id=build_id,
                    artifact_id=artifact_id,
                    version=version,
                    state=_BUILDING,
                    executor_ref=executor_ref,
                    input_versions=versions,
                    name=name,
                    created_at=now,
                    started_at=now,
                )
            )
        return BuildRecord(
            input_versions=versions,
            build_id=build_id,
            artifact_id=artifact_id,
            version=version,
            state=ArtifactState.BUILDING,
            executor_ref=executor_ref,
            created_at=now,
            started_at=now,
        )

    def finish_build(
        self, tenant: str, build_id: str, *, facts: BlobFacts, row_count: int, arrow_schema: str
    ) -> ArtifactRecord | Refused:
        """See :class:`~strata.artifacts.MetadataStore`."""
        now = self._now()
        with self._engine.begin() as connection:
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
                _point(connection, tenant, NameRecord(build.name, build.artifact_id, build.version, now))
            return _artifact(connection.execute(sa.select(artifacts).where(mine)).one())

    def fail_build(self, tenant: str, build_id: str, *, code: str, message: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._engine.begin() as connection:
            changes = {"completed_at": self._now(), "error_code": code, "error_message": message}
            build = self._end(connection, tenant, build_id, state=_FAILED, **changes)
            if build is not None:
                mine = _version(tenant, build.artifact_id, build.version)
                connection.execute(artifacts.update().where(mine).values(state=_FAILED))

    def find_ready(self, tenant: str, provenance_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        return self._newest(tenant, artifacts.c.provenance_hash == provenance_hash, artifacts.c.version)

    def find_latest_by_query(self, tenant: str, query_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        return self._newest(tenant, artifacts.c.query_hash == query_hash, artifacts.c.created_at)

    def get_artifact(self, tenant: str, artifact_id: str, version: int) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(artifacts).where(_version(tenant, artifact_id, version))
            ).first()
        return None if found is None else _artifact(found)

    def get_build(self, tenant: str, build_id: str) -> BuildRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._read() as connection:
            found = connection.execute(sa.select(builds).where(_build(tenant, build_id))).first()
        return None if found is None else _build_record(found)

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
        refused = _check("state", state, [s.value for s in ArtifactState]) if state is not None else None
        refused = refused or _check("sort", sort, SORTS) or _check("order", order, ORDERS)
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
                names.c.name.startswith(name_prefix, autoescape=True),
                names.c.artifact_id == artifacts.c.artifact_id,
                names.c.version == artifacts.c.version,
            )
            wanted.append(sa.exists(named))
        by = artifacts.c[sort]
        columns = (by, artifacts.c.artifact_id, artifacts.c.version)
        keys = [column.desc() if order == "desc" else column.asc() for column in columns]
        with self._read() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(artifacts).where(*wanted))
            query = sa.select(artifacts).where(*wanted).order_by(*keys).limit(limit).offset(offset)
            found = connection.execute(query).all()
        return Page(tuple(_artifact(row) for row in found), total or 0)

    def stats(self, tenant: str) -> Stats:
        """See :class:`~strata.artifacts.MetadataStore`."""
        size = sa.func.coalesce(sa.func.sum(artifacts.c.byte_size), 0)
        query = sa.select(artifacts.c.state, sa.func.count(), size).where(artifacts.c.tenant == tenant)
        with self._read() as connection:
            rows = connection.execute(query.group_by(artifacts.c.state)).all()
        counts = {state: count for state, count, _ in rows}
        ready = sum(total for state, _, total in rows if state == _READY)
        return Stats(sum(counts.values()), ready, counts)

    def set_name(self, tenant: str, name: str, artifact_id: str, version: int) -> NameRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        record = NameRecord(name, artifact_id, version, self._now())
        with self._engine.begin() as connection:
            _point(connection, tenant, record)
        return record

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(names).where(names.c.tenant == tenant, names.c.name == name)
        with self._read() as connection:
            found = connection.execute(query).first()
        return None if found is None else _name(found)

    def list_names(self, tenant: str) -> tuple[NameRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        query = sa.select(names).where(names.c.tenant == tenant).order_by(names.c.name)
        with self._read() as connection:
            return tuple(_name(row) for row in connection.execute(query))

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        mine = _version(tenant, artifact_id, version)
        same = [builds.c.tenant == tenant, builds.c.artifact_id == artifact_id, builds.c.version == version]
        with self._engine.begin() as connection:
            connection.execute(
                artifacts.update().where(mine, artifacts.c.state == _READY).values(state=_FAILED)
            )
            connection.execute(builds.update().where(*same).values(state=_FAILED, error_code=code))

    def sweep_interrupted(self) -> int:
        """See :class:`~strata.artifacts.MetadataStore`."""
        unfinished = ("pending", _BUILDING)
        with self._engine.begin() as connection:
            connection.execute(
                artifacts.update().where(artifacts.c.state.in_(unfinished)).values(state=_FAILED)
            )
            swept = connection.execute(
                builds.update()
                .where(builds.c.state.in_(unfinished))
                .values(
                    state=_FAILED,
                    completed_at=self._now(),
                    error_code="interrupted",
                    error_message="The server stopped before the build ended.",
                )
            )
        return swept.rowcount

    def close(self) -> None:
        """Let go of connections."""
        self._engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def _newest(self, tenant: str, what: sa.ColumnElement[bool], by: sa.Column[Any]) -> ArtifactRecord | None:
        query = sa.select(artifacts).where(artifacts.c.tenant == tenant, what, artifacts.c.state == _READY)
        with self._read() as connection:
            found = connection.execute(query.order_by(by.desc()).limit(1)).first()
        return None if found is None else _artifact(found)

    def _end(
        self, connection: sa.Connection, tenant: str, build_id: str, **changes: object
    ) -> sa.Row[Any] | None:
        """End a running build and return its row; None if it is not running."""
        mine = sa.and_(_build(tenant, build_id), builds.c.state == _BUILDING)
        found = connection.execute(sa.select(builds).where(mine)).first()
        if found is not None:
            connection.execute(builds.update().where(mine).values(**changes))
        return found


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's "begin" event begins, not the driver
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_immediate(connection: sa.Connection) -> None:
    # Writers take turns from their first statement on: an upgrade from a read lock could fail half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _version(tenant: str, artifact_id: str, version: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        artifacts.c.tenant == tenant, artifacts.c.artifact_id == artifact_id, artifacts.c.version == version
    )


def _build(tenant: str, build_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(builds.c.tenant == tenant, builds.c.build_id == build_id)


def _point(connection: sa.Connection, tenant: str, record: NameRecord) -> None:
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


def _build_record(row: sa.Row[Any]) -> BuildRecord:
    values = dict(row._mapping)  # noqa: SLF001
    del values["tenant"], values["name"]
    return BuildRecord(**values | {"state": ArtifactState(values["state"])})


def _name(row: sa.Row[Any]) -> NameRecord:
    return NameRecord(row.name, row.artifact_id, row.version, row.updated_at)


def _check(key: str, value: str, known: Sequence[str]) -> Refused | None:
    if value in known:
        return None
    detail = f"{key} must be one of {', '.join(known)}."
    return Refused(Reason.BAD_REQUEST, detail, code="bad_parameter", loc=("query", key))

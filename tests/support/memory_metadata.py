"""An in-memory metadata store that keeps the contract but for durability, and can be made to fail."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from strata.artifacts.blobs.store import BlobFacts
from strata.artifacts.metadata.contract import INTERRUPTED, LOST, NOT_RUNNING, artifact_id_of, check_listing
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
from strata.outcomes import RefusalError, Refused

_UNFINISHED = (ArtifactState.PENDING, ArtifactState.BUILDING)


@attrs.frozen
class _Noted:
    record: BuildRecord
    name: str | None


class MemoryMetadataStore:
    """Artifacts, builds and names in dictionaries, keyed by tenant first.

    Args:
        now: Wall clock, in seconds since the epoch.
        before: Called with the name of each call before it; its exceptions are raised to the caller, such as
            ``RefusalError(STORE_DOWN)`` for a store that does not answer.
    """

    def __init__(self, now: Callable[[], float], before: Callable[[str], None] = lambda _call: None) -> None:
        self._now = now
        self._before = before
        self._lock = threading.Lock()
        self._artifacts: dict[tuple[str, str, int], ArtifactRecord] = {}
        self._builds: dict[tuple[str, str], _Noted] = {}
        self._names: dict[tuple[str, str], NameRecord] = {}
        self._audit: list[AuditRecord] = []

    def probe(self) -> bool:
        """See :class:`~strata.artifacts.MetadataStore`."""
        try:
            with self._call("probe"):
                return True
        except RefusalError:
            return False

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
        versions = json.dumps(dict(input_versions))
        with self._call("begin_build"):
            same = self._builds.get((tenant, build_id))
            if same is not None:
                return same.record
            mine = [record for record in self._of(tenant) if record.artifact_id == artifact_id]
            running = [record.version for record in mine if record.state in _UNFINISHED]
            if running and not refresh:
                return self._build_of(tenant, artifact_id, max(running)).record
            version = max((record.version for record in mine), default=0) + 1
            self._artifacts[tenant, artifact_id, version] = ArtifactRecord(
                artifact_id=artifact_id,
                version=version,
                state=ArtifactState.BUILDING,
                provenance_hash=provenance_hash,
                query_hash=query_hash,
                transform_spec=transform_spec,
                input_versions=versions,
                created_at=now,
            )
            record = BuildRecord(
                build_id=build_id,
                artifact_id=artifact_id,
                version=version,
                state=ArtifactState.BUILDING,
                executor_ref=executor_ref,
                input_versions=versions,
                created_at=now,
                started_at=now,
            )
            self._builds[tenant, build_id] = _Noted(record, name)
            return record

    def finish_build(
        self, tenant: str, build_id: str, *, facts: BlobFacts, row_count: int, arrow_schema: str
    ) -> ArtifactRecord | Refused:
        """See :class:`~strata.artifacts.MetadataStore`."""
        now = self._now()
        with self._call("finish_build"):
            noted = self._end(tenant, build_id, state=ArtifactState.READY, completed_at=now)
            if noted is None:
                return NOT_RUNNING
            artifact_id, version = noted.record.artifact_id, noted.record.version
            if noted.name is not None:
                self._names[tenant, noted.name] = NameRecord(noted.name, artifact_id, version, now)
            ready = attrs.evolve(
                self._artifacts[tenant, artifact_id, version],
                state=ArtifactState.READY,
                row_count=row_count,
                byte_size=facts.size,
                content_sha256=facts.sha256,
                arrow_schema=arrow_schema,
            )
            self._artifacts[tenant, artifact_id, version] = ready
            return ready

    def fail_build(self, tenant: str, build_id: str, *, code: str, message: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        ended: dict[str, Any] = {"completed_at": self._now(), "error_code": code, "error_message": message}
        with self._call("fail_build"):
            noted = self._end(tenant, build_id, state=ArtifactState.FAILED, **ended)
            if noted is not None:
                self._fail(tenant, noted.record.artifact_id, noted.record.version)

    def find_ready(self, tenant: str, provenance_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("find_ready"):
            found = [record for record in self._ready(tenant) if record.provenance_hash == provenance_hash]
            return max(found, key=lambda record: record.version, default=None)

    def find_latest_by_query(self, tenant: str, query_hash: str) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("find_latest_by_query"):
            found = [record for record in self._ready(tenant) if record.query_hash == query_hash]
            return max(found, key=lambda r: (r.created_at, r.version, r.artifact_id), default=None)

    def get_artifact(self, tenant: str, artifact_id: str, version: int) -> ArtifactRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("get_artifact"):
            return self._artifacts.get((tenant, artifact_id, version))

    def get_build(self, tenant: str, build_id: str) -> BuildRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("get_build"):
            noted = self._builds.get((tenant, build_id))
            return None if noted is None else noted.record

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

        def rank(record: ArtifactRecord) -> tuple[object, ...]:
            value = getattr(record, sort)
            known = (False, 0) if value is None else (True, value)
            return (*known, record.artifact_id, record.version)

        with self._call("list_artifacts"):
            found = self._of(tenant)
            if state is not None:
                found = [record for record in found if record.state.value == state]
            if since is not None:
                found = [record for record in found if record.created_at >= since]
            if name_prefix is not None:
                names = [name for (owner, _), name in self._names.items() if owner == tenant]
                named = {(n.artifact_id, n.version) for n in names if n.name.startswith(name_prefix)}
                found = [record for record in found if (record.artifact_id, record.version) in named]
        found.sort(key=rank, reverse=order == "desc")
        return Page(tuple(found[offset : offset + limit]), len(found))

    def stats(self, tenant: str) -> Stats:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("stats"):
            counts = Counter(record.state.value for record in self._of(tenant))
            total = sum(record.byte_size or 0 for record in self._ready(tenant))
            return Stats(counts.total(), total, dict(counts))

    def set_name(self, tenant: str, name: str, artifact_id: str, version: int) -> NameRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        record = NameRecord(name, artifact_id, version, self._now())
        with self._call("set_name"):
            self._names[tenant, name] = record
        return record

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("get_name"):
            return self._names.get((tenant, name))

    def list_names(self, tenant: str) -> tuple[NameRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("list_names"):
            names = [name for (owner, _), name in self._names.items() if owner == tenant]
            return tuple(sorted(names, key=lambda record: record.name))

    def fail_version(self, tenant: str, artifact_id: str, version: int, *, code: str) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("fail_version"):
            found = self._artifacts.get((tenant, artifact_id, version))
            if found is None or found.state is not ArtifactState.READY:
                return
            self._fail(tenant, artifact_id, version)
            noted = self._build_of(tenant, artifact_id, version)
            failed: dict[str, Any] = {
                "state": ArtifactState.FAILED,
                "error_code": code,
                "error_message": LOST,
            }
            self._change(tenant, noted, **failed)

    def list_tenants(self, *, after: str, limit: int) -> tuple[str, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("list_tenants"):
            return tuple(sorted({owner for owner, _, _ in self._artifacts if owner > after})[:limit])

    def add_audit(self, act: Act) -> AuditRecord:
        """See :class:`~strata.artifacts.MetadataStore`."""
        at = self._now()
        with self._call("add_audit"):
            self._audit.append(AuditRecord(len(self._audit) + 1, at, act))
            return self._audit[-1]

    def list_audit(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("list_audit"):
            found = [
                record
                for record in reversed(self._audit)
                if (tenant is None or record.act.tenant == tenant) and (before is None or record.id < before)
            ]
            return tuple(found[:limit])

    def sweep_interrupted(self) -> int:
        """See :class:`~strata.artifacts.MetadataStore`."""
        code, message = INTERRUPTED
        ended: dict[str, Any] = {"completed_at": self._now(), "error_code": code, "error_message": message}
        with self._call("sweep_interrupted"):
            left = [(who, noted) for (who, _), noted in self._builds.items() if _runs(noted.record)]
            for tenant, noted in left:
                self._change(tenant, noted, state=ArtifactState.FAILED, **ended)
                self._fail(tenant, noted.record.artifact_id, noted.record.version)
            return len(left)

    def close(self) -> None:
        """See :class:`~strata.artifacts.MetadataStore`."""

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        self._before(name)
        with self._lock:
            yield

    def _of(self, tenant: str) -> list[ArtifactRecord]:
        return [record for (owner, _, _), record in self._artifacts.items() if owner == tenant]

    def _ready(self, tenant: str) -> list[ArtifactRecord]:
        return [record for record in self._of(tenant) if record.state is ArtifactState.READY]

    def _build_of(self, tenant: str, artifact_id: str, version: int) -> _Noted:
        [found] = [
            noted
            for (owner, _), noted in self._builds.items()
            if (owner, noted.record.artifact_id, noted.record.version) == (tenant, artifact_id, version)
        ]
        return found

    def _end(self, tenant: str, build_id: str, **changes: Any) -> _Noted | None:
        """End a running build; return None if it is not running."""
        noted = self._builds.get((tenant, build_id))
        if noted is None or not _runs(noted.record):
            return None
        self._change(tenant, noted, **changes)
        return noted

    def _change(self, tenant: str, noted: _Noted, **changes: Any) -> None:
        changed = attrs.evolve(noted, record=attrs.evolve(noted.record, **changes))
        self._builds[tenant, noted.record.build_id] = changed

    def _fail(self, tenant: str, artifact_id: str, version: int) -> None:
        key = (tenant, artifact_id, version)
        self._artifacts[key] = attrs.evolve(self._artifacts[key], state=ArtifactState.FAILED)


def _runs(record: BuildRecord) -> bool:
    return record.state in _UNFINISHED

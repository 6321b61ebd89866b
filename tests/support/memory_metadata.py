"""An in-memory metadata store that keeps the contract but for durability, and can be made to fail."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from strata.artifacts.blobs.store import BlobFacts
from strata.artifacts.metadata.contract import INTERRUPTED, LOST, NOT_RUNNING, artifact_id_of, check_listing
from strata.artifacts.metadata.listings import is_artifact
from strata.artifacts.metadata.naming import (
    NAME_IS_ALIAS,
    NAME_OWNED,
    may_move,
    state,
    state_of,
    with_subject,
)
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
from strata.artifacts.registry.contract import AliasRecord, PendingChange, PinRecord
from strata.outcomes import RefusalError, Refused

_UNFINISHED = (ArtifactState.PENDING, ArtifactState.BUILDING)


@attrs.frozen
class Gone:
    """A removed version: when, and its hash as long as its bytes may exist."""

    at: float
    byte_size: int
    sha256: str | None


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
        self.secret = bytes(range(32))  # known, so that a seed gives the same ids in every run
        self._now = now
        self._before = before
        self._lock = threading.Lock()
        self._artifacts: dict[tuple[str, str, int], ArtifactRecord] = {}
        self._builds: dict[tuple[str, str], _Noted] = {}
        self._names: dict[tuple[str, str], NameRecord] = {}
        self._audit: list[AuditRecord] = []
        self._aliases: dict[tuple[str, str, str], AliasRecord] = {}
        self._pending: dict[tuple[str, str, str], PendingChange] = {}
        self._tags: dict[tuple[str, str, int], dict[str, str]] = {}
        self._pins: dict[tuple[str, str, int], dict[str, PinRecord]] = {}
        self._used: dict[tuple[str, str, int], float] = {}
        self._removed: dict[tuple[str, str, int], Gone] = {}

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
            gone = [number for owner, one, number in self._removed if (owner, one) == (tenant, artifact_id)]
            version = max([0, *gone, *(record.version for record in mine)]) + 1
            self._used[tenant, artifact_id, version] = now
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
        now = self._now()
        with self._call("finish_build"):
            noted = self._end(tenant, build_id, state=ArtifactState.READY, completed_at=now)
            if noted is None:
                return NOT_RUNNING
            artifact_id, version = noted.record.artifact_id, noted.record.version
            if act is not None:
                self._note(attrs.evolve(act, new=state(artifact_id=artifact_id, version=version)), now)
            for order in names:
                self._put_name(tenant, order, (artifact_id, version), now)
            ready = attrs.evolve(
                self._artifacts[tenant, artifact_id, version],
                state=ArtifactState.READY,
                row_count=row_count,
                byte_size=facts.size,
                content_sha256=facts.sha256,
                arrow_schema=arrow_schema,
            )
            self._artifacts[tenant, artifact_id, version] = ready
            self._used[tenant, artifact_id, version] = now
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

        found = self._listed(
            "list_artifacts", tenant, sort, order, state=state, name_prefix=name_prefix, since=since
        )
        return Page(within_page(found[offset : offset + limit]), len(found))

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
        found = self._listed(
            "list_summaries", tenant, sort, order, state=state, name_prefix=name_prefix, since=since
        )
        if after is not None:
            place = _rank(after.value, after.artifact_id, after.version)
            ranks = [_rank(getattr(record, sort), record.artifact_id, record.version) for record in found]
            behind = [rank < place if order == "desc" else rank > place for rank in ranks]
            found = [record for record, further in zip(found, behind, strict=True) if further]
        return tuple(summary_of(record) for record in found[:limit])

    def get_artifacts(self, tenant: str, versions: Sequence[tuple[str, int]]) -> tuple[ArtifactRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("get_artifacts"):
            found = [self._artifacts.get((tenant, *version)) for version in versions]
            return tuple(record for record in found if record is not None)

    def list_dependents(
        self, tenant: str, uri: str, *, after: Cursor | None, limit: int
    ) -> tuple[VersionSummary, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        found = self._listed("list_dependents", tenant, "created_at", "asc")
        found = [record for record in found if is_artifact(uri) and uri in record.inputs]
        if after is not None:
            place = (after.value, after.artifact_id, after.version)
            found = [r for r in found if (r.created_at, r.artifact_id, r.version) > place]
        return tuple(summary_of(record) for record in found[:limit])

    def _listed(
        self,
        call: str,
        tenant: str,
        sort: str,
        order: str,
        *,
        state: str | None = None,
        name_prefix: str | None = None,
        since: float | None = None,
    ) -> list[ArtifactRecord]:
        with self._call(call):
            found = self._of(tenant)
            if state is not None:
                found = [record for record in found if record.state.value == state]
            if since is not None:
                found = [record for record in found if record.created_at >= since]
            if name_prefix is not None:
                names = [name for (owner, _), name in self._names.items() if owner == tenant]
                named = {(n.artifact_id, n.version) for n in names if n.name.startswith(name_prefix)}
                found = [record for record in found if (record.artifact_id, record.version) in named]
        found.sort(
            key=lambda record: _rank(getattr(record, sort), record.artifact_id, record.version),
            reverse=order == "desc",
        )
        return found

    def stats(self, tenant: str) -> Stats:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("stats"):
            counts = Counter(record.state.value for record in self._of(tenant))
            total = sum(record.byte_size or 0 for record in self._ready(tenant))
            return Stats(counts.total(), total, dict(counts))

    def get_name(self, tenant: str, name: str) -> NameRecord | None:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("get_name"):
            return self._names.get((tenant, name))

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
        with self._call("list_names"):
            names = [name for (owner, _), name in self._names.items() if owner == tenant]
            found = sorted(
                (one for one in names if one.name.startswith(prefix) and one.name > after),
                key=lambda record: record.name,
            )
            if not targets:
                kept = [one for one in found if (tenant, one.artifact_id, one.version) in self._artifacts]
                return tuple(
                    NamedVersion(one.name, one.artifact_id, one.version, one.updated_at, owner=one.owner)
                    for one in kept[:limit]
                )
            return tuple(
                NamedVersion(
                    one.name,
                    one.artifact_id,
                    one.version,
                    one.updated_at,
                    None
                    if (target := self._artifacts.get((tenant, one.artifact_id, one.version))) is None
                    else summary_of(target),
                    owner=one.owner,
                )
                for one in found[:limit]
            )

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
            return self._note(act, at)

    def list_audit(self, *, tenant: str | None, before: int | None, limit: int) -> tuple[AuditRecord, ...]:
        """See :class:`~strata.artifacts.MetadataStore`."""
        with self._call("list_audit"):
            found = [
                record
                for record in reversed(self._audit)
                if (tenant is None or record.act.tenant == tenant) and (before is None or record.id < before)
            ]
            return within_page(found[:limit])

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

    def _note(self, act: Act, at: float) -> AuditRecord:
        self._audit.append(AuditRecord(len(self._audit) + 1, at, with_subject(act)))
        return self._audit[-1]

    def _put_name(
        self, tenant: str, order: NameOrder, target: tuple[str, int], at: float
    ) -> NameRecord | Refused:
        old = self._names.get((tenant, order.name))
        if old is not None and not may_move(old.owner, order):
            return NAME_OWNED
        base, sign, alias = order.name.rpartition("@")
        if old is None and sign and (tenant, base, alias) in self._aliases:
            return NAME_IS_ALIAS
        owner = order.act.principal if old is None or old.owner is None else old.owner
        record = self._names[tenant, order.name] = NameRecord(order.name, *target, at, owner=owner)
        before = None if old is None else state_of(old)
        self._note(attrs.evolve(order.act, old=before, new=state_of(record)), at)
        return record

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


def _rank(value: object, artifact_id: str, version: int) -> tuple[object, ...]:
    known = (False, 0) if value is None else (True, value)
    return (*known, artifact_id, version)


def summary_of(record: ArtifactRecord) -> VersionSummary:
    """Return the summary of a record."""
    return VersionSummary(
        artifact_id=record.artifact_id,
        version=record.version,
        state=record.state,
        created_at=record.created_at,
        row_count=record.row_count,
        byte_size=record.byte_size,
        input_versions=record.input_versions,
    )

"""Materialize and explain: find a result, join its build, or begin one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial

import attrs
import structlog
import trio
from cachetools import LRUCache

from strata import acl
from strata.artifacts import BLOB_GONE, ArtifactRecord, ArtifactState, BlobReader
from strata.auth import Principal
from strata.outcomes import Limit, Reason, Refused
from strata.tables import (
    CellGrants,
    LoadedTable,
    ResolvedScan,
    ScanSpec,
    TableRef,
    parse_scan_params,
    resolve_scan,
)
from strata.tenants import messages as m
from strata.tenants.builds.provenance import Provenance, scan_provenance
from strata.tenants.builds.runner import Builder, BuildRequest
from strata.tenants.builds.state import Build
from strata.tenants.limits.retry_after import RetryAfterEstimator
from strata.tenants.shared.authorizer import TABLE_NOT_FOUND, Access, artifact_resource, table_resource
from strata.tenants.shared.resources import Resources

SCAN = "scan@v1"

TRANSFORM_NOT_FOUND = Refused(
    Reason.FORBIDDEN,
    "This transform is not registered.",
    "transform_not_allowed",
    loc=("body", "transform", "executor"),
)

log = structlog.get_logger(__name__)

READY_REMEMBERED = 4096
"""Finished artifacts an actor remembers, so that a hit asks no database."""

PLACES_LEFT = 4
"""A principal may have so many times as many builds as it leaves places for others: four fifths, if alone.
The same of streams."""

STREAMS_REMEMBERED = 10_000
"""Streams an actor keeps, each until ``stream_state_ttl_seconds`` are over."""


@attrs.define(eq=False)
class Stream:
    """A stream's name: for whom, of what, until when (Trio's clock)."""

    owner: str
    build: Build
    expires: float


@attrs.define(eq=False)
class Materializer:
    """Answers :class:`~strata.tenants.messages.Materialize` and ``Explain`` for one tenant.

    Attributes:
        running: Builds by provenance key: what makes equal requests share one.
        by_id: The same builds by build id, once admitted.
        streams: Streams by id, in the order they expire.
        records: Finished artifacts by id and version.
        ready: Finished artifacts by provenance key.
        losses: How many finished artifacts turned out to be lost. What the database answered is not
            remembered if there was a loss meanwhile: it may be what was lost.
        estimator: Computes the Retry-After of refused builds from how fast builds end.
    """

    tenant: str
    resources: Resources
    builder: Builder
    nursery: trio.Nursery
    running: dict[str, Build] = attrs.field(factory=dict)
    by_id: dict[str, Build] = attrs.field(factory=dict)
    streams: dict[str, Stream] = attrs.field(factory=dict)
    records: LRUCache[tuple[str, int], ArtifactRecord] = attrs.field(
        factory=partial(LRUCache, READY_REMEMBERED), repr=False
    )
    ready: LRUCache[str, ArtifactRecord] = attrs.field(
        factory=partial(LRUCache, READY_REMEMBERED), repr=False
    )
    losses: int = 0
    estimator: RetryAfterEstimator = attrs.field(factory=RetryAfterEstimator)

    @property
    def idle(self) -> bool:
        """Nothing is built, and no stream waits for its reader."""
        self._expire()
        return not self.running and not self.streams

    async def materialize(self, question: m.Materialize) -> m.Materialized | Refused:
        """Find the result, or see to it that it is built."""
        authorizer = self.resources.authorizer
        if question.name is not None and authorizer.denies(
            question.principal, artifact_resource(question.name), "write"
        ):
            return authorizer.forbidden("write")  # of a name that exists and of one that does not
        found = await self.resolve(question.principal, question.what)
        if isinstance(found, Refused):
            return found
        scan, provenance = found
        await self._settled(provenance)
        build = await self.under_way(provenance.key)
        if build is None and not question.refresh:
            hit = await self.find_ready(provenance)
            if hit is not None:
                return await self._hit(hit, question.name)
            build = await self.under_way(provenance.key)  # somebody may have begun it while we asked
        if build is None:
            principal = question.principal.id
            order = BuildRequest(scan, provenance, question.what.executor, question.name, principal)
            started = self.start(order)
            if isinstance(started, Refused):
                return started
            build = started
        build.ask(question.principal.id)
        self.builder.metrics.misses += 1
        return await self._join(build, question)

    def hit_at_once(self, question: m.Materialize) -> m.Materialized | None:
        """Do as :meth:`materialize` where that waits for nothing and finds the result; else None."""
        if question.refresh or question.name is not None:
            return None
        asked = self._asked(question.principal, question.what)
        if isinstance(asked, Refused):
            return None
        spec, uri, ref, access = asked
        if not access.allowed:  # the work for a missing table, as in resolve
            ref = attrs.evolve(ref, table=self.resources.new_id())
        table = self.resources.catalogs.peek(ref)
        if table is None or not access.allowed:
            return None
        scan = resolve_scan(table, spec, access.visible)
        if isinstance(scan, Refused):
            return None
        provenance = scan_provenance(self.tenant, uri, question.what.executor, spec, scan)
        hit = None if provenance.key in self.running else self.ready.get(provenance.key)
        if hit is None:
            return None
        self.builder.metrics.hits += 1
        return m.Materialized(hit.artifact_id, hit.version, hit=True)

    async def under_way(self, key: str) -> Build | None:
        """Return the build of a key, if one runs that is not being given up with its last asker."""
        while (build := self.running.get(key)) is not None and build.scope.cancel_called:
            await build.done.wait()
        return build

    async def explain(self, question: m.Explain) -> m.Explanation | Refused:
        """Say what :meth:`materialize` would do."""
        found = await self.resolve(question.principal, question.what)
        if isinstance(found, Refused):
            return found
        _, provenance = found
        await self._settled(provenance)
        ready = await self.find_ready(provenance)
        older = ready
        ask, metadata = self.resources.ask, self.resources.metadata
        if question.name is not None:
            older = await self._named(question.principal, question.name)
        elif ready is None:
            older = await ask(metadata.find_latest_by_query, self.tenant, provenance.query)
        changed = _changes(older, provenance) if older is not None else ()
        return m.Explanation(
            older if older is not None else ready, ready is not None, dict(provenance.inputs), changed
        )

    async def _named(self, principal: Principal, name: str) -> ArtifactRecord | None:
        """Return what a name points at; None, after the same work, where there is nothing for the caller."""
        resources, metadata = self.resources, self.resources.metadata
        named = await resources.ask(metadata.get_name, self.tenant, name)
        hidden = resources.authorizer.denies(principal, artifact_resource(name), "read")
        target = (resources.new_id(), 1) if named is None else (named.artifact_id, named.version)
        older = await resources.ask(metadata.get_artifact, self.tenant, *target)
        if older is None:
            await resources.miss_artifact(principal, target[0])
            return None
        may_read = await resources.may_read_artifact(principal, older.artifact_id, older.inputs)
        return older if may_read and not hidden else None

    async def _settled(self, provenance: Provenance) -> None:
        """Wait for a build whose bytes are all there: its commit is a matter of milliseconds."""
        build = self.running.get(provenance.key)
        if build is not None and build.tail is not None and build.tail.ended:
            await build.done.wait()

    async def find_ready(self, provenance: Provenance) -> ArtifactRecord | None:
        """Return the newest finished artifact of this provenance whose bytes are there."""
        known = self.ready.get(provenance.key)
        if known is not None:
            return known
        losses = self.losses
        found, lost = await self.resources.ask(self._find_readable, provenance.key)
        for record in lost:
            self._forget(record)
        if found is not None and losses + len(lost) == self.losses:
            self.ready[provenance.key] = found
        return found

    def _find_readable(self, key: str) -> tuple[ArtifactRecord | None, list[ArtifactRecord]]:
        """Return the newest finished artifact that can be read, and those given up on the way. Blocking.

        A blob that is gone is seen here before anything is promised, so that a result lost while the server
        was down is built anew by the first request for it. A remote store is not asked: that takes its time,
        and whoever reads the result asks it anyway.
        """
        metadata, lost = self.resources.metadata, []
        while (record := metadata.find_ready(self.tenant, key)) is not None:
            if self.resources.transfers is not None:
                break
            assert record.content_sha256 is not None
            assert record.byte_size is not None
            blobs, prefix = self.resources.blobs, self.builder.prefix
            reader = blobs.open_reader(prefix, record.content_sha256, record.byte_size)
            if isinstance(reader, BlobReader):
                os.close(reader.fd)
            if isinstance(reader, BlobReader) or reader.code != BLOB_GONE.code:
                break
            self._give_up(record)
            lost.append(record)
        return record, lost

    def remembered(self, artifact_id: str, version: int) -> ArtifactRecord | None:
        """Return an artifact's record if it needs no call of the store."""
        return self.records.get((artifact_id, version))

    async def record(self, artifact_id: str, version: int) -> ArtifactRecord | None:
        """Return an artifact's record; finished ones are remembered, for they never change."""
        known = self.records.get((artifact_id, version))
        if known is None:
            losses = self.losses
            get = self.resources.metadata.get_artifact
            known = await self.resources.ask(get, self.tenant, artifact_id, version)
            if known is not None and known.state is ArtifactState.READY and losses == self.losses:
                self.records[artifact_id, version] = known
        return known

    async def lose(self, record: ArtifactRecord) -> None:
        """Note that a finished artifact's bytes are gone: it is never served again, but built anew."""
        await self.resources.ask(self._give_up, record)
        self._forget(record)

    def _give_up(self, record: ArtifactRecord) -> None:
        log.error("blob lost", tenant=self.tenant, artifact_id=record.artifact_id, version=record.version)
        self.resources.metadata.fail_version(
            self.tenant, record.artifact_id, record.version, code=BLOB_GONE.code or ""
        )

    def _forget(self, record: ArtifactRecord) -> None:
        self.losses += 1
        self.records.pop((record.artifact_id, record.version), None)
        self.ready.pop(record.provenance_hash, None)

    def stream_for(self, stream_id: str, principal: Principal) -> Stream | None:
        """Return the stream, if it is this principal's (or the principal is an administrator)."""
        self._expire()
        stream = self.streams.get(stream_id)
        if stream is None or stream.expires <= trio.current_time():
            return None  # one whose time was made shorter may stand behind others
        if stream.owner != principal.id and not principal.has_scope("admin:*"):
            return None
        return stream

    async def resolve(
        self, principal: Principal, what: m.Transformation
    ) -> tuple[ResolvedScan, Provenance] | Refused:
        """Return the scan that is asked for, within the caller's rights, and its identity."""
        asked = self._asked(principal, what)
        if isinstance(asked, Refused):
            return asked
        spec, uri, ref, access = asked
        authorizer, catalogs = self.resources.authorizer, self.resources.catalogs
        if not access.allowed:
            if not authorizer.hide:
                return authorizer.forbidden("read")
            # Answered as a missing table after the work for a missing table: one that nobody has made.
            ref = attrs.evolve(ref, table=self.resources.new_id())
        table = catalogs.peek(ref)
        if table is not None:
            scan = resolve_scan(table, spec, access.visible)
        else:
            scan = await self.resources.look(ref, _load_and_resolve, catalogs.load, ref, spec, access.visible)
        if not access.allowed and not isinstance(scan, Refused):
            return TABLE_NOT_FOUND  # somebody has made it after all
        if isinstance(scan, Refused):
            return scan
        return scan, scan_provenance(self.tenant, uri, what.executor, spec, scan)

    def _asked(
        self, principal: Principal, what: m.Transformation
    ) -> tuple[ScanSpec, str, TableRef, Access] | Refused:
        """Return what is to be scanned, and what the rules say of that."""
        spec = _scan_spec(what)
        if isinstance(spec, Refused):
            return spec
        authorizer = self.resources.authorizer
        if authorizer.denies(principal, acl.resource_name("transforms", what.executor), "run"):
            return TRANSFORM_NOT_FOUND
        uri = what.inputs[0]
        ref = self.resources.catalogs.resolve(uri)
        if isinstance(ref, Refused):
            return ref
        return spec, uri, ref, authorizer.reading(principal, table_resource(ref))

    async def _hit(self, artifact: ArtifactRecord, name: str | None) -> m.Materialized:
        self.builder.metrics.hits += 1
        if name is not None:
            set_name = self.resources.metadata.set_name
            await self.resources.ask(set_name, self.tenant, name, artifact.artifact_id, artifact.version)
        return m.Materialized(artifact.artifact_id, artifact.version, hit=True)

    def start(self, order: BuildRequest) -> Build | Refused:
        """Begin a build. No checkpoint lies between the look for a running one and this."""
        refused = self._no_place(order.principal)
        if refused is not None:
            return refused
        build = self.running[order.provenance.key] = Build(order.provenance.key, order.provenance.inputs)
        build.ask(order.principal)
        self.nursery.start_soon(self._run, build, order)
        return build

    def _no_place(self, principal: str) -> Refused | None:
        """Refuse a build beyond ``max_concurrent_scans``, or one that leaves too little to others."""
        most, running = self.builder.limits.max_builds, len(self.running)
        own = sum(build.principals[0] == principal for build in self.running.values())
        if running < most and (not own or own < PLACES_LEFT * (most - running)):
            return None
        now, name = trio.current_time(), "max_concurrent_scans"
        interval = self.estimator.interval(now) or 1.0
        seconds = self.estimator.seconds(now, interval * max(1, running - most + 1), interval)
        whose = f"This tenant has {running}" if running >= most else f"You have {own}"
        detail = f"{whose} scans under way, of {most} ({name}); ask again when some have ended."
        return Refused(Reason.BUSY, detail, name, seconds, limit=Limit(name, most, seconds))

    async def _run(self, build: Build, order: BuildRequest) -> None:
        keep_segments = None
        try:
            keep_segments = await self.builder.run(build, order)
        finally:
            del self.running[build.key]
            self.estimator.released(trio.current_time(), build.principals[0])
            if build.record is not None:
                self.by_id.pop(build.record.build_id, None)
            if isinstance(build.outcome, ArtifactRecord):
                self.ready[build.key] = build.outcome
        try:
            if keep_segments is not None:
                await keep_segments()
        finally:
            build.settled.set()

    async def _join(self, build: Build, question: m.Materialize) -> m.Materialized | Refused:
        await build.wait_admitted()
        record = build.record
        if record is None:
            assert isinstance(build.outcome, Refused)
            return build.outcome
        if self.running.get(build.key) is build:  # else it has ended meanwhile, and been forgotten
            self.by_id.setdefault(record.build_id, build)
        if question.name is not None:
            build.names.add(question.name)
        stream_id = None
        if question.mode is m.Mode.STREAM:
            opened = self._open_stream(build, question.principal)
            if isinstance(opened, Refused):
                return opened
            stream_id = opened
        return m.Materialized(
            record.artifact_id, record.version, hit=False, build_id=record.build_id, stream_id=stream_id
        )

    def _open_stream(self, build: Build, principal: Principal) -> str | Refused:
        self._expire()
        refused = self._too_many_streams(principal.id)
        if refused is not None:
            return refused
        stream_id = self.resources.new_id()
        expires = trio.current_time() + self.builder.limits.stream_ttl
        self.streams[stream_id] = Stream(principal.id, build, expires)
        return stream_id

    def _too_many_streams(self, principal: str) -> Refused | None:
        """Refuse a stream beyond those that are remembered, or one that leaves too few to others."""
        most, total = STREAMS_REMEMBERED, len(self.streams)
        enough = PLACES_LEFT * (most - total)
        if total < enough:
            return None
        mine = [stream for stream in self.streams.values() if stream.owner == principal]
        if total < most and (not mine or len(mine) < enough):
            return None
        whose = f"This tenant has {total}" if total >= most else f"You have {len(mine)}"
        waiting = self.streams.values() if total >= most else mine
        seconds = max(1, math.ceil(min(stream.expires for stream in waiting) - trio.current_time()))
        detail = (
            f"{whose} streams whose time is not over (stream_state_ttl_seconds), of {most}; "
            f"ask for the same stream less often, or wait {seconds} seconds."
        )
        return Refused(Reason.BUSY, detail, "streams", seconds, limit=Limit("streams", most, seconds))

    def _expire(self) -> None:
        now = trio.current_time()
        while self.streams:
            stream_id = next(iter(self.streams))
            if self.streams[stream_id].expires > now:
                return
            del self.streams[stream_id]


def _scan_spec(what: m.Transformation) -> ScanSpec | Refused:
    if what.executor != SCAN:
        return TRANSFORM_NOT_FOUND
    if len(what.inputs) != 1:
        return Refused(
            Reason.BAD_REQUEST, "A scan has exactly one input.", "bad_inputs", loc=("body", "inputs")
        )
    return parse_scan_params(what.params)


def _load_and_resolve(
    load: Callable[[TableRef], LoadedTable | Refused],
    ref: TableRef,
    spec: ScanSpec,
    visible: CellGrants | None,
) -> ResolvedScan | Refused:
    """Load the table's present metadata and resolve the scan against it; one call, one thread."""
    table = load(ref)
    return table if isinstance(table, Refused) else resolve_scan(table, spec, visible)


def _changes(older: ArtifactRecord, provenance: Provenance) -> tuple[m.ChangedInput, ...]:
    before = older.inputs
    return tuple(
        m.ChangedInput(uri, before.get(uri), version)
        for uri, version in provenance.inputs
        if before.get(uri) != version
    )

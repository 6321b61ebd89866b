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

ONE_INPUT = Refused(Reason.BAD_REQUEST, "A scan has exactly one input.", "bad_inputs", loc=("body", "inputs"))

log = structlog.get_logger(__name__)

READY_REMEMBERED = 4096
"""Finished artifacts an actor remembers, so that a hit needs no call of the store; the oldest is dropped."""

PLACES_LEFT = 4
"""One principal may hold at most this many times the builds (or streams) still free: 4/5 of all if alone."""

STREAMS_REMEMBERED = 10_000
"""Most streams of an actor, each kept for ``stream_state_ttl_seconds``; beyond, materialize is refused."""


@attrs.define(eq=False)
class Stream:
    """A promised stream.

    Attributes:
        owner: Id of the principal that may read it.
        build: Its build.
        expires: When it is forgotten, on Trio's clock.
    """

    owner: str
    build: Build
    expires: float


@attrs.frozen(eq=False)
class Lookup:
    """A scan request under the rules of one moment, as far as it is known without a wait.

    Attributes:
        spec: Its parameters.
        ref: Its table; a random name where the caller may not read it.
        access: The caller's rights to the table.
        policy: The rules that gave them.
        resolved: The scan and its identity; None: the table is not loaded.
    """

    spec: ScanSpec
    ref: TableRef
    access: Access
    policy: acl.Policy | None = attrs.field(repr=False)
    resolved: tuple[ResolvedScan, Provenance] | None = attrs.field(default=None, repr=False)


@attrs.define(eq=False)
class Materializer:
    """Answers :class:`~strata.tenants.messages.Materialize` and ``Explain`` for one tenant.

    Attributes:
        running: Builds by provenance key: equal requests share one.
        by_id: Running builds by build id, once admitted.
        streams: Streams by id, in the order they expire.
        records: Finished artifacts by id and version.
        ready: Finished artifacts by provenance key.
        losses: How many finished artifacts turned out to be lost. A record read from the store is not
            remembered if a loss happened meanwhile: it may be the lost one.
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
        """Whether no build runs and no stream waits for its reader."""
        self._expire()
        return not self.running and not self.streams

    def materialize(self, question: m.Materialize) -> m.Materialized | Refused | m.Pending:
        """Answer with a remembered result; else a ``Pending`` finds it in the store or builds it."""
        authorizer = self.resources.authorizer
        if question.name is not None and authorizer.denies(
            question.principal, artifact_resource(question.name), "write"
        ):
            return authorizer.forbidden("write")  # of a name that exists and of one that does not
        lookup = self.look_up(question.principal, question.what)
        if isinstance(lookup, Refused):
            return lookup
        if lookup.resolved is not None and not question.refresh and question.name is None:
            key = lookup.resolved[1].key
            hit = None if key in self.running else self.ready.get(key)
            if hit is not None:
                self.builder.metrics.hits += 1
                return m.Materialized(hit.artifact_id, hit.version, hit=True)
        return m.Pending(partial(self._find_or_build, question, lookup))

    async def _find_or_build(self, question: m.Materialize, lookup: Lookup) -> m.Materialized | Refused:
        if not self._holds(lookup):
            answer = self.materialize(question)
            return await answer.finish() if isinstance(answer, m.Pending) else answer
        found = await self.resolve(question.principal, question.what, lookup)
        if isinstance(found, Refused):
            return found
        scan, provenance = found
        await self._settled(provenance)
        build = await self.under_way(provenance.key)
        if build is None and not question.refresh:
            hit = await self.find_ready(provenance)
            if hit is not None:
                self.builder.metrics.hits += 1
                if question.name is not None:
                    set_name, ready = self.resources.metadata.set_name, (hit.artifact_id, hit.version)
                    await self.resources.ask(set_name, self.tenant, question.name, *ready)
                return m.Materialized(hit.artifact_id, hit.version, hit=True)
            build = await self.under_way(provenance.key)  # begun during the call of the store
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

    async def under_way(self, key: str) -> Build | None:
        """Return the running build of a key, or None; waits for the end of one that is being cancelled."""
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
        """Return the artifact a name points at; None, after the same work, if the caller may read none."""
        resources, metadata = self.resources, self.resources.metadata
        named = await resources.ask(metadata.get_name, self.tenant, name)
        hidden = resources.authorizer.denies(principal, artifact_resource(name), "read")
        target = (resources.new_id(), 1) if named is None else (named.artifact_id, named.version)
        older = await resources.ask(metadata.get_artifact, self.tenant, *target)
        inputs = None if older is None else older.inputs
        may_read = await resources.may_read(principal, inputs, target[0])
        return older if may_read and not hidden else None

    async def _settled(self, provenance: Provenance) -> None:
        """Wait for a build whose bytes are all written: its commit takes milliseconds."""
        build = self.running.get(provenance.key)
        if build is not None and build.tail is not None and build.tail.ended:
            await build.done.wait()

    async def find_ready(self, provenance: Provenance) -> ArtifactRecord | None:
        """Return the newest finished artifact of a provenance whose bytes are not lost, or None."""
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
        """Return the newest finished artifact that can be read, and the lost ones before it. Blocking.

        A missing blob is noticed here before the result is promised, so a result that was lost while the
        server was down is built again by the first request for it. A remote store is not called: that takes
        a round trip, and the read of the result makes it anyway.
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

    async def record(self, artifact_id: str, version: int) -> ArtifactRecord | None:
        """Return an artifact's record or None; finished ones are remembered, for they never change."""
        known = self.records.get((artifact_id, version))
        if known is None:
            losses = self.losses
            get = self.resources.metadata.get_artifact
            known = await self.resources.ask(get, self.tenant, artifact_id, version)
            if known is not None and known.state is ArtifactState.READY and losses == self.losses:
                self.records[artifact_id, version] = known
        return known

    async def lose(self, record: ArtifactRecord) -> None:
        """Mark a finished artifact whose bytes are gone: it is never served again, but built again."""
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
        """Return a stream of this principal, or any stream to an administrator; else None."""
        self._expire()
        stream = self.streams.get(stream_id)
        if stream is None or stream.expires <= trio.current_time():
            return None  # a shortened one may be behind others in the order
        if stream.owner != principal.id and not principal.has_scope("admin:*"):
            return None
        return stream

    def look_up(self, principal: Principal, what: m.Transformation) -> Lookup | Refused:
        """Parse a scan request, ask the rules, and resolve it if its table is loaded."""
        if what.executor != SCAN:
            return TRANSFORM_NOT_FOUND
        if len(what.inputs) != 1:
            return ONE_INPUT
        spec = parse_scan_params(what.params)
        if isinstance(spec, Refused):
            return spec
        authorizer, catalogs = self.resources.authorizer, self.resources.catalogs
        if authorizer.denies(principal, acl.resource_name("transforms", what.executor), "run"):
            return TRANSFORM_NOT_FOUND
        ref = catalogs.resolve(what.inputs[0])
        if isinstance(ref, Refused):
            return ref
        access = authorizer.reading(principal, table_resource(ref))
        if not access.allowed:
            if not authorizer.hide:
                return authorizer.forbidden("read")
            # Answered as a missing table after the work for a missing table: one that does not exist.
            ref = attrs.evolve(ref, table=self.resources.new_id())
        lookup, table = Lookup(spec, ref, access, authorizer.policy), catalogs.peek(ref)
        if table is None:
            return lookup
        return self._with_scan(lookup, what, resolve_scan(table, spec, access.visible))

    async def resolve(
        self, principal: Principal, what: m.Transformation, lookup: Lookup | None = None
    ) -> tuple[ResolvedScan, Provenance] | Refused:
        """Return the requested scan, within the caller's rights, and its identity.

        Args:
            principal: The caller.
            what: The request.
            lookup: What :meth:`look_up` has found of it, if that holds still.
        """
        found = lookup or self.look_up(principal, what)
        if isinstance(found, Lookup) and found.resolved is None:
            load = partial(_load_and_resolve, self.resources.catalogs.load, found)
            scan = await self.resources.look(found.ref, load)
            found = self._with_scan(found, what, scan)
        if isinstance(found, Refused):
            return found
        assert found.resolved is not None
        return found.resolved

    def _with_scan(
        self, lookup: Lookup, what: m.Transformation, scan: ResolvedScan | Refused
    ) -> Lookup | Refused:
        if isinstance(scan, Refused):
            return scan
        if not lookup.access.allowed:
            return TABLE_NOT_FOUND  # a table of the random name exists after all
        provenance = scan_provenance(self.tenant, what.inputs[0], what.executor, lookup.spec, scan)
        return attrs.evolve(lookup, resolved=(scan, provenance))

    def _holds(self, lookup: Lookup) -> bool:
        """Whether neither the rules nor the table's metadata have been replaced since a lookup."""
        if self.resources.authorizer.policy is not lookup.policy:
            return False
        return lookup.resolved is None or (
            self.resources.catalogs.peek(lookup.ref) is lookup.resolved[0].table
        )

    def start(self, order: BuildRequest) -> Build | Refused:
        """Begin a build, or return a refusal. No checkpoint between the search for a running one and this."""
        refused = self._no_place(order.principal)
        if refused is not None:
            return refused
        build = self.running[order.provenance.key] = Build(order.provenance.key, order.provenance.inputs)
        build.ask(order.principal)
        self.nursery.start_soon(self._run, build, order)
        return build

    def _no_place(self, principal: str) -> Refused | None:
        """Refuse a build beyond ``max_concurrent_scans`` or the principal's part (:data:`PLACES_LEFT`)."""
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
        if self.running.get(build.key) is build:  # else it has ended meanwhile
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
        """Refuse a stream beyond :data:`STREAMS_REMEMBERED` or the principal's part (:data:`PLACES_LEFT`)."""
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


def _load_and_resolve(
    load: Callable[[TableRef], LoadedTable | Refused], lookup: Lookup
) -> ResolvedScan | Refused:
    """Load the table's present metadata and resolve the scan against it; one call, one thread."""
    table = load(lookup.ref)
    return table if isinstance(table, Refused) else resolve_scan(table, lookup.spec, lookup.access.visible)


def _changes(older: ArtifactRecord, provenance: Provenance) -> tuple[m.ChangedInput, ...]:
    before = older.inputs
    return tuple(
        m.ChangedInput(uri, before.get(uri), version)
        for uri, version in provenance.inputs
        if before.get(uri) != version
    )

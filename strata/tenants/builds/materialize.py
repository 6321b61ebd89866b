"""Materialize and explain: find a result, join its build, or begin one."""

from __future__ import annotations

from functools import partial

import attrs
import structlog
import trio
from cachetools import LRUCache

from strata import acl
from strata.artifacts import ArtifactRecord, NameOrder
from strata.artifacts.metadata.naming import NAME_OWNED, SET_NAME, may_move
from strata.auth import Principal
from strata.decisions import decided
from strata.outcomes import Limit, Reason, Refused
from strata.tables import (
    LoadedTable,
    ResolvedScan,
    ScanSpec,
    is_wide,
    parse_scan_params,
    resolve_scan,
    resolves_at_once,
)
from strata.tenants import messages as m
from strata.tenants.builds.provenance import (
    MAX_TRANSFORM_BYTES,
    ONE_INPUT,
    TRANSFORM_NOT_FOUND,
    TRANSFORM_TOO_LARGE,
    Lookup,
    Provenance,
    changes,
    resolve_at_once,
    scan_provenance,
)
from strata.tenants.builds.runner import Builder, BuildRequest, Order
from strata.tenants.builds.state import Build, Stream, too_many_streams
from strata.tenants.limits.retry_after import RetryAfterEstimator
from strata.tenants.registry.orders import act_of, order_of
from strata.tenants.registry_messages import PutArtifact
from strata.tenants.retention.finished import FinishedResults
from strata.tenants.shared.authorizer import TABLE_NOT_FOUND, artifact_resource, table_resource
from strata.tenants.shared.left_streams import LeftStream
from strata.tenants.shared.resources import Resources
from strata.tenants.stats.build_log import BuildLog
from strata.tracing.spans import child

SCAN = "scan@v1"

LOGS_REMEMBERED = 32
"""Builds that have ended whose log is kept, at most 64 KiB each; the oldest goes."""

log = structlog.get_logger(__name__)

PLACES_LEFT = 4
"""One principal may hold at most this many times the builds (or streams) still free: 4/5 of all if alone."""

STREAMS_REMEMBERED = 10_000
"""Most streams of an actor that wait for their reader, each for at most ``stream_state_ttl_seconds``; beyond,
materialize is refused."""

READ_REMEMBERED = 256
"""Streams of an actor that were sent to their end and can be read again until their time is over, after a
connection that broke at the last moment. The one read first is dropped."""


@attrs.define(eq=False)
class Materializer:
    """Answers :class:`~strata.tenants.messages.Materialize` and ``Explain`` for one tenant.

    Attributes:
        running: Builds by provenance key: equal requests share one.
        by_id: Running builds by build id, once admitted.
        streams: Streams by id that wait for their reader, in the order they expire.
        read: Streams by id that were sent to their end.
        logs: What the last transforms printed, by build id; the oldest goes first.
        finished: The tenant's finished artifacts.
        estimator: Computes the Retry-After of refused builds from how fast builds end.
    """

    tenant: str
    resources: Resources
    builder: Builder
    nursery: trio.Nursery
    running: dict[str, Build] = attrs.field(factory=dict)
    by_id: dict[str, Build] = attrs.field(factory=dict)
    streams: dict[str, Stream | LeftStream] = attrs.field(factory=dict)
    read: LRUCache[str, Stream | LeftStream] = attrs.field(
        factory=partial(LRUCache, READ_REMEMBERED), repr=False
    )
    logs: dict[str, BuildLog] = attrs.field(factory=dict, repr=False)
    finished: FinishedResults = attrs.field(init=False)
    estimator: RetryAfterEstimator = attrs.field(factory=RetryAfterEstimator)

    def __attrs_post_init__(self) -> None:
        self.finished = FinishedResults(self.tenant, self.builder.prefix, self.resources)

    @property
    def unread(self) -> int:
        """Streams that wait for their reader."""
        self._expire()
        return len(self.streams)

    def left(self) -> dict[str, LeftStream]:
        """Return the unread streams, for the tenant's next actor; those without a record are forgotten."""
        self._expire()
        found = {name: stream.left() for name, stream in self.streams.items()}
        return {name: left for name, left in found.items() if left is not None}

    def materialize(self, question: m.Materialize) -> m.Materialized | Refused | m.Pending:
        """Answer with a remembered result; else a ``Pending`` finds it in the store or builds it."""
        authorizer = self.resources.authorizer
        if question.name is not None and authorizer.denies(
            question.principal, artifact_resource(question.name), "write"
        ):
            return authorizer.forbidden("write")  # of a name that exists and of one that does not
        if is_wide(question.what.params):
            return m.Pending(partial(self._find_or_build, question, None))
        lookup = self.look_up(question.principal, question.what)
        if isinstance(lookup, Refused):
            return lookup
        if lookup.resolved is not None and not question.refresh and question.name is None:
            key = lookup.resolved[1].key
            hit = None if key in self.running else self.finished.hit(key)
            if hit is not None:
                self.builder.metrics.hits += 1
                decided("result found", tenant=self.tenant, artifact=hit.artifact_id, version=hit.version)
                return m.Materialized(hit.artifact_id, hit.version, hit=True)
        return m.Pending(partial(self._find_or_build, question, lookup))

    async def _find_or_build(
        self, question: m.Materialize, lookup: Lookup | None
    ) -> m.Materialized | Refused:
        if lookup is not None and not self._holds(lookup):
            answer = self.materialize(question)
            return await answer.finish() if isinstance(answer, m.Pending) else answer
        found = await self.resolve(question.principal, question.what, lookup)
        if isinstance(found, Refused):
            return found
        scan, provenance = found
        executor, principal = question.what.executor, question.principal.id
        return await self.give(question, BuildRequest(scan, provenance, executor, question.name, principal))

    async def give(self, question: m.Materialize, order: Order) -> m.Materialized | Refused:
        """Answer with the result that is ordered: a finished one, that of a running build, or a new one.

        A stream of a large result whose bytes are all written needs no more of its build; all else waits for
        its commit.
        """
        provenance = order.provenance
        name = await self.may_name(question)
        if isinstance(name, Refused):
            return name
        streamed = question.mode is m.Mode.STREAM and name is None and not question.refresh
        begun = self.running.get(provenance.key)
        if not (streamed and begun is not None and begun.commits_long):
            await self._settled(provenance)
        build = await self.under_way(provenance.key)
        if build is None and not question.refresh:
            hit = await self.finished.find(provenance.key)
            named = None if hit is None or name is None else await self.set_name(name, hit)
            if isinstance(named, Refused):
                return named
            if named is False:
                hit = None  # it was removed meanwhile, and is built again
            if hit is not None:
                self.builder.metrics.hits += 1
                decided("result found", tenant=self.tenant, artifact=hit.artifact_id, version=hit.version)
                return m.Materialized(hit.artifact_id, hit.version, hit=True)
            build = await self.under_way(provenance.key)  # begun during the call of the store
        if build is None:
            started = self.start(order)
            if isinstance(started, Refused):
                return started
            build = started
            decided("build begun", tenant=self.tenant, key=provenance.key)
        else:
            decided("build joined", tenant=self.tenant, key=provenance.key)
        build.ask(question.principal.id)
        build.callers.add(question.principal)
        self.builder.metrics.misses += 1
        return await self._join(build, question, name)

    async def may_name(self, question: m.Materialize | PutArtifact) -> NameOrder | Refused | None:
        """Return the order to set the name of a request, if it has one; refused for a name of others."""
        if question.name is None:
            return None
        who = question.principal
        act = act_of(who, SET_NAME, question.request_id)
        order = order_of(self.resources, self.builder.limits, question.name, act, who)
        if not order.others:
            get = self.resources.metadata.get_name
            known = await self.resources.ask(self.tenant, get, self.tenant, question.name)
            if known is not None and not may_move(known.owner, order):
                return NAME_OWNED
        return order

    async def set_name(self, name: NameOrder, ready: ArtifactRecord) -> bool | Refused:
        """Point a name at a ready result; if the store fails, so does the request, and may be repeated.

        Returns False if there is no such result any more: it is forgotten.
        """
        target, set_name = (ready.artifact_id, ready.version), self.resources.registry.set_name
        named = await self.resources.write(self.tenant, set_name, self.tenant, name, target)
        if named is None:
            self.finished.forget(*target)
        return named if isinstance(named, Refused) else named is not None

    async def under_way(self, key: str) -> Build | None:
        """Return the running build of a key, or None; waits for the end of one that is being cancelled."""
        while (build := self.running.get(key)) is not None and build.scope.cancel_called:
            await build.done.wait()
        return build

    async def explain(self, question: m.Explain) -> m.Explanation | Refused:
        """Say what :meth:`materialize` would do."""
        found = await self.resolve(question.principal, question.what)
        return found if isinstance(found, Refused) else await self.foresee(question, found[1])

    async def foresee(self, question: m.Explain, provenance: Provenance) -> m.Explanation:
        """Say what :meth:`give` would answer."""
        await self._settled(provenance)
        ready = await self.finished.find(provenance.key)
        older = ready
        ask, metadata = self.resources.ask, self.resources.metadata
        if question.name is not None:
            older = await self._named(question.principal, question.name)
        elif ready is None:
            older = await ask(self.tenant, metadata.find_latest_by_query, self.tenant, provenance.query)
        changed = changes(older, provenance) if older is not None else ()
        return m.Explanation(
            older if older is not None else ready, ready is not None, dict(provenance.inputs), changed
        )

    async def _named(self, principal: Principal, name: str) -> ArtifactRecord | None:
        """Return the artifact a name points at; None, after the same work, if the caller may read none."""
        resources, metadata = self.resources, self.resources.metadata
        named = await resources.ask(self.tenant, metadata.get_name, self.tenant, name)
        hidden = resources.authorizer.denies(principal, artifact_resource(name), "read")
        target = (resources.new_id(), 1) if named is None else (named.artifact_id, named.version)
        older = await resources.ask(self.tenant, metadata.get_artifact, self.tenant, *target)
        inputs = None if older is None else older.inputs
        may_read = await resources.may_read(principal, inputs, target[0])
        return older if may_read and not hidden else None

    def building(self, artifact_id: str, version: int) -> Build | None:
        """Return the running build of a version, or None."""
        for build in self.running.values():
            record = build.record
            if record is not None and (record.artifact_id, record.version) == (artifact_id, version):
                return build
        return None

    def ending(self, artifact_id: str, version: int) -> Build | None:
        """Return the build of a version whose bytes are all written and not yet committed, or None."""
        build = self.building(artifact_id, version)
        return build if build is not None and build.is_written else None

    async def _settled(self, provenance: Provenance) -> None:
        """Wait for a build whose bytes are all written: its commit takes milliseconds."""
        build = self.running.get(provenance.key)
        if build is not None and build.is_written:
            await build.done.wait()

    def stream_read(self, stream_id: str) -> None:
        """Note that a stream was sent to its end: it no longer waits."""
        stream = self.streams.pop(stream_id, None)
        if isinstance(stream, Stream) and stream.build.done.is_set():
            stream = stream.left()  # the build is not needed any more
        if stream is not None:
            self.read[stream_id] = stream

    def stream_for(self, stream_id: str, principal: Principal) -> Stream | LeftStream | None:
        """Return a stream of this principal, or any stream to an administrator; else None."""
        self._expire()
        stream = self.streams.get(stream_id) or self.read.get(stream_id)
        if stream is None or stream.expires <= trio.current_time():
            return None  # a shortened one may be behind others in the order
        if stream.owner != principal.id and not principal.has_scope("admin:*"):
            return None
        return stream

    def look_up(
        self, principal: Principal, what: m.Transformation, spec: ScanSpec | Refused | None = None
    ) -> Lookup | Refused:
        """Parse a scan request, ask the rules, and resolve it if its table is loaded and that takes no time.

        ``spec`` has the parsed parameters, if they were parsed before.
        """
        if what.executor != SCAN:
            return TRANSFORM_NOT_FOUND
        if len(what.inputs) != 1:
            return ONE_INPUT
        spec = spec or parse_scan_params(what.params)
        if isinstance(spec, Refused):
            return spec
        authorizer, catalogs = self.resources.authorizer, self.resources.catalogs
        if authorizer.denies(principal, acl.resource_name("transforms", what.executor), "run"):
            return TRANSFORM_NOT_FOUND
        ref = catalogs.resolve(what.inputs[0])
        if isinstance(ref, Refused):
            return ref
        ref = catalogs.asked_by(ref, principal.tenant, principal.id)
        access = authorizer.reading(principal, table_resource(ref))
        if not access.allowed:
            if not authorizer.hide:
                return authorizer.forbidden("read")
            # Answered as a missing table after the work for a missing table: one that does not exist.
            ref = self.resources.tables.stand_in(ref)
        lookup, table = Lookup(spec, ref, access, authorizer.policy), catalogs.peek(ref)
        if table is None or is_wide(what.params) or not resolves_at_once(table, spec, access.visible):
            return lookup
        return self._with_scan(lookup, what, resolve_scan(table, spec, access.visible))

    async def resolve(
        self, principal: Principal, what: m.Transformation, lookup: Lookup | None = None
    ) -> tuple[ResolvedScan, Provenance] | Refused:
        """Return the requested scan, within the caller's rights, and its identity.

        What takes longer than the event loop may (many columns, filters or values, or a table of many
        columns) is a quantum of the work pool, charged to the tenant.

        Args:
            principal: The caller.
            what: The request.
            lookup: What :meth:`look_up` has found of it, if that holds still.
        """
        resources, wide = self.resources, is_wide(what.params)
        spec = None
        if wide and what.executor == SCAN:
            parse = partial(parse_scan_params, what.params)
            spec = await resources.compute(self.tenant, principal.id, parse)
        found = lookup or self.look_up(principal, what, spec)
        if isinstance(found, Lookup) and found.resolved is None:
            resolve = partial(resolve_at_once, found, wide=wide)
            scan: LoadedTable | ResolvedScan | Refused = await resources.tables.load(
                self.tenant, found.ref, resolve
            )
            if isinstance(scan, LoadedTable):
                call = partial(self._resolve_with_scan, found, what, scan)
                found = await resources.compute(self.tenant, principal.id, call)
            else:
                found = self._with_scan(found, what, scan)
        if isinstance(found, Refused):
            return found
        assert found.resolved is not None
        return found.resolved

    def _resolve_with_scan(
        self, lookup: Lookup, what: m.Transformation, table: LoadedTable
    ) -> Lookup | Refused:
        return self._with_scan(lookup, what, resolve_scan(table, lookup.spec, lookup.access.visible))

    def _with_scan(
        self, lookup: Lookup, what: m.Transformation, scan: ResolvedScan | Refused
    ) -> Lookup | Refused:
        if isinstance(scan, Refused):
            return scan
        if not lookup.access.allowed:
            return TABLE_NOT_FOUND  # a table of the random name exists after all
        secret = self.resources.authorizer.secret
        provenance = scan_provenance(secret, self.tenant, what.inputs[0], what.executor, scan)
        if len(provenance.transform) > MAX_TRANSFORM_BYTES:
            return TRANSFORM_TOO_LARGE
        return attrs.evolve(lookup, resolved=(scan, provenance))

    def _holds(self, lookup: Lookup) -> bool:
        """Whether neither the rules nor the table's metadata have been replaced since a lookup."""
        if self.resources.authorizer.policy is not lookup.policy:
            return False
        return lookup.resolved is None or (
            self.resources.catalogs.peek(lookup.ref) is lookup.resolved[0].table
        )

    def start(self, order: Order) -> Build | Refused:
        """Begin a build, or return a refusal. No checkpoint between the search for a running one and this."""
        refused = self._no_place(order.principal)
        if refused is not None:
            return refused
        build = self.running[order.provenance.key] = Build(order.provenance.key, order.provenance.inputs)
        build.ask(order.principal)
        shared = self.resources.shared_order
        self.nursery.start_soon(self._run, build, order if shared is None else shared(order))
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

    async def _run(self, build: Build, order: Order) -> None:
        keep_segments = None
        forget = self.resources.rights.add(self.tenant, partial(self._is_wanted, build), build.revoke)
        try:
            with child("build") as span:
                keep_segments = await self.builder.run(build, order)
                span.set("strata.build_id", None if build.record is None else build.record.build_id)
                span.set("strata.outcome", build.kind)
        finally:
            forget()
            del self.running[build.key]
            self.estimator.released(trio.current_time(), build.principals[0])
            if build.record is not None:
                for name in [name for name, one in self.by_id.items() if one is build]:
                    del self.by_id[name]  # two, if the build of another server was taken over
                self._keep_log(build.record.build_id, build.log)
            if isinstance(build.outcome, ArtifactRecord):
                self.finished.add(build.outcome)
                build.outcome = build.outcome.without_texts()  # streams keep the build for minutes
            for name, stream in [*self.read.items()]:
                if isinstance(stream, Stream) and stream.build is build:
                    self.read[name] = stream.left() or stream  # the build with its record goes
        try:
            if keep_segments is not None:
                await keep_segments()
        finally:
            build.settled.set()

    def _keep_log(self, build_id: str, log: BuildLog) -> None:
        log.close()
        if log.text:
            self.logs[build_id] = log
            while len(self.logs) > LOGS_REMEMBERED:
                del self.logs[next(iter(self.logs))]

    async def _is_wanted(self, build: Build) -> bool:
        """Whether one of the callers of a build may read its result by the rules of this moment."""
        inputs = dict(build.inputs)
        for caller in tuple(build.callers):
            if await self.resources.may_read(caller, inputs):
                return True
        return False

    async def _join(
        self, build: Build, question: m.Materialize, name: NameOrder | None
    ) -> m.Materialized | Refused:
        late = name is not None and not build.add_name(name)  # it is being made ready without this name
        await build.wait_admitted()
        record = build.record
        if record is None:
            assert isinstance(build.outcome, Refused)
            return build.outcome
        if self.running.get(build.key) is build:  # else it has ended meanwhile
            self.by_id.setdefault(record.build_id, build)
        if name is not None and late:
            await build.done.wait()
            if isinstance(build.outcome, ArtifactRecord):
                named = await self.set_name(name, build.outcome)
                if isinstance(named, Refused):
                    return named
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
        refused = too_many_streams(self.streams, principal.id, STREAMS_REMEMBERED, PLACES_LEFT)
        if refused is not None:
            return refused
        stream_id = self.resources.new_id()
        expires = trio.current_time() + self.builder.limits.stream_ttl
        self.streams[stream_id] = Stream(principal.id, build, expires)
        return stream_id

    def _expire(self) -> None:
        now = trio.current_time()
        while self.streams:
            stream_id = next(iter(self.streams))
            if self.streams[stream_id].expires > now:
                return
            del self.streams[stream_id]

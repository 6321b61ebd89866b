"""The life of a build: plan, admission, bytes, commit. Whatever ends it, it ends ``ready`` or ``failed``."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord, BlobFacts, BlobWriter, BuildRecord
from strata.cache import CacheShard, Pack, PackWriter
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import ResolvedScan, ScanPlan
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.output import HOT_GROUP_BYTES, too_large
from strata.tenants.builds.planning import Planner
from strata.tenants.builds.provenance import Provenance
from strata.tenants.builds.scan_pipeline import IN_FLIGHT_BYTES, ScanBuild
from strata.tenants.builds.state import Build
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.slots import Slots
from strata.tenants.shared.byte_stream import HOT_BYTES, Tail
from strata.tenants.shared.disk_space import FULL
from strata.tenants.shared.memory_budget import LEAST_BYTES
from strata.tenants.shared.resources import SMALL_COST, Resources
from strata.tenants.stats.counters import TenantMetrics
from strata.work import AdmissionToken, Tier

T = TypeVar("T")

HASH_BYTES = 8 * 1024 * 1024
"""Bytes hashed in one quantum: about 5 ms."""

CLEANUP_SECONDS = 10
"""How long a cancelled build may take to leave no trace."""

COPIES = 2
"""Times a row group's bytes may be in memory: as it is kept in the cache, and as it is sent."""

MOST_IN_MEMORY = COPIES * IN_FLIGHT_BYTES + HOT_BYTES + HOT_GROUP_BYTES
"""Bytes one build may hold: row groups in flight, and the newest that are kept for its readers."""

ABANDONED = Refused(Reason.UNAVAILABLE, "The build was given up.", code="abandoned", retry_after=1)
INTERRUPTED = Refused(Reason.UNAVAILABLE, "The build was interrupted.", code="interrupted", retry_after=1)
STORAGE = Refused(
    Reason.UNAVAILABLE,
    "The server cannot write results right now; its disk may be full.",
    code="storage_unavailable",
    retry_after=30,
)
CRASHED = Refused(Reason.FAILED, "The build failed; the server's log has the cause.", code="internal")

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class BuildRequest:
    """What a build was asked for.

    Attributes:
        scan: The scan, resolved.
        provenance: Its identity.
        executor: The transform reference.
        name: The name to point at the result.
        principal: Who asked for it first: whose turns in the work pool it takes.
    """

    scan: ResolvedScan
    provenance: Provenance
    executor: str
    name: str | None
    principal: str


@attrs.define(eq=False)
class Builder:
    """Runs builds for one tenant."""

    tenant: str
    prefix: str
    resources: Resources
    shard: CacheShard
    slots: dict[Tier, Slots]
    limits: TenantLimits
    metrics: TenantMetrics
    planner: Planner = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.planner = Planner(self.tenant, self.resources)

    def update(self, limits: TenantLimits) -> None:
        """Take new limits; what runs keeps what it has."""
        self.limits = limits
        interactive, bulk = self.slots[Tier.INTERACTIVE], self.slots[Tier.BULK]
        interactive.resize(limits.interactive_slots, limits.interactive_slots_per_principal)
        bulk.resize(limits.bulk_slots, limits.bulk_slots_per_principal)

    async def run(self, build: Build, order: BuildRequest) -> Callable[[], Awaitable[None]] | None:
        """Carry ``build`` out and settle its outcome, whatever happens.

        Returns what is left to do for the cache when the result is ready.
        """
        attempt = _Attempt(self, build, order)
        outcome: ArtifactRecord | Refused = INTERRUPTED
        try:
            with build.scope, UnwrappedRefusals():
                outcome = await attempt.run()
            if build.scope.cancelled_caught:
                outcome = ABANDONED
        except RefusalError as error:
            outcome = error.refused
        except (
            OSError
        ) as error:  # tables' files have refusals of their own: this is where results are written
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log.error("results cannot be written", tenant=self.tenant, error=name)  # noqa: TRY400  # no bug
            outcome = STORAGE
        except Exception as error:  # a bug in one build must not take the tenant's other work with it
            log.exception("build crashed", tenant=self.tenant, error=type(error).__name__)
            outcome = CRASHED
        finally:
            with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                if isinstance(outcome, Refused):
                    await self._clean_up(attempt, outcome)
            build.finish(outcome)
            kind = outcome.code or outcome.reason.value if isinstance(outcome, Refused) else "ready"
            self.metrics.built(kind)
            if isinstance(outcome, Refused):
                self.metrics.note_refused(outcome, "build")
            attempt.close()
            if build.memory is not None:
                build.memory.release()
        kept, attempt.kept = attempt.kept, None  # which knows the attempt: no cycle of the two is left behind
        return kept

    async def _clean_up(self, attempt: _Attempt, refused: Refused) -> None:
        try:
            await attempt.leave_no_trace(refused)
        except Exception as error:  # the store may be what failed; the next start sweeps up
            log.exception("clean-up of a build failed", tenant=self.tenant, error=type(error).__name__)

    async def plan(self, scan: ResolvedScan, principal: str) -> ScanPlan:
        """Return the scan's plan, remembered or made, in turns of ``principal``.

        Raises:
            RefusalError: If it cannot be made, or not within ``plan_timeout_seconds``, or has more files than
                ``max_tasks_per_scan``.
        """
        limits = self.limits
        return await self.planner.plan(scan, principal, limits.plan_timeout, limits.max_tasks)


@attrs.define(eq=False)
class _Attempt:
    """One build's own things, and how to be rid of them."""

    builder: Builder
    build: Build
    order: BuildRequest
    writer: BlobWriter | None = None
    record: BuildRecord | None = None
    pack: PackWriter | None = None
    kept: Callable[[], Awaitable[None]] | None = None
    place: AdmissionToken | None = None

    async def run(self) -> ArtifactRecord:
        builder, build = self.builder, self.build
        limits = builder.limits
        await self._turn_to_start()
        plan = await builder.plan(self.order.scan, self.order.principal)
        if plan.min_bytes > limits.max_response_bytes:
            raise RefusalError(too_large(limits.max_response_bytes))
        tier = limits.tier(plan.estimated_bytes, len(plan.scan.arrow_schema))
        if await builder.resources.nearly_full():
            raise RefusalError(FULL)
        await self._slot(tier)
        await self._memory(tier, plan)
        if self.place is None:
            await self._turn_to_start()
        build.rows_planned, build.exact_rows = plan.max_rows, plan.exact_rows
        with trio.move_on_after(limits.scan_timeout):
            return await self._write(plan, tier, limits)
        detail = f"The scan did not end within {limits.scan_timeout:g} seconds (scan_timeout_seconds)."
        raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="scan_timeout"))

    async def _turn_to_start(self) -> None:
        """Wait for the turn to begin, which ends with the first rows.

        What a build does until then is Python code: of forty that begin in one instant, each would be as late
        as the last one, and whatever else the loop has to do would be later still.
        """
        self.place = await self.builder.resources.starts.take(self.builder.tenant, self.order.principal)

    def _started(self) -> None:
        """Let the next build begin."""
        place, self.place = self.place, None
        if place is not None:
            place.release()

    async def _slot(self, tier: Tier) -> None:
        """Wait for a slot. The build has its place in the queue, so whatever ends it gives that back."""
        build, slots = self.build, self.builder.slots[tier]
        first, *others = build.principals
        build.lease = slots.queue(first)
        for principal in others:
            build.lease.join(principal)
        if not build.lease.held:
            self._started()
        began = trio.current_time()
        found = await build.lease.wait(self._patience(tier))
        self.builder.metrics.waited(tier.value, trio.current_time() - began)
        if isinstance(found, Refused):
            raise RefusalError(found)

    async def _memory(self, tier: Tier, plan: ScanPlan) -> None:
        """Reserve what the build holds in flight, as long as it would wait for a slot."""
        size = max(LEAST_BYTES, min(COPIES * plan.estimated_bytes, MOST_IN_MEMORY))
        self.build.memory = self.builder.resources.memory.queue(self.builder.tenant, size)
        if not self.build.memory.held:
            self._started()
        found = await self.build.memory.wait(self._patience(tier))
        if isinstance(found, Refused):
            raise RefusalError(found)

    def _patience(self, tier: Tier) -> float:
        limits = self.builder.limits
        return limits.interactive_queue_timeout if tier is Tier.INTERACTIVE else limits.bulk_queue_timeout

    async def _write(self, plan: ScanPlan, tier: Tier, limits: TenantLimits) -> ArtifactRecord:
        builder, resources = self.builder, self.builder.resources
        scan = ScanBuild(
            plan=plan,
            build=self.build,
            shard=builder.shard,
            pool=resources.pool,
            flow=builder.tenant,
            principal=self.order.principal,
            tier=tier,
            limits=limits,
            disk=resources.disk,
            started=self._started,
        )
        try:
            await scan.run(self._begin)
        finally:
            self.pack = scan.output.pack
        self._started()  # where no rows were, no first ones have said so
        assert self.build.tail is not None
        self.build.tail.end()
        artifact, facts = await self._commit(scan, tier)
        builder.metrics.rows_built += scan.rows
        builder.metrics.bytes_built += scan.output.size
        self.kept = partial(self._keep_segments, scan, facts, tier)
        return artifact

    async def _begin(self, head: bytes, ready: Callable[[], object]) -> BlobWriter:
        """Open the blob, note the build, and let those who wait know its ids; the blob begins with ``head``.

        In one call: what either of the two takes is less than the way to a thread and back. In the thread it
        waits until ``ready`` returns.
        """
        builder, order = self.builder, self.order
        resources, build_id = builder.resources, builder.resources.new_id()

        def begin() -> tuple[BlobWriter, int, BuildRecord]:
            ready()
            self.writer = writer = resources.blobs.begin(builder.prefix)
            writer.append((head,))
            descriptor = os.open(writer.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                record = resources.metadata.begin_build(
                    builder.tenant,
                    build_id=build_id,
                    provenance_hash=order.provenance.key,
                    query_hash=order.provenance.query,
                    transform_spec=order.provenance.transform,
                    input_versions=order.provenance.inputs,
                    executor_ref=order.executor,
                    name=order.name,
                )
            except BaseException:
                os.close(descriptor)
                raise
            return writer, descriptor, record

        writer, descriptor, record = await resources.ask(begin)
        self.record, self.build.tail = record, Tail(descriptor)
        if record.build_id != build_id and order.name is not None:
            self.build.names.add(order.name)  # an earlier attempt's, whose end could not be noted
        self.build.admit(record)
        return writer

    async def _commit(self, scan: ScanBuild, tier: Tier) -> tuple[ArtifactRecord, BlobFacts]:
        builder, order, writer, record = self.builder, self.order, self.writer, self.record
        assert writer is not None
        assert record is not None
        resources, principal = builder.resources, order.principal
        hash_more = partial(writer.hash_more, HASH_BYTES)
        while await self._run(tier, hash_more, cost=HASH_BYTES):
            pass
        facts = await resources.transfer(builder.tenant, tier, writer.commit, principal=principal)
        artifact = await resources.ask(
            resources.metadata.finish_build,
            builder.tenant,
            record.build_id,
            facts=facts,
            row_count=scan.rows,
            arrow_schema=str(scan.plan.scan.arrow_schema),
        )
        if isinstance(artifact, Refused):
            raise RefusalError(artifact)
        while self.build.names:
            set_name, name = resources.metadata.set_name, self.build.names.pop()
            await resources.ask(set_name, builder.tenant, name, artifact.artifact_id, artifact.version)
        return artifact, facts

    async def _keep_segments(self, scan: ScanBuild, facts: BlobFacts, tier: Tier) -> None:
        """Put what was decoded into the cache; a cache that cannot keep it is no reason to fail."""
        shard = self.builder.shard
        try:
            pack = await self._pack(scan, facts, tier)
        except BaseException as error:
            if scan.output.pack is not None:
                with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await self._run(tier, scan.output.pack.abort)
            if not isinstance(error, OSError):
                raise
            name = type(error).__name__
            log.warning("cache could not keep segments", tenant=self.builder.tenant, error=name)
            return
        if pack is None:
            return
        files = shard.install(pack, scan.generation)
        if files:
            await self._run(tier, partial(shard.remove_files, files))
        used = shard.take_used()
        if used:
            await self._run(tier, partial(shard.note_used, used))

    async def _pack(self, scan: ScanBuild, facts: BlobFacts, tier: Tier) -> Pack | None:
        """Make a pack of what was decoded: a file of its own, or the blob; None if nothing is to be kept."""
        shard = self.builder.shard
        if scan.output.pack is not None:
            return await self._run(tier, scan.output.pack.commit)
        if not scan.segments or facts.size > shard.most_of_one_scan:
            return None
        segments = []
        for segment in scan.segments:  # not earlier: checksums are no part of what the reader waits for
            crc32 = 0
            for done, length in _slices(segment.length):
                carry_on = partial(shard.checksum, facts.path, segment.offset + done, length, crc32)
                crc32 = await self._run(tier, carry_on, cost=length)
            segments.append(attrs.evolve(segment, crc32=crc32))
        pack = await self._run(tier, partial(shard.adopt, facts.path, scan.output.columns, segments))
        if pack is not None:
            return pack
        scan.output.pack = writer = await self._run(tier, partial(shard.begin_pack, scan.output.columns))
        for segment in segments:
            for done, length in _slices(segment.length):
                await self._run(tier, partial(writer.copy, facts.path, segment, done, length), cost=length)
        return await self._run(tier, writer.commit)

    async def _run(self, tier: Tier, quantum: Callable[[], T], *, cost: int = SMALL_COST) -> T:
        """Run a quantum whose files somebody will clean up."""
        builder, principal = self.builder, self.order.principal
        pool = builder.resources.pool
        return await pool.run(builder.tenant, tier, quantum, cost=cost, abandon=False, principal=principal)

    async def leave_no_trace(self, refused: Refused) -> None:
        """Remove what a build that failed has written, and note that it did."""
        resources, leftovers = self.builder.resources, [self.writer, self.pack]
        aborts = [leftover.abort for leftover in leftovers if leftover is not None]
        for abort in aborts:
            await resources.ask(abort)  # not in the pool, where others' work may come first for too long
        if self.record is not None:
            code = refused.code or refused.reason.value
            fail = partial(resources.metadata.fail_build, code=code, message=refused.detail)
            try:
                await resources.ask(fail, self.builder.tenant, self.record.build_id)
            except RefusalError:  # the store is down: its next start finds the build interrupted
                log.warning("failed build not noted", tenant=self.builder.tenant, code=code)

    def close(self) -> None:
        """Let go of the descriptor, of which readers have their own, and of the turn to begin."""
        self._started()
        if self.build.tail is not None:
            self.build.tail.close()


def _slices(length: int) -> Iterator[tuple[int, int]]:
    """Yield where each quantum's bytes begin, and how many there are."""
    for done in range(0, length, HASH_BYTES):
        yield done, min(HASH_BYTES, length - done)

"""Run a build: plan, wait for slot and memory, write the result, commit. It ends ``ready`` or ``failed``."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord, BlobFacts, BlobWriter, BuildRecord
from strata.cache import CacheShard, PackWriter
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import ResolvedScan, ScanPlan
from strata.tenants.builds.cache_writer import CacheWriter
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.output import HOT_GROUP_BYTES, too_large
from strata.tenants.builds.planning import Planner
from strata.tenants.builds.provenance import Provenance
from strata.tenants.builds.scan_pipeline import IN_FLIGHT_BYTES, ScanBuild
from strata.tenants.builds.state import Build
from strata.tenants.builds.work import CLEANUP_SECONDS, BuildWork
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.slots import Slots
from strata.tenants.shared.byte_stream import HOT_BYTES, Tail
from strata.tenants.shared.disk_space import FULL
from strata.tenants.shared.memory_budget import LEAST_BYTES
from strata.tenants.shared.resources import Resources
from strata.tenants.stats.counters import TenantMetrics
from strata.work import AdmissionToken, Tier

HASH_BYTES = 8 * 1024 * 1024
"""Bytes of the blob that are hashed in one quantum: about 5 ms."""

COPIES = 2
"""Copies of a row group in memory: as it is cached, and as it is sent."""

MOST_IN_MEMORY = COPIES * IN_FLIGHT_BYTES + HOT_BYTES + HOT_GROUP_BYTES
"""Most bytes of memory one build reserves: row groups in flight, and the newest bytes kept for readers."""

ABANDONED = Refused(
    Reason.UNAVAILABLE,
    "The build was cancelled: no request waited for it.",
    code="abandoned",
    retry_after=1,
)
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
    """What to build, and for which principal.

    Attributes:
        scan: The resolved scan.
        provenance: The result's identity.
        executor: The transform reference.
        name: Name to point at the result, or None.
        principal: Principal of the first request, who is charged for the build.
    """

    scan: ResolvedScan
    provenance: Provenance
    executor: str
    name: str | None
    principal: str


@attrs.define(eq=False)
class Builder:
    """Runs the builds of one tenant.

    Attributes:
        tenant: The tenant.
        prefix: The tenant's directory in the blob store.
        resources: The process's shared resources.
        shard: The tenant's cache.
        slots: The tenant's build slots by tier.
        limits: The tenant's limits.
        metrics: The tenant's counters.
        planner: Makes and remembers the tenant's plans.
    """

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
        """Set the limits of later builds and resize the slots; running builds keep their limits and slots."""
        self.limits = limits
        interactive, bulk = self.slots[Tier.INTERACTIVE], self.slots[Tier.BULK]
        interactive.resize(limits.interactive_slots, limits.interactive_slots_per_principal)
        bulk.resize(limits.bulk_slots, limits.bulk_slots_per_principal)

    async def run(self, build: Build, request: BuildRequest) -> Callable[[], Awaitable[None]] | None:
        """Run ``build`` to its end and set its outcome, whatever it raises.

        Returns:
            A call that caches the build's segments, to be awaited after this; None if the build failed.
        """
        running = _BuildRun(self, build, request)
        outcome: ArtifactRecord | Refused = INTERRUPTED
        try:
            with build.scope, UnwrappedRefusals():
                outcome = await running.run()
            if build.scope.cancelled_caught:
                outcome = ABANDONED
        except RefusalError as error:
            outcome = error.refused
        except OSError as error:  # of the blob store: unreadable table files are refusals
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log.error("results cannot be written", tenant=self.tenant, error=name)  # noqa: TRY400  # no bug
            outcome = STORAGE
        except Exception as error:  # a bug in one build must not end the tenant's actor
            log.exception("build crashed", tenant=self.tenant, error=type(error).__name__)
            outcome = CRASHED
        finally:
            with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                if isinstance(outcome, Refused):
                    await self._clean_up(running, outcome)
            build.finish(outcome)
            kind = outcome.code or outcome.reason.value if isinstance(outcome, Refused) else "ready"
            self.metrics.built(kind)
            if isinstance(outcome, Refused):
                self.metrics.note_refused(outcome, "build")
            running.close()
            if build.memory is not None:
                build.memory.release()
        # Taken out of the run, which the call refers back to: no reference cycle is left behind.
        cache_segments, running.cache_segments = running.cache_segments, None
        return cache_segments

    async def _clean_up(self, running: _BuildRun, refused: Refused) -> None:
        try:
            await running.undo(refused)
        except Exception as error:  # the store itself may have failed; the next start removes what is left
            log.exception("clean-up of a build failed", tenant=self.tenant, error=type(error).__name__)

    async def plan(self, scan: ResolvedScan, principal: str) -> ScanPlan:
        """Return the scan's plan, remembered or made now and charged to ``principal``.

        Raises:
            RefusalError: DATA_UNREADABLE or UNSUPPORTED if a manifest or a file's format cannot be read,
                TIMED_OUT after ``plan_timeout_seconds``, TOO_LARGE beyond ``max_tasks_per_scan`` files.
        """
        limits = self.limits
        return await self.planner.plan(scan, principal, limits.plan_timeout, limits.max_tasks)


@attrs.define(eq=False)
class _BuildRun:
    """One build while it runs, and what it has opened.

    Attributes:
        builder: The tenant's builder.
        build: The build.
        request: What to build.
        writer: Writer of the blob, once open.
        record: The build's row in the metadata store, once written.
        pack: Writer of the cache pack, if the scan has one.
        cache_segments: Caches the segments, once the result is committed.
        start: The build's token of :attr:`Resources.starts`, while it holds one.
    """

    builder: Builder
    build: Build
    request: BuildRequest
    writer: BlobWriter | None = None
    record: BuildRecord | None = None
    pack: PackWriter | None = None
    cache_segments: Callable[[], Awaitable[None]] | None = None
    start: AdmissionToken | None = None

    async def run(self) -> ArtifactRecord:
        """Build the result and return its record.

        Raises:
            RefusalError: If the plan cannot be made, the result is too large, the disk is nearly full, a wait
                for a slot or memory or the scan itself takes too long, or a file cannot be read.
            OSError: If the blob cannot be written.
        """
        builder, build = self.builder, self.build
        limits = builder.limits
        await self._wait_to_start()
        plan = await builder.plan(self.request.scan, self.request.principal)
        if plan.min_bytes > limits.max_response_bytes:
            raise RefusalError(too_large(limits.max_response_bytes))
        tier = limits.tier(plan.estimated_bytes, len(plan.scan.arrow_schema))
        if await builder.resources.nearly_full():
            raise RefusalError(FULL)
        await self._take_slot(tier)
        await self._reserve_memory(tier, plan)
        if self.start is None:
            await self._wait_to_start()
        build.rows_planned, build.exact_rows = plan.max_rows, plan.exact_rows
        with trio.move_on_after(limits.scan_timeout):
            return await self._write(plan, tier, limits)
        detail = f"The scan did not end within {limits.scan_timeout:g} seconds (scan_timeout_seconds)."
        raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="scan_timeout"))

    async def _wait_to_start(self) -> None:
        """Wait for a start token, held until the first rows are written or the build waits in a queue.

        Until its first rows a build is Python code: forty builds that start together would each be as late as
        the last, and would hold up every other task of the loop.
        """
        self.start = await self.builder.resources.starts.take(self.builder.tenant, self.request.principal)

    def _started(self) -> None:
        """Give the start token back, so that the next build starts."""
        start, self.start = self.start, None
        if start is not None:
            start.release()

    async def _take_slot(self, tier: Tier) -> None:
        """Wait for a slot. The build owns the lease from the first moment; its end releases it.

        Raises:
            RefusalError: If no slot is free within the tier's queue timeout.
        """
        build, slots = self.build, self.builder.slots[tier]
        first, *others = build.principals
        build.lease = slots.queue(first)
        for principal in others:
            build.lease.join(principal)
        if not build.lease.held:
            self._started()
        began = trio.current_time()
        found = await build.lease.wait(self._queue_timeout(tier))
        self.builder.metrics.waited(tier.value, trio.current_time() - began)
        if isinstance(found, Refused):
            raise RefusalError(found)

    async def _reserve_memory(self, tier: Tier, plan: ScanPlan) -> None:
        """Reserve the bytes the build will hold in flight.

        Raises:
            RefusalError: If they are not free within the tier's queue timeout.
        """
        size = max(LEAST_BYTES, min(COPIES * plan.estimated_bytes, MOST_IN_MEMORY))
        self.build.memory = self.builder.resources.memory.queue(self.builder.tenant, size)
        if not self.build.memory.held:
            self._started()
        found = await self.build.memory.wait(self._queue_timeout(tier))
        if isinstance(found, Refused):
            raise RefusalError(found)

    def _queue_timeout(self, tier: Tier) -> float:
        limits = self.builder.limits
        return limits.interactive_queue_timeout if tier is Tier.INTERACTIVE else limits.bulk_queue_timeout

    async def _write(self, plan: ScanPlan, tier: Tier, limits: TenantLimits) -> ArtifactRecord:
        """Run the scan and commit its result."""
        builder, resources = self.builder, self.builder.resources
        work = BuildWork(resources.pool, builder.tenant, self.request.principal, tier, limits.fetch_timeout)
        scan = ScanBuild(
            plan=plan,
            build=self.build,
            shard=builder.shard,
            work=work,
            limits=limits,
            disk=resources.disk,
            started=self._started,
        )
        try:
            await scan.run(self._open_blob)
        finally:
            self.pack = scan.output.pack
        self._started()  # for a scan without rows, which has not called it
        assert self.build.tail is not None
        self.build.tail.end()
        artifact, facts = await self._commit(scan)
        builder.metrics.rows_built += scan.rows
        builder.metrics.bytes_built += scan.output.size
        self.cache_segments = CacheWriter(scan, facts, builder.shard).run
        return artifact

    async def _open_blob(self, head: bytes, wait: Callable[[], object]) -> BlobWriter:
        """Open the blob with ``head`` as its first bytes, record the build and admit it.

        Both happen in one call of a thread: either takes less time than the way there and back. The thread
        calls ``wait`` first.
        """
        builder, request = self.builder, self.request
        resources, build_id = builder.resources, builder.resources.new_id()

        def begin() -> tuple[BlobWriter, int, BuildRecord]:
            wait()
            self.writer = writer = resources.blobs.begin(builder.prefix)
            writer.append((head,))
            descriptor = os.open(writer.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                record = resources.metadata.begin_build(
                    builder.tenant,
                    build_id=build_id,
                    provenance_hash=request.provenance.key,
                    query_hash=request.provenance.query,
                    transform_spec=request.provenance.transform,
                    input_versions=request.provenance.inputs,
                    executor_ref=request.executor,
                    name=request.name,
                )
            except BaseException:
                os.close(descriptor)
                raise
            return writer, descriptor, record

        writer, descriptor, record = await resources.ask(begin)
        self.record, self.build.tail = record, Tail(descriptor)
        if record.build_id != build_id and request.name is not None:
            # The record is an earlier build's whose end could not be written; it lacks this request's name.
            self.build.names.add(request.name)
        self.build.admit(record)
        return writer

    async def _commit(self, scan: ScanBuild) -> tuple[ArtifactRecord, BlobFacts]:
        """Hash and commit the blob, then finish the record and set its names.

        Raises:
            RefusalError: If the metadata store refuses the finished build.
            OSError: If the blob cannot be committed.
        """
        builder, writer, record, work = self.builder, self.writer, self.record, scan.work
        assert writer is not None
        assert record is not None
        resources = builder.resources
        hash_more = partial(writer.hash_more, HASH_BYTES)
        while await work.run(hash_more, cost=HASH_BYTES, abandon=False):
            pass
        facts = await resources.transfer(work.tenant, work.tier, writer.commit, principal=work.principal)
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

    async def undo(self, refused: Refused) -> None:
        """Remove the files of a failed build and record the failure."""
        resources, leftovers = self.builder.resources, [self.writer, self.pack]
        aborts = [leftover.abort for leftover in leftovers if leftover is not None]
        for abort in aborts:
            await resources.ask(abort)  # not in the work pool, whose queue may be longer than the deadline
        if self.record is not None:
            code = refused.code or refused.reason.value
            fail = partial(resources.metadata.fail_build, code=code, message=refused.detail)
            try:
                await resources.ask(fail, self.builder.tenant, self.record.build_id)
            except RefusalError:  # the store is down: the next start marks the build as interrupted
                log.warning("failed build not noted", tenant=self.builder.tenant, code=code)

    def close(self) -> None:
        """Close the tail's descriptor (readers have their own) and give the start token back."""
        self._started()
        if self.build.tail is not None:
            self.build.tail.close()

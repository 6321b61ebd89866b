"""Run a build: plan, wait for slot and memory, write the result, commit. It ends ``ready`` or ``failed``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord, BlobFacts, BlobWriter, BuildRecord
from strata.cache import CacheShard, PackWriter
from strata.outcomes import Reason, RefusalError, Refused
from strata.regular_files import open_regular
from strata.tables import ResolvedScan, ScanPlan
from strata.tenants.budgets.memory_budget import LEAST_BYTES
from strata.tenants.builds.cache_writer import CacheWriter
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.output import HOT_GROUP_BYTES, too_large
from strata.tenants.builds.planning import Planner
from strata.tenants.builds.provenance import Provenance
from strata.tenants.builds.scan_pipeline import IN_FLIGHT_BYTES, ScanBuild
from strata.tenants.builds.state import (
    CRASHED,
    INTERRUPTED,
    Build,
    BuiltElsewhereError,
    Hashed,
    Written,
    discarding,
)
from strata.tenants.builds.work import CLEANUP_SECONDS, BuildWork
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.slots import Slots
from strata.tenants.retention.storage import BuildRoom, TenantStorage
from strata.tenants.shared.byte_stream import HOT_BYTES, Tail
from strata.tenants.shared.os_errors import NO_SPACE, error_name, refusal_of
from strata.tenants.shared.resources import SMALL_COST, Resources
from strata.tenants.stats.counters import TenantMetrics
from strata.work import AdmissionToken, Tier

HASH_BYTES = 8 * 1024 * 1024
"""Bytes of the blob that are hashed in one quantum: about 5 ms."""

COPIES = 2
"""Copies of a row group in memory: as it is cached, and as it is sent."""

MOST_IN_MEMORY = COPIES * IN_FLIGHT_BYTES + HOT_BYTES + HOT_GROUP_BYTES
"""Most bytes of memory one build reserves: row groups in flight, and the newest bytes kept for readers."""

log = structlog.get_logger(__name__)


class Order(Protocol):
    """What to build, and for which principal."""

    @property
    def provenance(self) -> Provenance:
        """The result's identity."""

    @property
    def executor(self) -> str:
        """The transform reference."""

    @property
    def name(self) -> str | None:
        """Name to point at the result, or None."""

    @property
    def principal(self) -> str:
        """Principal of the first request, who is charged for the build."""

    def begin(self, builder: Builder, build: Build) -> BuildRun[Any]:
        """Return the run of the build."""


OrderT = TypeVar("OrderT", bound=Order)


@attrs.frozen(eq=False)
class BuildRequest:
    """A scan to build, and for which principal; see :class:`Order`.

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

    def begin(self, builder: Builder, build: Build) -> BuildRun[Any]:
        """Return the run of the scan."""
        return _BuildRun(builder, build, self)


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
        storage: The room that the tenant has for results.
    """

    tenant: str
    prefix: str
    resources: Resources
    shard: CacheShard
    slots: dict[Tier, Slots]
    limits: TenantLimits
    metrics: TenantMetrics
    planner: Planner = attrs.field(init=False)
    storage: TenantStorage = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.planner = Planner(self.tenant, self.resources)
        self.storage = TenantStorage(self.tenant, self.resources, self.limits)

    def update(self, limits: TenantLimits) -> None:
        """Set the limits of later builds and resize the slots; running builds keep their limits and slots."""
        self.limits = self.storage.limits = limits
        interactive, bulk = self.slots[Tier.INTERACTIVE], self.slots[Tier.BULK]
        interactive.resize(limits.interactive_slots, limits.interactive_slots_per_principal)
        bulk.resize(limits.bulk_slots, limits.bulk_slots_per_principal)

    async def run(self, build: Build, request: Order) -> Callable[[], Awaitable[None]] | None:
        """Run ``build`` to its end and set its outcome, whatever it raises.

        Returns:
            A call that caches the build's segments, to be awaited after this; None if the build failed.
        """
        running = request.begin(self, build)
        outcome: ArtifactRecord | Refused = INTERRUPTED
        try:
            with build.scope, UnwrappedRefusals():
                outcome = await running.run()
            if build.scope.cancelled_caught:
                outcome = build.stopped
        except RefusalError as error:
            outcome = error.refused
        except OSError as error:  # of the blob store: unreadable table files are refusals
            log.error("results cannot be written", tenant=self.tenant, error=error_name(error))  # noqa: TRY400  # no bug
            outcome = refusal_of(error, NO_SPACE)
        except Exception as error:  # a bug in one build must not end the tenant's actor
            log.exception("build crashed", tenant=self.tenant, error=type(error).__name__)
            outcome = CRASHED
        finally:
            try:
                with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                    if isinstance(outcome, Refused):
                        await self._clean_up(running, outcome)
            finally:  # whatever the clean-up raised, nothing of the build stays held
                build.finish(outcome)
                self._count(outcome)
                running.close()
                if build.memory is not None:
                    build.memory.release()
        # Taken out of the run, which the call refers back to: no reference cycle is left behind.
        cache_segments, running.cache_segments = running.cache_segments, None
        return cache_segments

    def _count(self, outcome: ArtifactRecord | Refused) -> None:
        kind = outcome.code or outcome.reason.value if isinstance(outcome, Refused) else "ready"
        self.metrics.built(kind)
        if isinstance(outcome, Refused):
            self.metrics.note_refused(outcome, "build")

    async def _clean_up(self, running: BuildRun[Any], refused: Refused) -> None:
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


def _at_once(function: Callable[[], None]) -> None:
    function()


@attrs.define(eq=False)
class BuildRun(Generic[OrderT]):
    """One build while it runs, and what it has opened; of which kind, its subclass says.

    Attributes:
        builder: The tenant's builder.
        build: The build.
        request: What to build.
        writer: Writer of the blob, once open.
        record: The build's row in the metadata store, once written.
        build_id: Its id, from the moment on at which it may be in the store.
        pack: Writer of the cache pack, if the scan has one.
        cache_segments: Caches the segments, once the result is committed.
        when_quiet: Calls a function when no thread writes to the build's files; blocking.
        start: The build's token of :attr:`Resources.starts`, while it holds one.
        room: The bytes of disk that it has taken.
    """

    builder: Builder
    build: Build
    request: OrderT
    writer: BlobWriter | None = None
    record: BuildRecord | None = None
    build_id: str | None = None
    pack: PackWriter | None = None
    cache_segments: Callable[[], Awaitable[None]] | None = None
    when_quiet: Callable[[Callable[[], None]], None] = _at_once
    start: AdmissionToken | None = None
    room: BuildRoom = attrs.field(init=False)

    @room.default
    def _no_bytes(self) -> BuildRoom:
        return self.builder.storage.begin()

    async def run(self) -> ArtifactRecord:
        """Build the result and return its record.

        Raises:
            RefusalError: If the plan cannot be made, the result is too large, the disk is nearly full, a wait
                for a slot or memory or the scan itself takes too long, or a file cannot be read.
            OSError: If the blob cannot be written.
        """
        raise NotImplementedError

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

    async def _find_room(self, nbytes: int = 0) -> None:
        """Find room for the least that the result takes; unused results of the tenant make some.

        Raises:
            RefusalError: If there is none.
        """
        storage = self.builder.storage
        await storage.look()
        refused = await storage.make_room(nbytes, 1)
        if refused is not None:
            raise RefusalError(refused)

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

    async def _reserve_memory(self, tier: Tier, size: int) -> None:
        """Reserve the bytes the build will hold in flight.

        Raises:
            RefusalError: If they are not free within the tier's queue timeout.
        """
        self.build.memory = self.builder.resources.memory.queue(self.builder.tenant, size)
        if not self.build.memory.held:
            self._started()
        found = await self.build.memory.wait(self._queue_timeout(tier))
        if isinstance(found, Refused):
            raise RefusalError(found)

    def _queue_timeout(self, tier: Tier) -> float:
        limits = self.builder.limits
        return limits.interactive_queue_timeout if tier is Tier.INTERACTIVE else limits.bulk_queue_timeout

    async def _open_blob(self, head: bytes, wait: Callable[[], object]) -> BlobWriter:
        """Open the blob with ``head`` as its first bytes, record the build and admit it.

        Both happen in one call of a thread: either takes less time than the way there and back. The thread
        calls ``wait`` first.
        """
        builder, request = self.builder, self.request
        resources, build_id = builder.resources, builder.resources.new_id()
        self.build_id = build_id

        def begin() -> tuple[BlobWriter, int, BuildRecord]:
            wait()
            self.writer = writer = resources.blobs.begin(builder.prefix)
            writer.append((head,))
            descriptor = open_regular(writer.path)
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
            except BaseException:  # raised again: no other code closes it
                os.close(descriptor)
                raise
            resources.unended.forget(builder.tenant, record.build_id)  # of a build whose begin was in doubt
            if resources.is_elsewhere(record):
                self.build_id = None
                os.close(descriptor)
                raise BuiltElsewhereError(record)
            return writer, descriptor, record

        discard = discarding(resources.unended, builder.tenant)
        writer, descriptor, record = await resources.write(builder.tenant, begin, discard=discard)
        self.record, self.build.tail, self.build_id = record, Tail(descriptor), record.build_id
        self.build.admit(record)
        return writer

    async def _commit(self, work: BuildWork, written: Written) -> tuple[ArtifactRecord, BlobFacts]:
        """Hash and commit the blob, then finish the record together with its names.

        Raises:
            RefusalError: If the metadata store refuses the finished build.
            OSError: If the blob cannot be committed.
        """
        builder, writer, record = self.builder, self.writer, self.record
        assert writer is not None
        assert record is not None
        resources = builder.resources
        hash_more = partial(writer.hash_more, HASH_BYTES)
        while await work.run(hash_more, cost=HASH_BYTES, abandon=False):
            pass
        self.build.announce(Hashed(written.size, writer.sha256, written.rows))
        async with resources.blob_locks.holding(builder.prefix, writer.sha256):
            artifact, facts = await self._commit_held(work, written, writer, record)
        self.room.keep()
        return artifact, facts

    async def _commit_held(
        self, work: BuildWork, written: Written, writer: BlobWriter, record: BuildRecord
    ) -> tuple[ArtifactRecord, BlobFacts]:
        """Commit the hashed blob and its record; equal bytes are neither committed nor removed meanwhile."""
        builder, resources = self.builder, self.builder.resources
        await resources.note_bytes(builder.tenant, record.build_id, writer.sha256)
        facts = await resources.transfer(
            work.tenant,
            work.tier,
            writer.commit,
            cost=written.size if resources.remote_blobs else SMALL_COST,
            principal=work.principal,
            keep=True,
        )
        artifact = await resources.write(
            builder.tenant,
            resources.metadata.finish_build,
            builder.tenant,
            record.build_id,
            facts=facts,
            row_count=written.rows,
            arrow_schema=written.schema,
            names=self.build.take_names(),
        )
        if isinstance(artifact, Refused):
            raise RefusalError(artifact)
        return artifact, facts

    async def undo(self, refused: Refused) -> None:
        """Remove the files of a failed build and record the failure."""
        resources, tenant, leftovers = self.builder.resources, self.builder.tenant, [self.writer, self.pack]
        until = trio.current_effective_deadline()  # of the clean-up, which ends a wait for a hung disk, too
        aborts = [leftover.abort for leftover in leftovers if leftover is not None]
        for abort in aborts:
            # Not in the work pool, whose queue may be longer than the deadline. After a write that hangs: no
            # other thread may have a file closed under it.
            try:
                await resources.threads.disk.run(
                    tenant, partial(self.when_quiet, abort), keep=True, until=until
                )
            except RefusalError:  # the disk hangs: the file is removed when its write ends
                continue
            except OSError as error:  # the other file and the record are cleaned up all the same
                log.warning("file not removed", tenant=tenant, error=error_name(error))
        if self.build_id is not None:
            code = refused.code or refused.reason.value
            fail = partial(resources.metadata.fail_build, code=code, message=refused.detail)
            try:
                await resources.write(tenant, fail, tenant, self.build_id, until=until)
            except RefusalError:  # the store is down: it is noted when the store is back
                resources.unended.add(tenant, self.build_id, refused)
                log.warning("failed build not noted", tenant=tenant, code=code)

    def close(self) -> None:
        """Close the tail's descriptor (readers have their own) and give the start token back."""
        self._started()
        self.room.give_back()
        if self.build.tail is not None:
            self.build.tail.close()


@attrs.define(eq=False)
class _BuildRun(BuildRun[BuildRequest]):
    """The build of a scan."""

    async def run(self) -> ArtifactRecord:
        """Plan and scan; see :meth:`BuildRun.run`."""
        builder, build = self.builder, self.build
        limits, remote = builder.limits, self.request.scan.remote
        if not remote:  # else it waits for its store at first, and no other build for it
            await self._wait_to_start()
        plan = await builder.plan(self.request.scan, self.request.principal)
        if plan.min_bytes > limits.max_response_bytes:
            raise RefusalError(too_large(limits.max_response_bytes))
        tier = limits.tier(plan.estimated_bytes, len(plan.scan.arrow_schema))
        await self._find_room(plan.min_bytes)
        await self._take_slot(tier)
        await self._reserve_memory(tier, self._bytes_in_flight(plan))
        if self.start is None and not remote:
            await self._wait_to_start()
        # With hidden rows the part that is done would tell how many of them lie where.
        build.rows_planned = 0 if plan.scan.row_limited else plan.max_rows
        build.exact_rows = plan.exact_rows
        with trio.move_on_after(limits.scan_timeout):
            return await self._write(plan, tier, limits)
        detail = f"The scan did not end within {limits.scan_timeout:g} seconds (scan_timeout_seconds)."
        raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="scan_timeout"))

    def _bytes_in_flight(self, plan: ScanPlan) -> int:
        size = max(LEAST_BYTES, min(COPIES * plan.estimated_bytes, MOST_IN_MEMORY))
        return size + plan.totals.delete_bytes * min(self.builder.limits.fetch_parallelism, len(plan.files))

    async def _write(self, plan: ScanPlan, tier: Tier, limits: TenantLimits) -> ArtifactRecord:
        """Run the scan and commit its result."""
        builder, resources = self.builder, self.builder.resources
        work = BuildWork(
            resources.pool,
            builder.tenant,
            self.request.principal,
            tier,
            limits.fetch_timeout,
            resources.threads.network,
        )
        scan = ScanBuild(
            plan=plan,
            build=self.build,
            shard=builder.shard,
            work=work,
            limits=limits,
            disk=resources.threads.disk,
            started=self._started,
            room=self.room,
        )
        try:
            await scan.run(self._open_blob)
        finally:
            self.pack, self.when_quiet = scan.output.pack, scan.output.when_quiet
        self._started()  # for a scan without rows, which has not called it
        assert self.build.tail is not None
        self.build.tail.end()
        written = Written(scan.output.size, scan.rows, str(scan.plan.scan.arrow_schema))
        artifact, facts = await self._commit(work, written)
        builder.metrics.rows_built += scan.rows
        builder.metrics.bytes_built += scan.output.size
        self.cache_segments = CacheWriter(scan, facts, builder.shard).run
        return artifact

"""Make and remember the plans of one tenant's scans; concurrent scans of one snapshot share one planning."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from operator import attrgetter

import attrs
import trio
from cachetools import LRUCache

from strata.decisions import decided
from strata.outcomes import Reason, RefusalError, Refused
from strata.readers import READERS, ReaderManifests
from strata.tables import PlannedFiles, Planning, ResolvedScan, ScanPlan, Step, plan_step, too_many_files
from strata.tables.plan.manifest_source import HERE, ManifestSource
from strata.tenants.budgets.tenant_cache import TenantCache
from strata.tenants.shared.resources import SMALL_COST, Resources
from strata.tracing.spans import child
from strata.work import Tier

PLAN_BYTES = 16 * 1024 * 1024
"""Bytes of plans that a tenant remembers, some 20,000 files; the least recently used is forgotten."""

LARGE_BYTES = 1024 * 1024
"""Bytes of scans remembered to have too many files; the least recently used is forgotten."""

UNFINISHED = 2
"""Unfinished plannings a tenant remembers when their last caller has left; the least recently used is
forgotten."""

WAIT_SECONDS = 0.5
"""Seconds a caller waits for another caller's step before it starts the plan anew: the step may be reading
from a store that does not answer."""

_KEY_BYTES = 1024
"""Bytes of memory of a scan's key, besides the values of its filters."""

FILE_COST = 32 * 1024
"""Bytes that planning a file is charged as: those scanned in the same time, 50 microseconds."""


@attrs.frozen
class TooLarge:
    """What is remembered of a scan with too many files.

    Attributes:
        files: Files it has at least.
        nbytes: Bytes of memory of the scan's key.
    """

    files: int
    nbytes: int


@attrs.define(eq=False)
class _SharedPlanning:
    """A planning in progress, shared by all callers that want the plan.

    Attributes:
        planning: The planning; replaced by a new one when a step hangs.
        callers: Callers that wait for the plan.
        stepped: Set when the current step has ended.
    """

    planning: Planning
    callers: int = 0
    stepped: trio.Event = attrs.field(factory=trio.Event)

    def note_step(self) -> None:
        """Wake the callers that wait for the current step."""
        self.stepped.set()
        self.stepped = trio.Event()

    def step(self, planning: Planning, token: trio.lowlevel.TrioToken) -> Step:
        """Take a step in a worker thread, then wake the waiting callers, even if this caller has left."""
        found = None
        try:
            found = plan_step(planning)
            return found
        finally:
            if found is None or not found.busy:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(self.note_step)


@attrs.define(eq=False)
class Planner:
    """Makes plans in the work pool, one step a quantum; those of remote tables in network threads.

    Eight scans of one snapshot that start together make one plan: planning is Python code, which holds the
    interpreter's lock, and made eight times it would triple the time of every other request meanwhile. Each
    caller queues in the pool for its own principal, so none waits in another principal's queue; the caller
    whose turn comes takes the next step.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        plans: Recent plans.
        large: Scans recently refused for too many files.
        unfinished: Plannings whose callers have all left, continued by the next caller.
    """

    tenant: str
    resources: Resources
    plans: TenantCache[object, PlannedFiles] = attrs.field(init=False, repr=False)
    large: TenantCache[object, TooLarge] = attrs.field(init=False, repr=False)
    unfinished: LRUCache[object, _SharedPlanning] = attrs.field(
        factory=partial(LRUCache, UNFINISHED), repr=False
    )
    _running: dict[object, _SharedPlanning] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        remembered, weigh = self.resources.remembered, attrgetter("nbytes")
        self.plans = TenantCache(remembered, self.tenant, PLAN_BYTES, weigh)
        self.large = TenantCache(remembered, self.tenant, LARGE_BYTES, weigh)

    async def plan(self, scan: ResolvedScan, principal: str, seconds: float, max_files: int) -> ScanPlan:
        """Return the scan's plan, remembered or made now.

        Args:
            scan: The scan.
            principal: Principal that is charged.
            seconds: Seconds the planning may take (``plan_timeout_seconds``).
            max_files: Data files the plan may have (``max_tasks_per_scan``).

        Raises:
            RefusalError: TIMED_OUT after ``seconds``, TOO_LARGE beyond ``max_files``, DATA_UNREADABLE if a
                manifest cannot be read, UNSUPPORTED if a file has a format that is not read.
        """
        known = self._known(scan, max_files)
        if known is not None:
            decided("plan remembered", tenant=self.tenant, files=len(known.files))
            return known.for_scan(scan)
        plan = None
        with trio.move_on_after(seconds), child("plan") as span:
            plan = await self._make(scan, principal, seconds, max_files)
            span.set("strata.files", len(plan.files))
        if plan is None:
            raise RefusalError(_too_slow(seconds))
        decided(
            "scan planned",
            tenant=self.tenant,
            files=len(plan.files),
            rows=plan.max_rows,
            estimated_bytes=plan.estimated_bytes,
            remote=scan.remote,
        )
        return plan if plan.scan is scan else plan.for_scan(scan)

    def _known(self, scan: ResolvedScan, max_files: int) -> PlannedFiles | None:
        """Return the files if they are remembered.

        Raises:
            RefusalError: TOO_LARGE if the scan is known to have more than ``max_files`` data files.
        """
        key = _key_of(scan)
        known, large = self.plans.get(key), self.large.get(key)
        if known is None and key != scan.plan_key:  # the files of the scan without a limit are enough
            known = self.plans.get(scan.plan_key)
            known = None if known is not None and len(known.files) > max_files else known
        if (len(known.files) if known is not None else large.files if large is not None else 0) > max_files:
            raise RefusalError(too_many_files(max_files))
        return known

    async def _make(self, scan: ResolvedScan, principal: str, seconds: float, max_files: int) -> ScanPlan:
        key = (_key_of(scan), max_files)
        shared = self._running.get(key)
        if shared is None:
            source = _source(seconds)
            shared = self.unfinished.get(key) or _SharedPlanning(Planning(scan, max_files, source))
            self._running[key] = shared
            self.unfinished.pop(key, None)
        shared.callers += 1
        plan = None
        try:
            plan = await self._steps(shared, scan, principal, seconds, max_files)
        finally:
            shared.callers -= 1
            if not shared.callers:
                del self._running[key]
                if plan is None:
                    self.unfinished[key] = shared
        return plan

    async def _steps(
        self, shared: _SharedPlanning, scan: ResolvedScan, principal: str, seconds: float, max_files: int
    ) -> ScanPlan:
        """Take steps, or wait for another caller's, until the plan is made.

        Raises:
            RefusalError: If this caller's step was refused; the other callers take the step again.
        """
        planning = shared.planning
        token = trio.lowlevel.current_trio_token()
        while (known := self._known(scan, max_files)) is None:
            stepped, step = shared.stepped, partial(shared.step, planning, token)
            if scan.remote:  # a step waits for the store that has the manifests
                found = await self.resources.threads.network.run(self.tenant, step)
            else:
                found = await self.resources.pool.run(
                    self.tenant, Tier.INTERACTIVE, step, principal=principal, charge=_charged_bytes
                )
            if found.plan is not None:
                self.plans[_key_of(scan)] = found.plan.planned
                return found.plan
            if found.refused is not None:
                if found.refused.reason is Reason.TOO_LARGE:
                    self.large[_key_of(scan)] = TooLarge(max_files + 1, _KEY_BYTES + scan.literal_bytes)
                raise RefusalError(found.refused)
            if found.busy:
                with trio.move_on_after(WAIT_SECONDS) as waiting:
                    await stepped.wait()
                if waiting.cancelled_caught and shared.planning is planning:
                    shared.planning = Planning(scan, max_files, _source(seconds))
                planning = shared.planning
        return known.for_scan(scan)


def _key_of(scan: ResolvedScan) -> object:
    """Return the key of the files of a scan; with a limit that ends its planning they are others."""
    return scan.plan_key if scan.enough_rows is None else (scan.plan_key, scan.enough_rows)


def _too_slow(seconds: float) -> Refused:
    detail = f"Planning took longer than {seconds:g} seconds (plan_timeout_seconds)."
    return Refused(Reason.TIMED_OUT, detail, code="plan_timeout")


def _source(seconds: float) -> ManifestSource:
    """Return where manifests are parsed: in readers where there are any.

    Right after a start there is none for a second, which a plan need not wait for: our own decoder, which has
    bounds and no native code, does the same here.
    """
    return ReaderManifests(seconds, _too_slow(seconds)) if READERS.available and READERS.alive else HERE


def _charged_bytes(found: Step) -> int:
    """Return the bytes a step is charged as."""
    return SMALL_COST + FILE_COST * found.files

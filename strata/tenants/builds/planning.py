"""Make and remember the plans of one tenant's scans; concurrent scans of one snapshot share one planning."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import attrs
import trio
from cachetools import LRUCache

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import Planning, ResolvedScan, ScanPlan, Step, plan_step, too_many_files
from strata.tenants.shared.resources import SMALL_COST, Resources
from strata.work import Tier

PLANS = 128
"""Plans a tenant remembers, and scans known to have too many files; the least recently used is forgotten."""

UNFINISHED = 2
"""Unfinished plannings a tenant remembers when their last caller has left; the least recently used is
forgotten."""

WAIT_SECONDS = 0.5
"""Seconds a caller waits for another caller's step before it starts the plan anew: the step may be reading
from a store that does not answer."""

FILE_COST = 32 * 1024
"""Bytes that planning a file is charged as: those scanned in the same time, 50 microseconds."""


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
    """Makes plans in the work pool, one step a quantum.

    Eight scans of one snapshot that start together make one plan: planning is Python code, which holds the
    interpreter's lock, and made eight times it would triple the time of every other request meanwhile. Each
    caller queues in the pool for its own principal, so none waits in another principal's queue; the caller
    whose turn comes takes the next step.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        plans: Recent plans.
        large: Scans recently refused for too many files: how many they have at least.
        unfinished: Plannings whose callers have all left, continued by the next caller.
    """

    tenant: str
    resources: Resources
    plans: LRUCache[object, ScanPlan] = attrs.field(factory=partial(LRUCache, PLANS), repr=False)
    large: LRUCache[object, int] = attrs.field(factory=partial(LRUCache, PLANS), repr=False)
    unfinished: LRUCache[object, _SharedPlanning] = attrs.field(
        factory=partial(LRUCache, UNFINISHED), repr=False
    )
    _running: dict[object, _SharedPlanning] = attrs.field(init=False, factory=dict)

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
        plan = self._known(scan, max_files)
        if plan is None:
            with trio.move_on_after(seconds):
                plan = await self._make(scan, principal, max_files)
        if plan is None:
            detail = f"Planning took longer than {seconds:g} seconds (plan_timeout_seconds)."
            raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="plan_timeout"))
        return plan if plan.scan is scan else plan.for_scan(scan)

    def _known(self, scan: ResolvedScan, max_files: int) -> ScanPlan | None:
        """Return the plan if it is remembered.

        Raises:
            RefusalError: TOO_LARGE if the scan is known to have more than ``max_files`` data files.
        """
        known = self.plans.get(scan.plan_key)
        if (len(known.files) if known is not None else self.large.get(scan.plan_key) or 0) > max_files:
            raise RefusalError(too_many_files(max_files))
        return known

    async def _make(self, scan: ResolvedScan, principal: str, max_files: int) -> ScanPlan:
        key = (scan.plan_key, max_files)
        shared = self._running.get(key)
        if shared is None:
            shared = self.unfinished.get(key) or _SharedPlanning(Planning(scan, max_files))
            self._running[key] = shared
            self.unfinished.pop(key, None)
        shared.callers += 1
        plan = None
        try:
            plan = await self._steps(shared, scan, principal, max_files)
        finally:
            shared.callers -= 1
            if not shared.callers:
                del self._running[key]
                if plan is None:
                    self.unfinished[key] = shared
        return plan

    async def _steps(
        self, shared: _SharedPlanning, scan: ResolvedScan, principal: str, max_files: int
    ) -> ScanPlan:
        """Take steps, or wait for another caller's, until the plan is made.

        Raises:
            RefusalError: If this caller's step was refused; the other callers take the step again.
        """
        pool, planning = self.resources.pool, shared.planning
        token = trio.lowlevel.current_trio_token()
        while (known := self._known(scan, max_files)) is None:
            stepped, step = shared.stepped, partial(shared.step, planning, token)
            found = await pool.run(
                self.tenant, Tier.INTERACTIVE, step, principal=principal, charge=_charged_bytes
            )
            if found.plan is not None:
                self.plans[scan.plan_key] = found.plan
                return found.plan
            if found.refused is not None:
                if found.refused.reason is Reason.TOO_LARGE:
                    self.large[scan.plan_key] = max_files + 1
                raise RefusalError(found.refused)
            if found.busy:
                with trio.move_on_after(WAIT_SECONDS) as waiting:
                    await stepped.wait()
                if waiting.cancelled_caught and shared.planning is planning:
                    shared.planning = Planning(scan, max_files)
                planning = shared.planning
        return known


def _charged_bytes(found: Step) -> int:
    """Return the bytes a step is charged as."""
    return SMALL_COST + FILE_COST * found.files

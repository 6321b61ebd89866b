"""Plans of one tenant's scans: remembered, and made once for all who want the same at the same time."""

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
"""Plans an actor remembers, and scans of which it knows that they have too many files."""

UNFINISHED = 2
"""Plans that were given up half-way and are remembered as far as they were made."""

WAIT_SECONDS = 0.5
"""How long a step may take until another scan of the same begins a plan of its own: the thread may be reading
from a store that does not answer."""

FILE_COST = 32 * 1024
"""What looking at a file costs of a tenant's turns: bytes of a scan that takes as long, 50 microseconds."""


@attrs.define(eq=False)
class _Flight:
    """A plan that is being made.

    Attributes:
        planning: How far it is; that of a newcomer, where an earlier one hangs.
        wanted: How many wait for it.
        stepped: Set when the step that is taken now has ended.
    """

    planning: Planning
    wanted: int = 0
    stepped: trio.Event = attrs.field(factory=trio.Event)

    def note_step(self) -> None:
        """A step has ended."""
        self.stepped.set()
        self.stepped = trio.Event()

    def step(self, planning: Planning, token: trio.lowlevel.TrioToken) -> Step:
        """Take a step, and say so to those who wait for it, whether its caller does or not. In a thread."""
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
    """Makes plans in the work pool, a step at a time.

    Eight scans of one snapshot that begin together have one plan. Planning is Python code, which keeps the
    interpreter from the loop: made eight times over, everybody's requests take three times as long meanwhile.
    Each of those who wait has turns of its own in the pool, so nobody waits in another principal's; whose
    turn comes takes the next step.

    Attributes:
        tenant: Whose scans.
        resources: What the process lends it.
        plans: The plans of late.
        large: Of scans of late that had too many files: how many there may have been.
        unfinished: Plans that were given up, and may be asked for again.
    """

    tenant: str
    resources: Resources
    plans: LRUCache[object, ScanPlan] = attrs.field(factory=partial(LRUCache, PLANS), repr=False)
    large: LRUCache[object, int] = attrs.field(factory=partial(LRUCache, PLANS), repr=False)
    unfinished: LRUCache[object, _Flight] = attrs.field(factory=partial(LRUCache, UNFINISHED), repr=False)
    _flights: dict[object, _Flight] = attrs.field(init=False, factory=dict)

    async def plan(self, scan: ResolvedScan, principal: str, patience: float, most: int) -> ScanPlan:
        """Return the scan's plan, remembered or made, in turns of ``principal``.

        Args:
            scan: What is planned.
            principal: Who wants it.
            patience: Seconds it may take (``plan_timeout_seconds``).
            most: Data files it may have (``max_tasks_per_scan``).

        Raises:
            RefusalError: If it cannot be made, takes too long or has too many files.
        """
        plan = self._known(scan, most)
        if plan is None:
            with trio.move_on_after(patience):
                plan = await self._make(scan, principal, most)
        if plan is None:
            detail = f"Planning took longer than {patience:g} seconds (plan_timeout_seconds)."
            raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="plan_timeout"))
        return plan if plan.scan is scan else plan.for_scan(scan)

    def _known(self, scan: ResolvedScan, most: int) -> ScanPlan | None:
        """Return the plan if it is remembered.

        Raises:
            RefusalError: If it has too many files, as far as that is known.
        """
        known = self.plans.get(scan.plan_key)
        if (len(known.files) if known is not None else self.large.get(scan.plan_key) or 0) > most:
            raise RefusalError(too_many_files(most))
        return known

    async def _make(self, scan: ResolvedScan, principal: str, most: int) -> ScanPlan:
        key = (scan.plan_key, most)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = self.unfinished.get(key) or _Flight(Planning(scan, most))
            self.unfinished.pop(key, None)
        flight.wanted += 1
        plan = None
        try:
            plan = await self._steps(flight, scan, principal, most)
        finally:
            flight.wanted -= 1
            if not flight.wanted:
                del self._flights[key]
                if plan is None:
                    self.unfinished[key] = flight
        return plan

    async def _steps(self, flight: _Flight, scan: ResolvedScan, principal: str, most: int) -> ScanPlan:
        """Take steps, and wait for those that are being taken, until there is a plan.

        A refusal is one caller's: the next one tries for itself.
        """
        pool, planning = self.resources.pool, flight.planning
        token = trio.lowlevel.current_trio_token()
        while (known := self._known(scan, most)) is None:
            stepped, step = flight.stepped, partial(flight.step, planning, token)
            found = await pool.run(self.tenant, Tier.INTERACTIVE, step, principal=principal, charge=_took)
            if found.plan is not None:
                self.plans[scan.plan_key] = found.plan
                return found.plan
            if found.refused is not None:
                if found.refused.reason is Reason.TOO_LARGE:
                    self.large[scan.plan_key] = most + 1
                raise RefusalError(found.refused)
            if found.busy:
                with trio.move_on_after(WAIT_SECONDS) as waiting:
                    await stepped.wait()
                if waiting.cancelled_caught and flight.planning is planning:
                    flight.planning = Planning(scan, most)
                planning = flight.planning
        return known


def _took(found: Step) -> int:
    """Return what a step costs of the tenant's turns."""
    return SMALL_COST + FILE_COST * found.files

"""Plans of one tenant's scans: remembered, and made once for all who want the same at the same time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import attrs
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import Planning, ResolvedScan, ScanPlan, Step, plan_step
from strata.tenants.memory import Remembered
from strata.tenants.resources import SMALL_COST, Resources
from strata.work import Tier

PLANS = 128
"""Plans an actor remembers."""

WAIT_SECONDS = 0.5
"""How long a step may take until another scan of the same makes a plan of its own: the thread may be reading
from a store that does not answer."""

FILE_COST = 32 * 1024
"""What looking at a file costs of a tenant's turns: bytes of a scan that takes as long, 50 microseconds."""


@attrs.define(eq=False)
class _Flight:
    """A plan that is being made.

    Attributes:
        planning: How far it is.
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

    def step(self, planning: Planning, token: trio.lowlevel.TrioToken) -> Step | Refused:
        """Take a step, and say so to those who wait for it, whether its caller does or not. In a thread."""
        found = None
        try:
            found = plan_step(planning)
            return found
        finally:
            if not isinstance(found, Step) or not found.busy:
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
    """

    tenant: str
    resources: Resources
    plans: Remembered[object, ScanPlan] = attrs.field(factory=partial(Remembered, PLANS))
    _flights: dict[object, _Flight] = attrs.field(init=False, factory=dict)

    async def plan(self, scan: ResolvedScan, principal: str, patience: float, most: int) -> ScanPlan:
        """Return the scan's plan, remembered or made, in turns of ``principal``.

        Args:
            scan: What is planned.
            principal: Who wants it.
            patience: Seconds it may take (``plan_timeout_seconds``).
            most: Data files at which making it is given up (``max_tasks_per_scan``). One that is remembered,
                or was begun under another limit, may have more.

        Raises:
            RefusalError: If it cannot be made, or takes too long.
        """
        known = self.plans.get(scan.plan_key)
        if known is not None:
            return known.for_scan(scan)
        plan = None
        with trio.move_on_after(patience):
            plan = await self._make(scan, principal, most)
        if plan is None:
            detail = f"Planning took longer than {patience:g} seconds (plan_timeout_seconds)."
            raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="plan_timeout"))
        return plan if plan.scan is scan else plan.for_scan(scan)

    async def _make(self, scan: ResolvedScan, principal: str, most: int) -> ScanPlan:
        flight = self._flights.get(scan.plan_key)
        if flight is None:
            flight = self._flights[scan.plan_key] = _Flight(Planning(scan, most))
        flight.wanted += 1
        try:
            while (plan := await self._go_on(flight, principal, partial(Planning, scan, most))) is None:
                pass
        finally:
            flight.wanted -= 1
            if not flight.wanted:
                del self._flights[scan.plan_key]
        self.plans.put(scan.plan_key, plan)
        return plan

    async def _go_on(
        self, flight: _Flight, principal: str, another: Callable[[], Planning]
    ) -> ScanPlan | None:
        """Take the next step, or wait for the one that is being taken; if that hangs, begin another planning.

        A refusal is one caller's: the next one tries for itself.
        """
        planning, stepped = flight.planning, flight.stepped
        step = partial(flight.step, planning, trio.lowlevel.current_trio_token())
        pool = self.resources.pool
        found = await pool.run(self.tenant, Tier.INTERACTIVE, step, principal=principal, charge=_took)
        if isinstance(found, Refused):
            raise RefusalError(found)
        if found.busy:
            with trio.move_on_after(WAIT_SECONDS) as waiting:
                await stepped.wait()
            if waiting.cancelled_caught and flight.planning is planning:
                flight.planning = another()
        return found.plan


def _took(found: Step | Refused) -> int | None:
    """Return what a step costs of the tenant's turns."""
    return None if isinstance(found, Refused) else SMALL_COST + FILE_COST * found.files

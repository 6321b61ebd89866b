"""Plans of one tenant's scans: remembered, and made once for all who want the same at the same time."""

from __future__ import annotations

import threading
from functools import partial

import attrs
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import ResolvedScan, ScanPlan, plan_files
from strata.tenants.memory import Remembered
from strata.tenants.resources import Resources
from strata.work import Tier

PLANS = 128
"""Plans an actor remembers."""

WAIT_SECONDS = 0.5
"""How long a thread waits for another one's plan before it makes its own: it has a slot of the pool
meanwhile, and the other one may be reading from a store that does not answer."""


@attrs.define(eq=False)
class _Flight:
    """A plan that is being made.

    Attributes:
        wanted: How many wait for it.
        made: The plan, once it is there.
        lock: Held by the thread that makes it.
    """

    wanted: int = 0
    made: ScanPlan | None = None
    lock: threading.Lock = attrs.field(factory=threading.Lock)

    def make(self, scan: ResolvedScan) -> ScanPlan | Refused:
        """Make the plan, unless another thread has; in a worker thread.

        A refusal is one caller's: the next one tries for itself.
        """
        alone = self.lock.acquire(timeout=WAIT_SECONDS)
        try:
            if self.made is None:
                plan = plan_files(scan)
                if isinstance(plan, Refused):
                    return plan
                self.made = plan
            return self.made
        finally:
            if alone:
                self.lock.release()


@attrs.define(eq=False)
class Planner:
    """Makes plans in the work pool.

    Eight scans of one snapshot that begin together have one plan. Planning is Python code, which keeps the
    interpreter from the loop: made eight times over, everybody's requests take three times as long meanwhile.
    Each of those who wait has a turn of its own in the pool, so nobody waits in another principal's.

    Attributes:
        tenant: Whose scans.
        resources: What the process lends it.
        plans: The plans of late.
    """

    tenant: str
    resources: Resources
    plans: Remembered[object, ScanPlan] = attrs.field(factory=partial(Remembered, PLANS))
    _flights: dict[object, _Flight] = attrs.field(init=False, factory=dict)

    async def plan(self, scan: ResolvedScan, principal: str, patience: float) -> ScanPlan:
        """Return the scan's plan, remembered or made, in a turn of ``principal``.

        Raises:
            RefusalError: If it cannot be made, or not within ``patience`` seconds (``plan_timeout_seconds``).
        """
        known = self.plans.get(scan.plan_key)
        if known is not None:
            return known.for_scan(scan)
        plan = None
        with trio.move_on_after(patience):
            plan = await self._make(scan, principal)
        if plan is None:
            detail = f"Planning took longer than {patience:g} seconds (plan_timeout_seconds)."
            raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="plan_timeout"))
        return plan if plan.scan is scan else plan.for_scan(scan)

    async def _make(self, scan: ResolvedScan, principal: str) -> ScanPlan:
        flight = self._flights.setdefault(scan.plan_key, _Flight())
        flight.wanted += 1
        try:
            make = partial(flight.make, scan)
            plan = await self.resources.pool.run(self.tenant, Tier.INTERACTIVE, make, principal=principal)
        finally:
            flight.wanted -= 1
            if not flight.wanted:
                del self._flights[scan.plan_key]
        if isinstance(plan, Refused):
            raise RefusalError(plan)
        self.plans.put(scan.plan_key, plan)
        return plan

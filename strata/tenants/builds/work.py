"""The work pool as one build uses it: every quantum is charged to its tenant, principal and tier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.shared.resources import SMALL_COST
from strata.work import Tier, WorkPool

T = TypeVar("T")

CLEANUP_SECONDS = 10
"""Seconds a failed or cancelled build may take to remove its files. What is left then is removed at a later
start."""


@attrs.frozen(eq=False)
class BuildWork:
    """Runs the quanta of one build in the work pool.

    Attributes:
        pool: The process's work pool.
        tenant: Tenant that is charged.
        principal: Principal that is charged within the tenant.
        tier: Interactive or bulk.
        fetch_timeout: Seconds a quantum that reads rows may take, its wait in the queue included
            (``fetch_timeout_seconds``).
    """

    pool: WorkPool
    tenant: str
    principal: str
    tier: Tier
    fetch_timeout: float

    async def run(
        self,
        quantum: Callable[[], T],
        *,
        cost: int = SMALL_COST,
        abandon: bool = True,
        urgent: bool = False,
        charge: Callable[[T], int | None] | None = None,
    ) -> T:
        """Run a blocking quantum and return its result; see :meth:`strata.work.WorkPool.run`."""
        return await self.pool.run(
            self.tenant,
            self.tier,
            quantum,
            cost=cost,
            abandon=abandon,
            urgent=urgent,
            principal=self.principal,
            charge=charge,
        )

    async def fetch(
        self,
        quantum: Callable[[], T],
        *,
        cost: int,
        abandon: bool = True,
        charge: Callable[[T], int | None] | None = None,
    ) -> T:
        """Run a quantum that reads rows, within :attr:`fetch_timeout`.

        Raises:
            RefusalError: TIMED_OUT (``fetch_timeout``) if the quantum has not returned by then.
        """
        with trio.move_on_after(self.fetch_timeout):
            return await self.run(quantum, cost=cost, abandon=abandon, charge=charge)
        seconds = f"{self.fetch_timeout:g} seconds"
        detail = f"Rows of a file were not read within {seconds} (fetch_timeout_seconds)."
        raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="fetch_timeout"))

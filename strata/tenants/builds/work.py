"""The work pool as one build uses it: every quantum is charged to its tenant, principal and tier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.shared.resources import SMALL_COST
from strata.tenants.shared.thread_groups import ThreadGroups
from strata.tracing.spans import child
from strata.work import Tier, WorkPool
from strata.work.waiting_threads import WaitingThreads

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
        network: Threads for reads of remote files.
    """

    pool: WorkPool
    tenant: str
    principal: str
    tier: Tier
    fetch_timeout: float
    network: WaitingThreads = attrs.field(factory=lambda: ThreadGroups().network)

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
        with child("quantum") as span:
            span.set("strata.tier", self.tier.value)
            span.set("strata.cost_bytes", cost)
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
        remote: bool = False,
    ) -> T:
        """Run a quantum that reads rows, within :attr:`fetch_timeout`; a remote one in a network thread.

        Raises:
            RefusalError: TIMED_OUT (``fetch_timeout``) if the quantum has not returned by then.
        """
        with trio.move_on_after(self.fetch_timeout):
            if remote:
                with child("quantum") as span:
                    span.set("strata.remote", value=True)
                    return await self.network.run(self.tenant, quantum)
            return await self.run(quantum, cost=cost, abandon=abandon, charge=charge)
        seconds = f"{self.fetch_timeout:g} seconds"
        detail = f"Rows of a file were not read within {seconds} (fetch_timeout_seconds)."
        raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="fetch_timeout"))

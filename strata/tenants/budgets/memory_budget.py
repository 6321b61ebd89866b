"""The memory that builds of all tenants hold in flight: reserved before it is used, and shared fairly."""

from __future__ import annotations

import attrs
import trio
from cachetools import LRUCache

from strata.outcomes import Reason, Refused
from strata.tenants.budgets.machine import machine_bytes
from strata.tenants.limits.retry_after import RetryAfterEstimator
from strata.tenants.limits.slots import Slots

SPARE = 3
"""A tenant may reserve at most ``SPARE`` times what it leaves to others: 3/4 of all when it is alone."""

LEAST_BYTES = 64 * 1024
"""Bytes that the smallest build reserves."""

SHARE_OF_MACHINE = 4
"""A budget that is not set is 1/``SHARE_OF_MACHINE`` of the machine's memory."""

TENANTS_REMEMBERED = 1000
"""Tenants whose last Retry-After is kept; the least recently refused one goes."""

BODIES, REMEMBERED, TABLES = 8, 8, 8
"""One part in this many of the budget is for request bodies, for what tenants remember of their results, and
for parsed files of tables; the rest is for builds."""


@attrs.frozen
class MemoryParts:
    """The bytes of each use of ``memory_budget_bytes``. None takes from another.

    Attributes:
        builds: Rows in flight of all builds.
        bodies: Request bodies of all tenants.
        remembered: Records, plans and small results that all tenants keep for later requests.
        tables: Parsed files of all tables: metadata, manifests, footers and deletes.
    """

    builds: int
    bodies: int
    remembered: int
    tables: int

    @classmethod
    def of(cls, total: int) -> MemoryParts:
        """Return the parts of a budget of ``total`` bytes."""
        bodies, remembered, tables = total // BODIES, total // REMEMBERED, total // TABLES
        return cls(total - bodies - remembered - tables, bodies, remembered, tables)


def default_budget() -> int:
    """Return the bytes of a budget that is not set: a share of the memory that this process may use."""
    return machine_bytes() // SHARE_OF_MACHINE


class MemoryBudget(Slots):
    """Bytes in place of slots, and tenants in place of principals.

    Args:
        total: Bytes of all builds together. A single build may be larger, if it is alone.
    """

    def __init__(self, total: int) -> None:
        super().__init__("memory_budget_bytes", total, spare=SPARE)
        self._estimators: LRUCache[str, RetryAfterEstimator] = LRUCache(TENANTS_REMEMBERED)

    def refusal(self, principals: list[str], waited: float) -> Refused:
        """Return the refusal of a tenant that waited in vain: UNAVAILABLE.

        It tells of the tenant's own past alone, and nothing of other tenants.
        """
        now, tenant = trio.current_time(), principals[0]
        interval = self._shares.estimator.interval(now, tenant) or waited
        estimator = self._estimators.setdefault(tenant, RetryAfterEstimator())
        detail = f"The server had no memory to spare for this scan within {waited:g} seconds ({self.name})."
        seconds = estimator.seconds(now, interval, interval)
        return Refused(Reason.UNAVAILABLE, detail, self.name, seconds)

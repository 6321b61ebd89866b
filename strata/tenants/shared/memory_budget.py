"""The memory that builds of all tenants hold in flight: reserved before it is used, and shared fairly."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from cachetools import LRUCache

from strata.outcomes import Reason, Refused
from strata.tenants.limits.retry_after import RetryAfterEstimator
from strata.tenants.limits.slots import Slots

SPARE = 3
"""A tenant may reserve at most ``SPARE`` times what it leaves to others: 3/4 of all when it is alone."""

LEAST_BYTES = 64 * 1024
"""Bytes that the smallest build reserves."""

SHARE_OF_MACHINE = 4
"""Builds may hold 1/``SHARE_OF_MACHINE`` of the machine's memory, unless a budget is set."""

TENANTS_REMEMBERED = 1000
"""Tenants whose last Retry-After is kept; the least recently refused one goes."""

_CGROUP = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


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


def machine_bytes(root: Path = Path("/")) -> int:
    """Return the bytes of memory of the machine, or of this process's control group where that has less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue  # not this version of control groups
        if text.isdigit():  # "max" is no limit
            found = min(found, int(text))
    return found

"""Memory that builds of all tenants hold in flight: reserved before it is used, and shared in turn."""

from __future__ import annotations

import os
from pathlib import Path

import trio
from cachetools import LRUCache

from strata.outcomes import Reason, Refused
from strata.tenants.limits.fair_slots import FairShares
from strata.tenants.limits.retry_after import Promises
from strata.tenants.limits.slots import Slots

SPARE = 3
"""A tenant may reserve so many times what it leaves to others: three quarters of all, when it is alone."""

LEAST_BYTES = 64 * 1024
"""Reserved by the smallest build."""

SHARE_OF_MACHINE = 4
"""Of the machine's memory, builds may hold one part in so many, unless a budget is set."""

TENANTS_REMEMBERED = 1000

_CGROUP = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


class MemoryBudget(Slots):
    """Bytes in place of slots, and tenants in place of principals.

    Args:
        total: Bytes of all builds together. A single build may be larger, if it is alone.
    """

    def __init__(self, total: int) -> None:
        super().__init__("memory_budget_bytes", total)
        self._turns = FairShares(total, spare=SPARE)
        self._comebacks: LRUCache[str, Promises] = LRUCache(TENANTS_REMEMBERED)

    def refusal(self, principals: list[str], waited: float) -> Refused:
        """Return what to tell a tenant that waited in vain: out of its own past, and nothing of others'."""
        now, tenant = trio.current_time(), principals[0]
        interval = self._turns.drain.interval(now, tenant) or waited
        promises = self._comebacks.get(tenant) or Promises()
        self._comebacks[tenant] = promises
        detail = f"The server had no memory to spare for this scan within {waited:g} seconds ({self.name})."
        seconds = promises.seconds(now, interval, interval)
        return Refused(Reason.UNAVAILABLE, detail, self.name, seconds)


def machine_bytes(root: Path = Path("/")) -> int:
    """Return the memory this process may have: the machine's, or less where its control group has a limit."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue  # no such kind of control group
        if text.isdigit():  # "max" is none
            found = min(found, int(text))
    return found

"""Measure how long a scrape of many active tenants takes, and how long it blocks the event loop.

``python bench/metrics.py [TENANTS]``. A block is measured in processor time of the loop's thread, which
excludes other processes on the machine, and in real time, which includes them.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import trio

from strata.observability.metrics import expose
from strata.tenants import Registry, TenantLimits
from strata.tenants.lifecycle.registry import Tenant
from strata.tenants.limits.slots import Slots
from strata.tenants.stats.counters import TenantMetrics
from strata.work import Tier, WorkPool

ROUNDS = 20


def busy_tenant(name: str) -> Tenant:
    """Return a tenant whose every counter has counted something."""
    counted = TenantMetrics(hits=1, misses=1)
    for number in range(5):
        counted.requested(200 + 100 * (number % 3), 1_000_000, 0.1)
        counted.answered(f"Question{number}", "ok")
        counted.refused(f"reason_{number}")
    counted.built("ready")
    for tier in Tier:
        counted.waited(tier.value, 0.1)
    slots = {tier: Slots(tier.value, 8) for tier in Tier}
    cache = SimpleNamespace(hits=1, misses=1, evictions=1, bytes=1)
    actor = SimpleNamespace(builder=SimpleNamespace(slots=slots), cache=cache)
    return Tenant(name, counted, actor=actor)


async def measure(count: int) -> dict[str, float]:
    """Return the milliseconds of a scrape, and those of its longest slice."""
    registry = Registry(
        resources=SimpleNamespace(pool=WorkPool(1)),
        limits=lambda _tenant: TenantLimits(), max_tenants=count, mailbox_size=1, max_crashes=1,
        crash_window=60, probe=lambda: True,
    )  # fmt: skip
    for number in range(count):
        registry._tenants[f"tenant-{number}"] = busy_tenant(f"tenant-{number}")  # noqa: SLF001  # no actors run
    longest, longest_real, took, size = 0.0, 0.0, [], 0

    async def watch() -> None:
        nonlocal longest, longest_real
        while True:
            before, before_real = time.thread_time(), time.perf_counter()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.thread_time() - before)
            longest_real = max(longest_real, time.perf_counter() - before_real)

    for _ in range(ROUNDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            began = time.perf_counter()
            text, _type = await expose(registry, "")
            took.append(time.perf_counter() - began)
            size = len(text)
            nursery.cancel_scope.cancel()
    return {
        "tenants": count,
        "bytes": size,
        "median_ms": round(sorted(took)[ROUNDS // 2] * 1000, 1),
        "worst_ms": round(max(took) * 1000, 1),
        "longest_hold_cpu_ms": round(longest * 1000, 1),
        "longest_hold_ms": round(longest_real * 1000, 1),
    }


if __name__ == "__main__":
    print(json.dumps(trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))

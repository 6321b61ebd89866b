"""Measure how long a scrape of many active tenants takes, and how long the event loop is held meanwhile.

``python bench/metrics.py [TENANTS]``. A task passes through the loop without a pause, so that the thread that
encodes the page has half of the interpreter at best. A hold is the time of one pass: in processor time of the
loop's thread (other threads and processes are no part of it) and in real time (of which they are). ``alone``
is without a scrape: what the machine does. Garbage collection and switch interval are as in ``strata serve``.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import trio

from strata.cli.main import SWITCH_SECONDS
from strata.observability.metrics import expose
from strata.server import process
from strata.tenants import Registry, TenantLimits
from strata.tenants.lifecycle.registry import Tenant
from strata.tenants.limits.slots import Slots
from strata.tenants.shared.thread_groups import ThreadGroups
from strata.tenants.stats.counters import TenantMetrics
from strata.work import Tier, WorkPool

ROUNDS = 10

ALONE_SECONDS = 5
"""Time of the measurement without a scrape."""

ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus 2.42 sends."""


def busy_tenant(name: str) -> Tenant:
    """Return a tenant whose counters have all counted something."""
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
    """Return milliseconds of a scrape, and of the longest pass of the loop during one."""
    registry = Registry(
        resources=SimpleNamespace(
            pool=WorkPool(1), threads=ThreadGroups(), stored={}, disk_space=None, accesses=None
        ),
        limits=lambda _tenant: TenantLimits(), max_tenants=count, mailbox_size=1, max_crashes=1,
        crash_window=60, probe=lambda: True,
    )  # fmt: skip
    for number in range(count):
        registry._tenants[f"tenant-{number}"] = busy_tenant(f"tenant-{number}")  # noqa: SLF001  # no actors run
    process.begin()
    sys.setswitchinterval(SWITCH_SECONDS)
    took, cpu, real, alone = [], [], [], []
    for _ in range(ROUNDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, cpu, real)
            began = time.perf_counter()
            text, _type = await expose(registry, ACCEPT)
            took.append(time.perf_counter() - began)
            nursery.cancel_scope.cancel()
    with trio.move_on_after(ALONE_SECONDS):
        await watch([], alone)
    return {
        "tenants": count,
        "bytes": len(text),
        "median_ms": round(sorted(took)[ROUNDS // 2] * 1000, 1),
        "worst_ms": round(max(took) * 1000, 1),
        "longest_hold_cpu_ms": round(max(cpu) * 1000, 1),
        "longest_hold_ms": round(max(real) * 1000, 1),
        "longest_hold_ms_alone": round(max(alone) * 1000, 1),
        "p999_hold_ms": round(sorted(real)[len(real) * 999 // 1000] * 1000, 2),
        "p999_hold_ms_alone": round(sorted(alone)[len(alone) * 999 // 1000] * 1000, 2),
    }


async def watch(cpu: list[float], real: list[float]) -> None:
    """Add the seconds of each pass through the loop, for ever."""
    while True:
        before, before_real = time.thread_time(), time.perf_counter()
        await trio.lowlevel.checkpoint()
        cpu.append(time.thread_time() - before)
        real.append(time.perf_counter() - before_real)


if __name__ == "__main__":
    print(json.dumps(trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))

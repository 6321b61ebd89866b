"""Copy the counters of all tenants and of the process, on the event loop, a few tenants at a time.

The copy is encoded in a thread while the actors go on counting. It consists of flat tuples of strings and
numbers, which the garbage collector ceases to track at first sight: with copies of the actors' own objects
every fourth scrape of 1,000 tenants started a full collection, which held the loop for 20 ms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import attrs

from strata.observability import families as f
from strata.observability import stderr_queue
from strata.observability.families import Family
from strata.readers import READERS
from strata.tenants import Registry
from strata.tenants.budgets.cache_sharing import FLOW
from strata.tenants.lifecycle.handle import Tenant
from strata.tenants.stats.counters import TenantMetrics
from strata.tenants.stats.histogram import Histogram
from strata.tenants.stats.runtime import RuntimeStats
from strata.work.fairness import jain_index

OTHER = "other"
"""Label of the sum of all tenants without series of their own. A tenant of that id is in the sum, too."""

SLICE = 16
"""Tenants copied between two checkpoints: 0.4 ms, and 3 ms with a collection of young garbage."""

Row = tuple[Any, ...]
"""Label values in the family's order, then the value; of a histogram its sum, then each bucket's count."""


@attrs.define(eq=False)
class _Present:
    """What a tenant, or several, hold at this moment."""

    slots: dict[str, tuple[int, int, int]] = attrs.field(factory=dict)
    cache_bytes: int = 0

    def add(self, found: Tenant) -> TenantMetrics | None:
        """Add what ``found`` holds; returns the counters of its open cache."""
        actor = found.actor
        if actor is None or actor.builder is None:
            return None
        for tier, held in actor.builder.slots.items():
            used, total, waiting = self.slots.get(tier.value, (0, 0, 0))
            self.slots[tier.value] = (used + held.used, total + held.total, waiting + held.waiting)
        cache = actor.cache
        if cache is None:
            return None
        self.cache_bytes += cache.bytes
        return TenantMetrics(
            cache_hits=cache.hits, cache_misses=cache.misses, cache_evictions=cache.evictions
        )


class Snapshot:
    """Counters of one scrape.

    Attributes:
        rows: Samples by family; families without any are left out.
    """

    def __init__(self) -> None:
        self.rows: defaultdict[Family, list[Row]] = defaultdict(list)

    def take(self, registry: Registry) -> Iterator[None]:
        """Copy the counters of ``registry``; other tasks may run at each yield.

        A tenant that goes between two yields is still in the list of tenants taken at the start, and what it
        adds to the registry's sum of tenants gone is not in the copy of that sum: it is counted once.
        """
        tenants, others, rest = list(registry.tenants()), TenantMetrics(), _Present()
        others.add(registry.others)
        self._process(registry, tenants)
        for start in range(0, len(tenants), SLICE):
            yield
            for found in tenants[start : start + SLICE]:
                if found.named and found.id != OTHER:
                    present = _Present()
                    self._tenant(found.id, found.metrics, present.add(found), present)
                    continue
                others.add(found.metrics)
                cache = rest.add(found)
                if cache is not None:
                    others.add(cache)
        yield
        self._tenant(OTHER, others, None, rest)

    def _tenant(self, name: str, had: TenantMetrics, cache: TenantMetrics | None, now: _Present) -> None:
        add = self._add
        for status, count in had.requests.items():
            add(f.REQUESTS, name, status, count)
        for (kind, outcome), count in had.questions.items():
            add(f.QUESTIONS, name, kind, outcome, count)
        for code, count in had.refusals.items():
            add(f.REFUSALS, name, code, count)
        for outcome, count in had.builds.items():
            add(f.BUILDS, name, outcome, count)
        for tier, histogram in had.queue_wait.items():
            add(f.QUEUE_WAIT, name, tier, *_of(histogram))
        for histogram in had.streams.values():
            add(f.STREAMS, name, *_of(histogram))
        add(f.SENT, name, had.bytes_sent)
        add(f.DENIED, name, had.denied)
        add(f.RESULT_ROWS, name, had.rows_built)
        add(f.RESULT_BYTES, name, had.bytes_built)
        add(f.MATERIALIZATIONS, name, "yes", had.hits)
        add(f.MATERIALIZATIONS, name, "no", had.misses)
        add(f.RESTARTS, name, had.restarts)
        hits, misses, evictions = had.cache_hits, had.cache_misses, had.cache_evictions
        if cache is not None:
            hits, misses = hits + cache.cache_hits, misses + cache.cache_misses
            evictions += cache.cache_evictions
        add(f.LOOKUPS, name, "yes", hits)
        add(f.LOOKUPS, name, "no", misses)
        add(f.EVICTIONS, name, evictions)
        add(f.CACHE_BYTES, name, now.cache_bytes)
        for tier, (used, total, waiting) in now.slots.items():
            add(f.SLOTS_IN_USE, name, tier, used)
            add(f.SLOTS, name, tier, total)
            add(f.SLOTS_WAITING, name, tier, waiting)

    def _process(self, registry: Registry, tenants: list[Tenant]) -> None:
        """Copy what belongs to the process, the work pool's queue by tenant included."""
        add = self._add
        states: dict[str, int] = {}
        for found in tenants:
            states[found.state.value] = states.get(found.state.value, 0) + 1
        for state, count in states.items():
            add(f.TENANTS, state, count)
        pool = registry.resources.pool
        add(f.QUANTA, "running", pool.running)
        add(f.QUANTA, "waiting", pool.waiting)
        add(f.QUANTA, "hung", pool.hung.total())
        for name, counts in registry.resources.threads.counts().items():
            add(f.THREADS, name, "running", counts.running)
            add(f.THREADS, name, "waiting", counts.waiting)
            add(f.THREADS, name, "hung", counts.hung)
            add(f.THREADS_REFUSED, name, counts.refusals)
        add(f.DEFICIT, pool.largest_deficit)
        served = [nbytes for flow, nbytes in pool.served_bytes().items() if flow != FLOW]
        add(f.JAIN, jain_index(served))
        add(f.OLDEST_WAIT, pool.oldest_wait)
        add(f.BULK_LIMIT, pool.bulk_limit)
        queued, named = {OTHER: 0}, {found.id for found in tenants if found.named}
        for flow, nbytes in pool.queued_bytes().items():
            name = flow if flow in named else OTHER
            queued[name] = queued.get(name, 0) + nbytes
        for name, nbytes in queued.items():
            add(f.QUEUED, name, nbytes)
        self._storage(registry, named)
        if registry.sharing is not None:
            add(f.BUDGET, registry.sharing.budget.total)
            add(f.BUDGET_HELD, registry.sharing.budget.held)
        add(f.LOG_DROPPED, stderr_queue.dropped())
        self._server(registry.runtime_stats)

    def _storage(self, registry: Registry, named: Collection[str]) -> None:
        """Copy the bytes that tenants keep, and the state of the disk."""
        stored = {OTHER: 0}
        for tenant, nbytes in registry.resources.stored.items():
            name = tenant if tenant in named else OTHER
            stored[name] = stored.get(name, 0) + nbytes
        for name, nbytes in stored.items():
            self._add(f.STORED_BYTES, name, nbytes)
        audit = registry.resources.accesses
        if audit is not None:
            self._add(f.AUDITED, "written", audit.written)
            self._add(f.AUDITED, "dropped", audit.dropped)
            self._add(f.AUDIT_WAITING, audit.waiting)
        disk = registry.resources.disk_space
        if disk is not None:
            self._add(f.DISK_FREE, disk.free)
            self._add(f.DISK_RESERVE, disk.reserve)

    def _server(self, stats: RuntimeStats) -> None:
        """Copy the counters of the loop, of connections and of background tasks."""
        add = self._add
        add(f.LOOP_LAG, *_of(stats.lag))
        if (expires := stats.certificate_expires()) is not None:
            add(f.CERTIFICATE, expires)
        add(f.LONG_STEPS, stats.long_steps.count)
        add(f.LONGEST_STEP, stats.long_steps.longest)
        add(f.READERS, READERS.alive)
        add(f.READER_RETRIES, READERS.retries)
        add(f.READER_PEAK, READERS.peak_bytes())
        for reason, count in READERS.ends.copy().items():
            add(f.READER_ENDS, reason, count)
        for kind, count in READERS.steps.copy().items():
            add(f.READER_STEPS, kind, count)
        for state, count in stats.requests().items():
            add(f.ADMISSION, state, count)
        for state, count in stats.connections().items():
            add(f.CONNECTIONS, state, count)
        for reason, count in stats.cut.items():
            add(f.CONNECTIONS_CUT, reason.replace(" ", "_").replace(":", ""), count)
        for reason, count in stats.unidentified.items():
            add(f.UNIDENTIFIED, reason, count)
        for task, count in stats.failures.items():
            add(f.BACKGROUND_FAILURES, task, count)
        for outcome, count in stats.spans().items():
            add(f.SPANS, outcome, count)

    def _add(self, family: Family, *row: str | float) -> None:
        self.rows[family].append(row)


def _of(histogram: Histogram) -> tuple[float, ...]:
    return (histogram.sum, *histogram.counts)

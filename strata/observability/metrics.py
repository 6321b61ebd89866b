"""Prometheus metrics, read off the live actors when somebody asks; there is no second set of counters.

A tenant that is live has series of its own, up to ``metrics_max_tenants``; what happened in all others, those
that are gone included, is summed under the tenant ``other``. No label's value comes from a request but the
tenant's id, which the proxy vouches for. The page is written a few tenants at a time, so that a scrape holds
up nobody.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import trio

from strata.observability import families as f
from strata.observability.exposition import Exposition, labelled, negotiate
from strata.tenants import Registry
from strata.tenants.lifecycle.handle import Tenant
from strata.tenants.shared.cache_sharing import FLOW
from strata.tenants.stats.counters import TenantMetrics
from strata.work.fairness import jain_index

OTHER = "other"
"""The tenant of everything that has no series of its own. One of that very name is in it, too."""

SLICE = 16
"""Tenants that are written in one go; about a millisecond."""


@attrs.define(eq=False)
class _Moment:
    """What a tenant holds at the moment."""

    slots: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    waiting: dict[str, int] = attrs.field(factory=dict)
    cache_bytes: int = 0

    def add(self, found: Tenant) -> TenantMetrics | None:
        """Count what ``found`` holds; returns the counters of its open cache."""
        actor = found.actor
        if actor is None or actor.builder is None:
            return None
        for tier, held in actor.builder.slots.items():
            used, total = self.slots.get(tier.value, (0, 0))
            self.slots[tier.value] = (used + held.used, total + held.total)
            self.waiting[tier.value] = self.waiting.get(tier.value, 0) + held.waiting
        cache = actor.cache
        if cache is None:
            return None
        self.cache_bytes += cache.bytes
        return TenantMetrics(
            cache_hits=cache.hits, cache_misses=cache.misses, cache_evictions=cache.evictions
        )


class Page:
    """The page of one scrape.

    Args:
        registry: The tenants.
        accept: The ``Accept`` header of whoever asks.
    """

    def __init__(self, registry: Registry, accept: str) -> None:
        self._registry = registry
        self._out = Exposition(f.FAMILIES, openmetrics=negotiate(accept))

    @property
    def content_type(self) -> str:
        """Its type."""
        return self._out.content_type

    def write(self) -> Iterator[None]:
        """Write it, in slices: between two of them others may run."""
        # Whoever goes from here on is in this list, and what it adds to the others is not in this copy.
        tenants, others, rest = list(self._registry.tenants()), TenantMetrics(), _Moment()
        others.add(self._registry.others)
        self._process(tenants)
        for start in range(0, len(tenants), SLICE):
            yield
            for found in tenants[start : start + SLICE]:
                if found.named and found.id != OTHER:
                    moment = _Moment()
                    self._tenant(found.id, found.metrics, moment.add(found), moment)
                    continue
                others.add(found.metrics)
                cache = rest.add(found)
                if cache is not None:
                    others.add(cache)
        yield
        self._tenant(OTHER, others, None, rest)

    def parts(self) -> Iterator[bytes]:
        """Yield what was written; between two parts others may run."""
        yield from self._out.parts()

    def _tenant(self, name: str, had: TenantMetrics, cache: TenantMetrics | None, now: _Moment) -> None:
        out, me = self._out, labelled(tenant=name)
        for status, count in had.requests.items():
            out.add(f.REQUESTS, f'{me},status="{status}"', count)
        for (kind, outcome), count in had.questions.items():
            out.add(f.QUESTIONS, f'{me},kind="{kind}",outcome="{outcome}"', count)
        for code, count in had.refusals.items():
            out.add(f.REFUSALS, f'{me},reason="{code}"', count)
        for outcome, count in had.builds.items():
            out.add(f.BUILDS, f'{me},outcome="{outcome}"', count)
        for tier, histogram in had.queue_wait.items():
            out.add_histogram(f.QUEUE_WAIT, f'{me},tier="{tier}"', histogram)
        for histogram in had.streams.values():
            out.add_histogram(f.STREAMS, me, histogram)
        out.add(f.SENT, me, had.bytes_sent)
        out.add(f.RESULT_ROWS, me, had.rows_built)
        out.add(f.RESULT_BYTES, me, had.bytes_built)
        out.add(f.MATERIALIZATIONS, f'{me},found="yes"', had.hits)
        out.add(f.MATERIALIZATIONS, f'{me},found="no"', had.misses)
        out.add(f.RESTARTS, me, had.restarts)
        hits, misses, evictions = had.cache_hits, had.cache_misses, had.cache_evictions
        if cache is not None:
            hits, misses = hits + cache.cache_hits, misses + cache.cache_misses
            evictions += cache.cache_evictions
        out.add(f.LOOKUPS, f'{me},found="yes"', hits)
        out.add(f.LOOKUPS, f'{me},found="no"', misses)
        out.add(f.EVICTIONS, me, evictions)
        out.add(f.CACHE_BYTES, me, now.cache_bytes)
        for tier, (used, total) in now.slots.items():
            out.add(f.SLOTS_IN_USE, f'{me},tier="{tier}"', used)
            out.add(f.SLOTS, f'{me},tier="{tier}"', total)
            out.add(f.SLOTS_WAITING, f'{me},tier="{tier}"', now.waiting[tier])

    def _process(self, tenants: list[Tenant]) -> None:
        out, registry = self._out, self._registry
        states: dict[str, int] = {}
        for found in tenants:
            states[found.state.value] = states.get(found.state.value, 0) + 1
        for state, count in states.items():
            out.add(f.TENANTS, labelled(state=state), count)
        pool = registry.resources.pool
        out.add(f.QUANTA, labelled(state="running"), pool.running)
        out.add(f.QUANTA, labelled(state="waiting"), pool.waiting)
        out.add(f.DEFICIT, "", pool.largest_deficit)
        served = [nbytes for flow, nbytes in pool.served_bytes().items() if flow != FLOW]
        out.add(f.JAIN, "", jain_index(served))
        out.add(f.OLDEST_WAIT, "", pool.oldest_wait)
        out.add(f.BULK_LIMIT, "", pool.bulk_limit)
        queued, named = {OTHER: 0}, {found.id for found in tenants if found.named}
        for flow, nbytes in pool.queued_bytes().items():
            name = flow if flow in named else OTHER
            queued[name] = queued.get(name, 0) + nbytes
        for name, nbytes in queued.items():
            out.add(f.QUEUED, labelled(tenant=name), nbytes)
        if registry.sharing is not None:
            out.add(f.BUDGET, "", registry.sharing.budget.total)
            out.add(f.BUDGET_HELD, "", registry.sharing.budget.held)
        runtime_stats = registry.runtime_stats
        out.add_histogram(f.LOOP_LAG, "", runtime_stats.lag)
        for state, count in runtime_stats.requests().items():
            out.add(f.DESK, labelled(state=state), count)
        for state, count in runtime_stats.connections().items():
            out.add(f.CONNECTIONS, labelled(state=state), count)
        for reason, count in runtime_stats.cut.items():
            out.add(f.CONNECTIONS_CUT, labelled(reason=reason.replace(" ", "_").replace(":", "")), count)


async def expose(registry: Registry, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text and its content type, in the format that ``accept`` prefers."""
    page = Page(registry, accept)
    for _ in page.write():
        await trio.lowlevel.checkpoint()
    parts = []
    for part in page.parts():
        parts.append(part)
        await trio.lowlevel.checkpoint()
    return b"".join(parts), page.content_type


def expose_at_once(registry: Registry, accept: str) -> tuple[bytes, str]:
    """Do the same without a pause, where nobody else has to run."""
    page = Page(registry, accept)
    for _ in page.write():
        pass
    return b"".join(page.parts()), page.content_type

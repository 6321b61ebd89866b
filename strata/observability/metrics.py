"""Prometheus metrics, read off the live actors when somebody asks; there is no second set of counters.

A tenant's series go with its actor, so the label set is bounded by ``max_tenants``.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from strata.tenants import Registry


class StrataCollector(Collector):
    """Families of the whole process, labelled by tenant."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Yield every family once, whatever the number of tenants."""
        questions = CounterMetricFamily(
            "strata_questions",
            "Questions answered by a tenant's actor.",
            labels=["tenant", "kind", "outcome"],
        )
        builds = CounterMetricFamily("strata_builds", "Builds that ended.", labels=["tenant", "outcome"])
        rows = CounterMetricFamily("strata_result_rows", "Rows of finished results.", labels=["tenant"])
        size = CounterMetricFamily("strata_result_bytes", "Bytes of finished results.", labels=["tenant"])
        results = CounterMetricFamily(
            "strata_materializations",
            "Materialize requests that found a result, or did not.",
            labels=["tenant", "found"],
        )
        restarts = CounterMetricFamily(
            "strata_actor_restarts", "Crashes of a tenant's actor.", labels=["tenant"]
        )
        used = GaugeMetricFamily("strata_slots_in_use", "Slots in use.", labels=["tenant", "tier"])
        slots = GaugeMetricFamily("strata_slots", "Slots there are.", labels=["tenant", "tier"])
        cache_hits = CounterMetricFamily(
            "strata_cache_lookups", "Segment look-ups.", labels=["tenant", "found"]
        )
        cache_size = GaugeMetricFamily("strata_cache_bytes", "Bytes of cached segments.", labels=["tenant"])
        evictions = CounterMetricFamily("strata_cache_evictions", "Segments evicted.", labels=["tenant"])
        for tenant in self._registry.tenants():
            name, counted = tenant.id, tenant.metrics
            for (kind, outcome), count in counted.questions.items():
                questions.add_metric([name, kind, outcome], count)
            for outcome, count in counted.builds.items():
                builds.add_metric([name, outcome], count)
            rows.add_metric([name], counted.rows_built)
            size.add_metric([name], counted.bytes_built)
            results.add_metric([name, "yes"], counted.hits)
            results.add_metric([name, "no"], counted.misses)
            restarts.add_metric([name], counted.restarts)
            if tenant.actor is None or tenant.actor.builder is None:
                continue
            for tier, held in tenant.actor.builder.slots.items():
                used.add_metric([name, tier.value], held.used)
                slots.add_metric([name, tier.value], held.total)
            stats = tenant.actor.shard.stats()
            cache_hits.add_metric([name, "yes"], stats.hits)
            cache_hits.add_metric([name, "no"], stats.misses)
            cache_size.add_metric([name], stats.bytes)
            evictions.add_metric([name], stats.evictions)
        yield from (questions, builds, rows, size, results, restarts)
        yield from (used, slots, cache_hits, cache_size, evictions)
        live = GaugeMetricFamily("strata_tenants", "Live tenants by state.", labels=["state"])
        states: dict[str, int] = {}
        for tenant in self._registry.tenants():
            states[tenant.state.value] = states.get(tenant.state.value, 0) + 1
        for state, count in states.items():
            live.add_metric([state], count)
        yield live
        pool = self._registry.resources.pool
        running = GaugeMetricFamily("strata_work_quanta", "Quanta in the work pool.", labels=["state"])
        running.add_metric(["running"], pool.running)
        running.add_metric(["waiting"], pool.waiting)
        yield running


def expose(registry: Registry, accept: str) -> tuple[bytes, str]:
    """Return the metrics as text and its content type, in the format that ``accept`` prefers."""
    metrics = CollectorRegistry(auto_describe=False)
    metrics.register(StrataCollector(registry))
    encode, content_type = choose_encoder(accept)
    return encode(metrics), content_type

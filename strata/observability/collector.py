"""Build metric families from a snapshot, for prometheus-client's encoders."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import attrs
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from strata.observability.families import FAMILIES, Family
from strata.observability.snapshot import Snapshot
from strata.tenants.stats.histogram import BUCKETS

BOUNDS = (*map(str, BUCKETS), "+Inf")
"""Values of the label ``le``."""


def page_of(snapshot: Snapshot) -> CollectorRegistry:
    """Return the registry of one scrape, which the encoders of prometheus-client write.

    It is the scrape's own and never the library's global one, in which services of one process would meet.
    The library's collectors of process, platform and garbage collection keep no state and may be in several.
    """
    page = CollectorRegistry()
    for collector in (SnapshotCollector(snapshot), PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        page.register(collector)
    return page


class SnapshotCollector(Collector):
    """Yield the families of a snapshot; those without samples have their description only.

    No sample has a creation time (``_created``): counters of tenants that are gone were added to ``other``,
    whose own would then be wrong.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield each of :data:`~strata.observability.families.FAMILIES`, in that order."""
        for family in FAMILIES:
            metric = _empty(family)
            metric.samples = _Samples(family, self._snapshot)  # type: ignore[assignment]  # iterable is enough
            yield metric


@attrs.frozen(eq=False)
class _Samples:
    """Samples of a family, made one after the other while they are encoded.

    In a list, the 38,000 of one histogram of 1,000 tenants would start collections of garbage.
    """

    family: Family
    snapshot: Snapshot

    def __iter__(self) -> Iterator[Sample]:
        metric, labels = _empty(self.family), len(self.family.labels)
        for row in self.snapshot.rows.get(self.family, ()):
            if isinstance(metric, HistogramMetricFamily):
                buckets = list(zip(BOUNDS, accumulate(row[labels + 1 :]), strict=True))
                metric.add_metric(row[:labels], buckets, row[labels])
            else:
                metric.add_metric(row[:labels], row[labels])
            yield from metric.samples
            metric.samples.clear()


def _empty(family: Family) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    match family.kind:
        case "counter":
            return CounterMetricFamily(family.name, family.help, labels=family.labels)
        case "gauge":
            return GaugeMetricFamily(family.name, family.help, labels=family.labels)
        case _:
            return HistogramMetricFamily(family.name, family.help, labels=family.labels)

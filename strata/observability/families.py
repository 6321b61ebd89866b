"""The families of metrics the server has, and their reference as Markdown.

``python -m strata.observability.families > docs/reference/metrics.md``; a test compares the two.
"""

from __future__ import annotations

import sys

from strata.observability.exposition import Family
from strata.tenants.stats.histogram import BUCKETS

FAMILIES: list[Family] = []
"""All of them, in the order of the page."""


def _family(name: str, kind: str, meaning: str, *labels: str) -> Family:
    found = Family(name, kind, meaning, labels)
    FAMILIES.append(found)
    return found


REQUESTS = _family(
    "strata_http_requests",
    "counter",
    "HTTP requests with an identity, by class of status.",
    "tenant",
    "status",
)
SENT = _family("strata_http_sent_bytes", "counter", "Bytes of answers' bodies.", "tenant")
STREAMS = _family(
    "strata_stream_duration_seconds",
    "histogram",
    "Time from a request that reads a result to the last byte sent.",
    "tenant",
)
QUESTIONS = _family(
    "strata_questions", "counter", "Questions answered by a tenant's actor.", "tenant", "kind", "outcome"
)
REFUSALS = _family("strata_refusals", "counter", "Questions that were refused, by code.", "tenant", "reason")
MATERIALIZATIONS = _family(
    "strata_materializations",
    "counter",
    "Materialize requests that found a finished result, or did not.",
    "tenant",
    "found",
)
BUILDS = _family("strata_builds", "counter", "Builds that ended.", "tenant", "outcome")
RESULT_ROWS = _family("strata_result_rows", "counter", "Rows of finished results.", "tenant")
RESULT_BYTES = _family("strata_result_bytes", "counter", "Bytes of finished results.", "tenant")
QUEUE_WAIT = _family(
    "strata_queue_wait_seconds", "histogram", "Time a build waited for its slot.", "tenant", "tier"
)
SLOTS = _family("strata_slots", "gauge", "Slots there are.", "tenant", "tier")
SLOTS_IN_USE = _family("strata_slots_in_use", "gauge", "Slots in use.", "tenant", "tier")
SLOTS_WAITING = _family("strata_slots_waiting", "gauge", "Builds that wait for a slot.", "tenant", "tier")
LOOKUPS = _family(
    "strata_cache_lookups", "counter", "Look-ups of row groups in the cache.", "tenant", "found"
)
EVICTIONS = _family("strata_cache_evictions", "counter", "Cached row groups that were evicted.", "tenant")
CACHE_BYTES = _family("strata_cache_bytes", "gauge", "Bytes of cached row groups on disk.", "tenant")
BUDGET = _family("strata_cache_budget_bytes", "gauge", "Bytes of cache for all tenants together.")
BUDGET_HELD = _family(
    "strata_cache_budget_held_bytes", "gauge", "Bytes of those that tenants may use now or left behind."
)
RESTARTS = _family("strata_actor_restarts", "counter", "Crashes of a tenant's actor.", "tenant")
TENANTS = _family("strata_tenants", "gauge", "Live tenants.", "state")
QUANTA = _family("strata_work_quanta", "gauge", "Pieces of work in the work pool.", "state")
QUEUED = _family("strata_work_queued_bytes", "gauge", "Expected bytes of work that waits.", "tenant")
DEFICIT = _family(
    "strata_work_largest_deficit_bytes", "gauge", "By how much one waiting tenant is behind another at most."
)
JAIN = _family(
    "strata_work_fairness_ratio", "gauge", "Jain's index of the work done for each tenant in the last minute."
)
OLDEST_WAIT = _family("strata_work_oldest_wait_seconds", "gauge", "How long the oldest work has waited.")
BULK_LIMIT = _family("strata_work_bulk_slots", "gauge", "Slots that large scans may have now.")
LOOP_LAG = _family(
    "strata_loop_lag_seconds", "histogram", "How much later than due a task runs, four samples a second."
)
DESK = _family(
    "strata_desk_requests", "gauge", "Requests in hand, and those that wait until it is their turn.", "state"
)
CONNECTIONS = _family("strata_connections", "gauge", "Connections that are open.", "state")
CONNECTIONS_CUT = _family(
    "strata_connections_cut", "counter", "Connections the server ended or did not accept.", "reason"
)

HEAD = """# Metrics

`GET /metrics` and `GET /metrics/prometheus` answer in Prometheus' text format, or in that of OpenMetrics when
it is asked for. On the main port they need the scope `admin:metrics`, for they name every tenant; on the port
of its own that `metrics_port` opens, whoever reaches it may read them.

`tenant` is the id of a live tenant, or `other`: the sum of all that have no series of their own, because they
came when there were `metrics_max_tenants` already or because they are gone. A tenant that goes is counted in
`other` from then on, so that sums over all tenants never fall. No other label's value comes from a request.

Histograms have their buckets at {buckets} seconds.

This page is generated: `python -m strata.observability.families > docs/reference/metrics.md`.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def reference() -> str:
    """Return the whole page."""
    head = HEAD.format(buckets=", ".join(f"{bound:g}" for bound in BUCKETS))
    rows = []
    for family in FAMILIES:
        labels = ", ".join(f"`{name}`" for name in family.labels)
        rows.append(f"| `{family.sample}` | {family.kind} | {labels} | {family.help} |\n")
    return head + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(reference())

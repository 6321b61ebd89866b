"""Define the server's metric families, and write their reference page as Markdown.

``python -m strata.observability.families > docs/reference/metrics.md``; a test compares the two.
"""

from __future__ import annotations

import sys

import attrs

from strata.tenants.stats.histogram import BUCKETS


@attrs.frozen
class Family:
    """A metric family.

    Attributes:
        name: Name with the unit, without ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: Meaning, in one sentence.
        labels: Label names, in the order in which samples give their values.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        """Name of the family's samples, which is its name in the text format."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


FAMILIES: list[Family] = []
"""Families of this server, in the order of the page."""


def _family(name: str, kind: str, meaning: str, *labels: str) -> Family:
    found = Family(name, kind, meaning, labels)
    FAMILIES.append(found)
    return found


REQUESTS = _family(
    "strata_http_requests",
    "counter",
    "HTTP requests with an identity, by status class.",
    "tenant",
    "status",
)
SENT = _family("strata_http_sent_bytes", "counter", "Bytes of response bodies sent.", "tenant")
STREAMS = _family(
    "strata_stream_duration_seconds",
    "histogram",
    "Time from the request for a result to its last byte sent.",
    "tenant",
)
QUESTIONS = _family(
    "strata_questions",
    "counter",
    "Messages answered by the tenant's actor, by kind of message and outcome.",
    "tenant",
    "kind",
    "outcome",
)
CERTIFICATE = _family(
    "strata_tls_certificate_expires_timestamp_seconds",
    "gauge",
    "End of the server's own TLS certificate, in seconds since the epoch.",
)
AUDITED = _family(
    "strata_access_records",
    "counter",
    "Records of the access audit, written or dropped for want of room.",
    "outcome",
)
AUDIT_WAITING = _family(
    "strata_access_records_waiting", "gauge", "Records of the access audit to be written."
)
REFUSALS = _family("strata_refusals", "counter", "Refused requests, by error code.", "tenant", "reason")
DENIED = _family(
    "strata_denied",
    "counter",
    "Requests for a table that the access rules deny; they are answered as if it was missing.",
    "tenant",
)
UNIDENTIFIED = _family(
    "strata_unidentified_requests",
    "counter",
    "Requests without a valid identity, by error code: `invalid_token` is a wrong or missing proxy token.",
    "reason",
)
MATERIALIZATIONS = _family(
    "strata_materializations",
    "counter",
    "Materialize requests, by whether a finished result was found.",
    "tenant",
    "found",
)
BUILDS = _family("strata_builds", "counter", "Builds that ended, by outcome.", "tenant", "outcome")
RESULT_ROWS = _family("strata_result_rows", "counter", "Rows of finished results.", "tenant")
RESULT_BYTES = _family("strata_result_bytes", "counter", "Bytes of finished results.", "tenant")
QUEUE_WAIT = _family(
    "strata_queue_wait_seconds", "histogram", "Time builds waited for a slot.", "tenant", "tier"
)
SLOTS = _family("strata_slots", "gauge", "Build slots of the tenant.", "tenant", "tier")
SLOTS_IN_USE = _family("strata_slots_in_use", "gauge", "Build slots in use.", "tenant", "tier")
SLOTS_WAITING = _family("strata_slots_waiting", "gauge", "Builds waiting for a slot.", "tenant", "tier")
LOOKUPS = _family(
    "strata_cache_lookups",
    "counter",
    "Cache lookups of row groups, by whether the row group was found.",
    "tenant",
    "found",
)
EVICTIONS = _family("strata_cache_evictions", "counter", "Row groups evicted from the cache.", "tenant")
STORED_BYTES = _family(
    "strata_stored_bytes",
    "gauge",
    "Bytes of the tenant's results with their texts, as of some seconds ago; of the 1,000 largest tenants.",
    "tenant",
)
DISK_FREE = _family(
    "strata_disk_free_bytes", "gauge", "Free bytes of the disk of `artifact_dir`, as of some seconds ago."
)
DISK_RESERVE = _family(
    "strata_disk_reserve_bytes", "gauge", "Bytes of it that results leave free (`disk_reserve_bytes`)."
)
CACHE_BYTES = _family("strata_cache_bytes", "gauge", "Bytes of cached row groups on disk.", "tenant")
BUDGET = _family("strata_cache_budget_bytes", "gauge", "Cache budget of all tenants together, in bytes.")
BUDGET_HELD = _family(
    "strata_cache_budget_held_bytes",
    "gauge",
    "Bytes of the cache budget granted to live tenants or occupied by files of tenants that are gone.",
)
RESTARTS = _family("strata_actor_restarts", "counter", "Crashes of the tenant's actor.", "tenant")
TENANTS = _family("strata_tenants", "gauge", "Live tenants, by state.", "state")
QUANTA = _family("strata_work_quanta", "gauge", "Quanta of the pool: running, waiting, or hung.", "state")
QUEUED = _family("strata_work_queued_bytes", "gauge", "Expected bytes of the quanta waiting.", "tenant")
DEFICIT = _family(
    "strata_work_largest_deficit_bytes",
    "gauge",
    "Largest difference in bytes served between two tenants waiting in one tier.",
)
JAIN = _family(
    "strata_work_fairness_ratio",
    "gauge",
    "Jain's fairness index of the bytes of work done for each tenant in the last minute.",
)
OLDEST_WAIT = _family(
    "strata_work_oldest_wait_seconds", "gauge", "Time the oldest waiting quantum has waited."
)
BULK_LIMIT = _family("strata_work_bulk_slots", "gauge", "Work pool slots that bulk quanta may use now.")
THREADS = _family(
    "strata_waiting_threads",
    "gauge",
    "Calls that wait for a database, a catalog, a store, a disk or the analysis of a cell, by group of "
    "threads: running, waiting for a thread, or hung (abandoned, with a thread that has not ended).",
    "group",
    "state",
)
THREADS_REFUSED = _family(
    "strata_waiting_threads_refused",
    "counter",
    "Calls refused because no thread or no answer came in time, by group of threads.",
    "group",
)
LOOP_LAG = _family(
    "strata_loop_lag_seconds",
    "histogram",
    "Delay of a task of the event loop past its due time, four samples a second.",
)
LONG_STEPS = _family(
    "strata_loop_long_steps",
    "counter",
    "Steps of a task that held the event loop for longer than 50 ms; the log names the task.",
)
LONGEST_STEP = _family(
    "strata_loop_longest_step_seconds", "gauge", "Longest of these steps since the server started."
)
ADMISSION = _family(
    "strata_admission_requests", "gauge", "Requests admitted, and waiting in the admission queue.", "state"
)
CONNECTIONS = _family("strata_connections", "gauge", "Open connections, by state.", "state")
CONNECTIONS_CUT = _family(
    "strata_connections_cut", "counter", "Connections closed or not accepted by the server.", "reason"
)
READERS = _family(
    "strata_readers", "gauge", "Reader processes, in which local data files are parsed, that are alive."
)
READER_ENDS = _family(
    "strata_reader_ends",
    "counter",
    "Readers that ended early: by a signal while they read a file (the log names it; a file that ends two is "
    "refused), `late`, `idle`.",
    "reason",
)
READER_RETRIES = _family(
    "strata_reader_retries", "counter", "Steps of a file begun again because their reader had ended."
)
READER_STEPS = _family("strata_reader_steps", "counter", "Steps of files in readers, by kind.", "kind")
READER_PEAK = _family(
    "strata_reader_peak_bytes", "gauge", "Most memory that a reader which is alive has had, in bytes."
)
BACKGROUND_FAILURES = _family(
    "strata_background_failures",
    "counter",
    "Failures of the server's background tasks, each started again: see the log.",
    "task",
)
LOG_DROPPED = _family(
    "strata_log_lines_dropped", "counter", "Log lines that could not be written and were dropped."
)
SPANS = _family(
    "strata_spans",
    "counter",
    "Spans by outcome: `exported`; `failed`, not taken by the collector; `dropped`, for which the queue "
    "had no room. None with `tracing_enabled` off.",
    "outcome",
)

LIBRARY_FAMILIES = (
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory of the process."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory of the process."),
    Family("process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970."),
    Family("process_cpu_seconds", "counter", "User and system CPU time of the process."),
    Family("process_open_fds", "gauge", "Open file descriptors of the process."),
    Family("process_max_fds", "gauge", "Limit on open file descriptors."),
    Family(
        "python_info",
        "gauge",
        "Python interpreter; always 1.",
        ("implementation", "major", "minor", "patchlevel", "version"),
    ),
    Family("python_gc_objects_collected", "counter", "Objects freed by garbage collection.", ("generation",)),
    Family(
        "python_gc_objects_uncollectable",
        "counter",
        "Objects that garbage collection could not free.",
        ("generation",),
    ),
    Family("python_gc_collections", "counter", "Garbage collections.", ("generation",)),
)
"""Families of prometheus-client's own collectors, as on Linux; elsewhere there are no ``process_*``."""

HEAD = """# Metrics

`GET /metrics` and `GET /metrics/prometheus` answer in Prometheus' text format, or in OpenMetrics when the
`Accept` header asks for it. On the main port both paths need the scope `admin:metrics`, because the labels
name every tenant; on the port that `metrics_port` opens they need no identity.

`tenant` is the id of a live tenant, or `other`: the sum of all tenants without series of their own, because
`metrics_max_tenants` tenants had theirs already or because the tenant is gone. A tenant that goes is counted
in `other` from then on: sums over all tenants never fall. No other label's value comes from a request.

Counters are totals since the server started; there are no `_created` samples.

Histograms have buckets at {buckets} seconds.

This page is generated: `python -m strata.observability.families > docs/reference/metrics.md`.

"""

TABLE = "| metric | type | labels | meaning |\n|---|---|---|---|\n"

LIBRARY = """
The process and its interpreter, as the library prometheus-client reports them (`process_*` on Linux only):

"""


def reference() -> str:
    """Return the reference page as Markdown."""
    head = HEAD.format(buckets=", ".join(f"{bound:g}" for bound in BUCKETS))
    return head + TABLE + _rows(FAMILIES) + LIBRARY + TABLE + _rows(LIBRARY_FAMILIES)


def _rows(families: list[Family] | tuple[Family, ...]) -> str:
    rows = []
    for family in families:
        labels = ", ".join(f"`{name}`" for name in family.labels)
        rows.append(f"| `{family.sample}` | {family.kind} | {labels} | {family.help} |\n")
    return "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(reference())

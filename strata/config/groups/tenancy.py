# ruff: noqa: FBT003, RUF009  # the first argument of a setting is its default
"""Settings of tenants and of their limits."""

from __future__ import annotations

import attrs

from strata.auth import TENANT_HEADER
from strata.config.fields import (
    NotebookEnvironment,
    NotebookWorker,
    TenantSection,
    TransformSection,
    limit,
    setting,
)


@attrs.frozen(kw_only=True, slots=False)
class TenantSettings:
    """Tenants, and how many are live."""

    multi_tenant_enabled: bool = setting(
        False, "Separate tenants by `tenant_header`; when off, all requests share one tenant."
    )
    tenant_header: str = setting(
        TENANT_HEADER, "Request header with the tenant's id; X-Strata-Tenant is always its alias.", live=True
    )
    require_tenant_header: bool = setting(
        False,
        "Answer 400 to requests without a tenant header; when off, they belong to the default tenant.",
        live=True,
    )
    max_tenants: int = setting(
        1000,
        "Maximum running tenants. At the maximum a new tenant evicts the longest idle one; if none is idle, "
        "its requests are answered 503.",
        least=1,
    )
    tenant_idle_seconds: float = setting(
        900.0,
        "Idle time after which a tenant is evicted from memory; its results and cache stay on disk.",
        unit="seconds",
        least=0.001,
    )
    mailbox_size: int = setting(
        256, "Maximum queued requests per tenant; further ones are answered 503.", least=1
    )
    max_tenant_crashes: int = setting(
        5,
        "Restarts of a crashed tenant within `tenant_crash_window_seconds`; at the next crash it stays down "
        "until an administrator restarts it.",
        least=0,
    )
    tenant_crash_window_seconds: float = setting(
        60.0,
        "Period in which a tenant's crashes are counted for `max_tenant_crashes`.",
        unit="seconds",
        least=1,
    )

    tenants: dict[str, TenantSection] = setting(
        dict,
        "Limits of single tenants, one table per tenant id: any setting marked *T*, `weight`, `enabled` and "
        "a table `maximum`.",
        toml_only=True,
        live=True,
    )
    tenant_maximum: dict[str, float] = setting(
        dict,
        "Upper bound of each limit, for all tenants; a tenant's own `maximum` can only be lower.",
        toml_only=True,
        live=True,
    )
    tenant_overrides_file: str | None = setting(
        None,
        "TOML file of the limits changed through the admin API, read again when it changes (none: "
        "`tenant-overrides.toml` in `artifact_dir`).",
    )


@attrs.frozen(kw_only=True, slots=False)
class LimitSettings:
    """Limits of each tenant and of the process."""

    batch_size: int = limit(65536, "Maximum rows of a record batch.", unit="rows", least=1)
    fetch_parallelism: int = limit(4, "Maximum row groups of one scan read at a time.", least=1)
    max_fetch_workers: int = setting(
        32, "Upper bound of `work_slots`, the threads that read and decode.", least=1
    )
    work_slots: int = setting(
        0,
        "Threads that read and decode (0: one per core that the process may use by its CPU affinity and "
        "control group), at most `max_fetch_workers`.",
        least=0,
    )
    bulk_latency_tolerance: float = setting(
        4.0,
        "Factor over the usual wait for a thread at which interactive scans take threads from bulk scans, "
        "all but one (1: at any delay; 1000: never).",
        least=1,
    )
    fetch_timeout_seconds: float = limit(
        60.0,
        "Maximum time to read one slice of a row group, queueing included; then the answer is 504.",
        unit="seconds",
        least=0.001,
    )

    max_concurrent_scans: int = limit(
        100, "Maximum running and queued builds of one tenant; more are answered 429.", least=1
    )
    max_tasks_per_scan: int = limit(
        1000, "Maximum data files of one scan; a larger scan is answered 413.", least=1
    )
    plan_timeout_seconds: float = limit(
        30.0, "Maximum time to plan a scan; then the answer is 504.", unit="seconds", least=0.001
    )
    scan_timeout_seconds: float = limit(
        300.0,
        "Maximum time of a scan after it has its slot; then the answer is 504.",
        unit="seconds",
        least=0.001,
    )
    max_response_bytes: int = limit(
        536870912,
        "Maximum size of a result in Arrow bytes; a larger one fails with 413.",
        unit="bytes",
        least=1024,
    )
    stream_state_ttl_seconds: float = limit(
        300.0, "Time after which a `stream_url` expires.", unit="seconds", least=0.001
    )

    interactive_slots: int = limit(
        32, "Maximum interactive (small) scans of one tenant running at a time; more wait.", least=1
    )
    bulk_slots: int = limit(
        8, "Maximum bulk (large) scans of one tenant running at a time; more wait.", least=1
    )
    interactive_slots_per_principal: int = limit(
        0,
        "Maximum interactive scans of one principal running at a time (0: the tenant's slots).",
        least=0,
        zero_is_free=True,
    )
    bulk_slots_per_principal: int = limit(
        0,
        "Maximum bulk scans of one principal running at a time (0: the tenant's slots).",
        least=0,
        zero_is_free=True,
    )
    interactive_max_bytes: int = limit(
        10485760,
        "Maximum estimated Arrow bytes of an interactive scan; a larger scan is bulk.",
        unit="bytes",
        least=0,
    )
    interactive_max_columns: int = limit(
        10, "Maximum columns of an interactive scan; a scan of more columns is bulk.", least=0
    )
    interactive_queue_timeout_seconds: float = limit(
        10.0,
        "Maximum wait of an interactive scan for a slot; then the answer is 429.",
        unit="seconds",
        least=0.001,
    )
    bulk_queue_timeout_seconds: float = limit(
        30.0, "Maximum wait of a bulk scan for a slot; then the answer is 429.", unit="seconds", least=0.001
    )

    rate_limit_enabled: bool = setting(
        True,
        "Enforce the `rate_limit_*` settings. A limit per second allows bursts of two seconds' worth.",
        live=True,
    )
    rate_limit_global_rps: float = limit(
        1000.0,
        "Maximum requests per second of one tenant (0: unlimited); more are answered 429.",
        least=0,
        zero_is_free=True,
    )
    rate_limit_client_rps: float = limit(
        100.0,
        "Maximum requests per second of one principal (0: unlimited); more are answered 429.",
        least=0,
        zero_is_free=True,
    )
    rate_limit_scan_rps: float = limit(
        50.0,
        "Maximum materializations and warmings per second of one principal (0: unlimited); more are "
        "answered 429.",
        least=0,
        zero_is_free=True,
    )
    rate_limit_bytes_per_second: int = limit(
        0,
        "Maximum response bytes per second of one tenant (0: unlimited): streams are paced, new requests "
        "answered 429.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )
    rate_limit_client_bytes_per_second: int = limit(
        0,
        "Maximum response bytes per second of one principal (0: unlimited): streams are paced, new requests "
        "answered 429.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )
    rate_limit_bytes_per_day: int = limit(
        0,
        "Maximum response bytes per day of one tenant (0: unlimited). Used bytes come back evenly over a "
        "day, and all at once at a restart.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )
    rate_limit_client_bytes_per_day: int = limit(
        0,
        "Maximum response bytes per day of one principal (0: unlimited). Used bytes come back evenly over a "
        "day, and all at once at a restart.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )

    transform_memory_bytes: int = limit(
        536870912,
        "Maximum memory of one running SQL query of a tenant; beyond it the query uses its disk space.",
        unit="bytes",
        least=33554432,
    )
    transform_spill_bytes: int = limit(
        4294967296,
        "Maximum disk space of one running SQL query of a tenant; a query that needs more fails with 400.",
        unit="bytes",
        least=1048576,
    )
    transform_threads: int = limit(
        2, "Maximum threads of one running SQL query of a tenant.", least=1, most=256
    )
    transforms: TransformSection = setting(
        TransformSection,
        "Computations that clients may ask for (`enabled`, `sandbox`, and a list `registry`), besides scans.",
        toml_only=True,
        live=True,
    )
    notebook_workers: tuple[NotebookWorker, ...] = setting(
        (),
        "Workers on which cells of notebooks run (a list of tables). Personal mode has one by default.",
        toml_only=True,
        live=True,
    )
    notebook_environments: tuple[NotebookEnvironment, ...] = setting(
        (),
        "Locked sets of packages with which cells of notebooks can run (a list of tables).",
        toml_only=True,
        live=True,
    )

    artifact_max_bytes: int = limit(
        0,
        "Maximum bytes of results that one tenant keeps, with their transforms and schemas (0: unlimited). "
        "At the maximum unused results are removed, the least recently used first; else builds are "
        "answered 503.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )
    artifact_max_count: int = limit(
        0,
        "Maximum results that one tenant keeps, failed ones included (0: unlimited). At the maximum unused "
        "results are removed, the least recently used first; else builds are answered 503.",
        least=0,
        zero_is_free=True,
    )
    artifact_max_idle_days: float = limit(
        30.0,
        "Time without a use after which a result is removed, unless a name points at it or another result "
        "was made of it (0: never).",
        unit="days",
        least=0,
        zero_is_free=True,
    )
    artifact_min_idle_seconds: float = limit(
        3600.0,
        "Time after its last use for which a result is not removed by the server.",
        unit="seconds",
        least=0,
    )
    artifact_names_shared: bool = limit(
        False,
        "Let every caller who may write results move and remove names that other principals made; when off, "
        "that takes an access rule that allows `write` on the name, or the scope `admin:*`.",
    )
    registry_protected_aliases: str = limit(
        "",
        "Aliases, separated by commas, whose changes wait for the approval of a second person with the scope "
        "`admin:registry`.",
    )
    access_audit: bool = limit(
        False, "Record who read which table, snapshot and result, by which rule, in the access audit."
    )
    access_audit_days: float = setting(
        90.0,
        "Time for which the records of the access audit are kept (0: for ever).",
        unit="days",
        least=0,
        live=True,
    )
    access_audit_max_bytes: int = setting(
        268435456,
        "Maximum bytes of the access audit of one tenant; the oldest records are removed (0: unlimited).",
        unit="bytes",
        least=0,
        live=True,
    )
    access_audit_required: bool = setting(
        False,
        "Answer a read 503 (`access_audit_unavailable`) when it could not be recorded; when off it is "
        "answered, and its missing record is counted.",
        live=True,
    )
    artifact_gc_interval_seconds: float = setting(
        3600.0,
        "Time between two removals of unused results of all tenants; the server also removes some when the "
        "disk nears `disk_reserve_bytes` (0: only on request, and for a build of a tenant at its maximum).",
        unit="seconds",
        least=0,
        live=True,
    )
    memory_budget_bytes: int = setting(
        0,
        "Maximum bytes of memory held for all requests together (0: a quarter of the memory of the machine "
        "or its control group): five eighths for builds, which wait and then are answered 503, an eighth "
        "each for request bodies, for what tenants remember and for parsed files of tables.",
        unit="bytes",
        least=0,
        live=True,
    )
    disk_reserve_bytes: int = setting(
        268435456,
        "Free bytes to leave on the disk of `artifact_dir` (0: none). Builds that would take of them are "
        "answered 503.",
        unit="bytes",
        least=0,
        live=True,
    )

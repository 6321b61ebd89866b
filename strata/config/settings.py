# ruff: noqa: FBT003, RUF009  # the first argument of a setting is its default
"""Define every setting of a deployment: name, type, default, bounds and help text.

:mod:`strata.config.sources` reads values, :mod:`strata.config.coherence` checks their combinations.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from strata.acl import Policy
from strata.auth import PRINCIPAL_HEADER, SCOPES_HEADER, TENANT_HEADER
from strata.config.fields import TenantSection, limit, setting

MIN_TOKEN_CHARACTERS = 16
"""Minimum characters of a proxy token; a shorter one is a configuration problem."""


@attrs.frozen(kw_only=True)
class Settings:
    """All settings. Each is a TOML key under ``[tool.strata]`` and, upper-case, a ``STRATA_`` variable."""

    deployment_mode: str = setting(
        "personal",
        "`personal` serves one user on loopback, `service` many users behind an authenticating proxy.",
        choices=("personal", "service"),
    )
    host: str = setting("127.0.0.1", "IP address or host name to listen on.")
    port: int = setting(8765, "TCP port to listen on (0: any free port).", least=0, most=65535)
    unix_socket: str | None = setting(
        None,
        "Path of a Unix socket to listen on instead of `host` and `port`; the socket's group may connect.",
    )
    tls_certificate: str | None = setting(
        None, "PEM file with the server's certificate chain: turns TLS on. SIGHUP reads the file again."
    )
    tls_key: str | None = setting(
        None,
        "PEM file with the private key of `tls_certificate` (none: the key is in the certificate's file).",
    )
    tls_client_ca: str | None = setting(
        None,
        "PEM file with the certificate authorities of clients: every client, such as the proxy, must "
        "present a certificate that one of them issued.",
    )
    max_connections: int = setting(
        4096,
        "Maximum open connections. At the maximum a new connection closes an idle one; if none is idle, the "
        "new one is closed.",
        least=1,
    )
    max_connections_per_peer: int = setting(
        0, "Maximum open connections per peer address (0: unlimited, as needed behind a proxy).", least=0
    )
    keep_alive_seconds: float = setting(
        75.0,
        "Time after which an idle connection is closed. Must exceed the proxy's own keep-alive time (nginx: "
        "60 s).",
        unit="seconds",
        least=1,
    )
    request_head_seconds: float = setting(
        10.0,
        "Maximum time for a request's head to arrive; then the connection is closed.",
        unit="seconds",
        least=0.1,
    )
    request_body_seconds: float = setting(
        60.0,
        "Maximum time for a request's body to arrive, plus 1 s per 64 KiB received; then the answer is 408.",
        unit="seconds",
        least=0.1,
        live=True,
    )
    client_stall_seconds: float = setting(
        60.0,
        "Maximum time during which a client accepts no byte of its response; then the connection is closed.",
        unit="seconds",
        least=0.1,
    )
    allow_remote_clients_in_personal: bool = setting(
        False,
        "Allow personal mode, which has no authentication, to listen on an address other than loopback.",
    )
    personal_mode_user_header: str | None = setting(
        None, "Request header with the user's name in personal mode (none: every user is `local`).", live=True
    )
    max_request_bytes: int = setting(
        1048576,
        "Maximum size of a request's body; a larger one is answered 413.",
        unit="bytes",
        least=1024,
        live=True,
    )
    shutdown_notice_seconds: float = setting(
        0.0,
        "Time after SIGTERM during which requests are still accepted and only `/health/ready` answers 503 "
        "(0: none).",
        unit="seconds",
        least=0,
    )
    shutdown_grace_seconds: float = setting(
        30.0,
        "Maximum time for requests in progress to finish when the server stops; then their connections are "
        "closed.",
        unit="seconds",
        least=0,
    )

    auth_mode: str = setting(
        "none",
        "Where a request's identity comes from: nowhere (`none`), or from headers of a proxy that sends "
        "`proxy_token` (`trusted_proxy`).",
        choices=("none", "trusted_proxy"),
    )
    proxy_token: str | None = setting(
        None,
        f"Secret that the proxy sends as X-Strata-Proxy-Token; at least {MIN_TOKEN_CHARACTERS} characters.",
        secret=True,
        live=True,
    )
    proxy_token_previous: str | None = setting(
        None,
        f"Second accepted proxy token, during a rotation; at least {MIN_TOKEN_CHARACTERS} characters.",
        secret=True,
        live=True,
    )
    auth_failures_per_second: float = setting(
        5.0,
        "Failed authentications per second and peer address that are answered 401; the rest are answered "
        "429. Requests that authenticate are never limited by this.",
        least=0.001,
        live=True,
    )
    auth_failure_burst: int = setting(
        50,
        "Failed authentications of one peer address that are answered 401 before `auth_failures_per_second` "
        "limits them.",
        least=1,
        live=True,
    )
    principal_header: str = setting(
        PRINCIPAL_HEADER, "Request header with the principal, the user's id.", live=True
    )
    scopes_header: str = setting(
        SCOPES_HEADER, "Request header with the user's scopes, separated by spaces.", live=True
    )
    hide_forbidden_as_not_found: bool = setting(
        True,
        "Answer 404 in place of 403 to what the access rules deny, identical to the answer for what does "
        "not exist.",
        live=True,
    )
    acl_config: Policy | None = setting(
        None, "Access rules as a table; see the ACL reference.", toml_only=True, live=True
    )
    acl_file: str | None = setting(
        None,
        "TOML file with the access rules, in place of `acl_config`; read again when it changes. See the ACL "
        "reference.",
        live=True,
    )
    acl_file_watch_seconds: float = setting(
        2.0,
        "Interval at which `acl_file` is checked for changes (0: never). A change takes effect when two "
        "consecutive checks find the same file.",
        unit="seconds",
        least=0,
        live=True,
    )

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

    warehouses: dict[str, str] = setting(
        dict, "Directories of Iceberg warehouses by alias. As a variable: `alias=/path,other=/path`."
    )
    catalogs: dict[str, dict[str, str]] = setting(
        dict, "pyiceberg catalogs by alias, each a table of catalog properties.", toml_only=True
    )

    cache_dir: str = setting(
        "~/.strata/cache", "Directory of all tenants' caches, one subdirectory per tenant."
    )
    max_cache_size_bytes: int = setting(
        10737418240,
        "Maximum bytes of cached segments of all tenants together, divided by need; as a limit of one "
        "tenant, that tenant's maximum.",
        unit="bytes",
        least=0,
        tenant=True,
    )
    cache_guaranteed_bytes: int = setting(
        67108864,
        "Bytes of the cache that an active tenant keeps when other tenants need space (0: no guarantee).",
        unit="bytes",
        least=0,
    )
    cache_granularity: str = setting(
        "row_group_projection",
        "What one cached segment holds: the projected columns of one row group.",
        choices=("row_group_projection",),
    )
    metadata_db: str | None = setting(
        None, "SQLite file with the metadata of artifacts (none: `metadata.db` in `artifact_dir`)."
    )

    batch_size: int = limit(65536, "Maximum rows of a record batch.", unit="rows", least=1)
    fetch_parallelism: int = limit(4, "Maximum row groups of one scan read at a time.", least=1)
    max_fetch_workers: int = setting(
        32, "Upper bound of `work_slots`, the threads that read and decode.", least=1
    )
    work_slots: int = setting(
        0, "Threads that read and decode (0: one per core), at most `max_fetch_workers`.", least=0
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

    memory_budget_bytes: int = setting(
        0,
        "Maximum bytes of memory held by all builds together (0: a quarter of the memory of the machine or "
        "its control group). Further builds wait, then are answered 503.",
        unit="bytes",
        least=0,
        live=True,
    )
    disk_reserve_bytes: int = setting(
        268435456,
        "Free bytes to leave on the disk of `artifact_dir` (0: none). With less free, new builds are "
        "answered 503.",
        unit="bytes",
        least=0,
        live=True,
    )

    artifact_dir: str | None = setting(
        None,
        "Directory of results and their metadata, used by one server only. Required in service mode, also "
        "with a remote blob backend (none: `~/.strata/artifacts` in personal mode).",
    )
    artifact_blob_backend: str = setting(
        "local",
        "Where finished results are stored: in `artifact_dir` (`local`) or in an object store.",
        choices=("local", "s3", "gcs", "azure"),
    )
    artifact_s3_bucket: str | None = setting(None, "S3 bucket of finished results.")
    artifact_s3_prefix: str = setting("artifacts", "Prefix of finished results in the S3 bucket.")
    artifact_gcs_bucket: str | None = setting(None, "Google Cloud Storage bucket of finished results.")
    artifact_gcs_prefix: str = setting(
        "artifacts", "Prefix of finished results in the Google Cloud Storage bucket."
    )
    artifact_azure_container: str | None = setting(None, "Azure container of finished results.")
    artifact_azure_prefix: str = setting("artifacts", "Prefix of finished results in the Azure container.")
    artifact_copies_bytes: int = setting(
        10737418240,
        "Maximum bytes of local copies of results stored in an object store. The least recently used are "
        "removed; the newest stays, however large.",
        unit="bytes",
        least=0,
    )
    s3_region: str | None = setting(None, "Region of the S3 bucket (none: from the AWS variables).")
    s3_endpoint_url: str | None = setting(None, "URL of an S3-compatible store (none: AWS).")
    s3_access_key: str | None = setting(None, "S3 access key (none: from the AWS variables).", secret=True)
    s3_secret_key: str | None = setting(None, "S3 secret key (none: from the AWS variables).", secret=True)
    s3_anonymous: bool = setting(False, "Send unsigned requests to S3, without credentials.")
    s3_connect_timeout_seconds: float = setting(
        10.0, "Maximum time to connect to S3.", unit="seconds", least=0.001
    )
    s3_request_timeout_seconds: float = setting(
        30.0, "Maximum time of one request to S3.", unit="seconds", least=0.001
    )

    metrics_port: int | None = setting(
        None,
        "Second TCP port that serves only metrics, to any client that can reach it (none: metrics on the "
        "main port only, for administrators; 0: any free port).",
        least=0,
        most=65535,
    )
    metrics_host: str = setting("127.0.0.1", "IP address or host name on which `metrics_port` listens.")
    metrics_max_tenants: int = setting(
        1000, "Maximum tenants with metrics of their own; the metrics of all others are summed.", least=0
    )

    log_level: str = setting(
        "INFO",
        "Lowest level of log lines that are written.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        live=True,
    )
    log_format: str = setting(
        "json",
        "One JSON object per line (`json`), or readable text (`text`).",
        choices=("json", "text"),
        live=True,
    )

    @property
    def overrides_path(self) -> Path:
        """Path of the file of limits changed through the admin API."""
        if self.tenant_overrides_file is None:
            return self.artifact_root / "tenant-overrides.toml"
        return Path(self.tenant_overrides_file).expanduser()

    @property
    def artifact_root(self) -> Path:
        """Directory of results: ``artifact_dir``, or the default of personal mode."""
        return Path(self.artifact_dir or "~/.strata/artifacts").expanduser()


BUCKETS = {"s3": "artifact_s3_bucket", "gcs": "artifact_gcs_bucket", "azure": "artifact_azure_container"}
"""Required setting of each remote blob backend: its bucket or container."""

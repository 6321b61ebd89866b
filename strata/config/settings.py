# ruff: noqa: FBT003, RUF009  # settings are described by calls whose first argument is the default
"""Settings: every name a deployment can set, with its default.

Reading files and the environment is in :mod:`strata.config.sources`, what makes no sense together in
:mod:`strata.config.coherence`.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

from strata.acl import Policy
from strata.auth import PRINCIPAL_HEADER, SCOPES_HEADER, TENANT_HEADER
from strata.config.fields import TenantSection, limit, setting

MIN_TOKEN_CHARACTERS = 16

UNIX_PATH_BYTES = 107
"""Longest path of a Unix socket (unix(7): 108 bytes with the final zero)."""

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2


@attrs.frozen(kw_only=True)
class Settings:
    """All settings: a TOML key under ``[tool.strata]`` and, upper-case, a ``STRATA_`` variable each."""

    deployment_mode: str = setting(
        "personal", "One person on loopback, or many behind a proxy.", choices=("personal", "service")
    )
    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8765, "Port to listen on; 0 picks a free one.", least=0, most=65535)
    unix_socket: str | None = setting(
        None, "Unix socket to listen on instead of host and port; its group may connect."
    )
    tls_certificate: str | None = setting(
        None, "PEM file with the server's certificate and chain: listen with TLS. Read again on SIGHUP."
    )
    tls_key: str | None = setting(None, "PEM file with its key, unless it is in the same file.")
    tls_client_ca: str | None = setting(
        None, "PEM file with authorities: a client, the proxy, must show a certificate of theirs."
    )
    max_connections: int = setting(
        4096,
        "Connections at a time; the longest idle one makes room for a new one.",
        least=1,
    )
    max_connections_per_peer: int = setting(
        0, "The same of one peer address; 0 for no bound of its own, as behind a proxy.", least=0
    )
    keep_alive_seconds: float = setting(
        75.0,
        "How long a connection may be idle; longer than the proxy keeps it (nginx: 60 s).",
        unit="seconds",
        least=1,
    )
    request_head_seconds: float = setting(
        10.0, "How long a request's head may take to arrive.", unit="seconds", least=0.1
    )
    request_body_seconds: float = setting(
        60.0, "How long a request's body may take to arrive.", unit="seconds", least=0.1, live=True
    )
    client_stall_seconds: float = setting(
        60.0, "How long a client may take none of the bytes it is sent.", unit="seconds", least=0.1
    )
    allow_remote_clients_in_personal: bool = setting(
        False, "Let personal mode listen on an address others can reach."
    )
    personal_mode_user_header: str | None = setting(
        None, "Header by which a proxy names the user in personal mode.", live=True
    )
    max_request_bytes: int = setting(
        1048576, "Largest body of a request.", unit="bytes", least=1024, live=True
    )
    shutdown_notice_seconds: float = setting(
        0.0,
        "How long the server goes on as before when told to stop, but for its readiness, which says no.",
        unit="seconds",
        least=0,
    )
    shutdown_grace_seconds: float = setting(
        30.0, "How long requests under way may take when the server stops.", unit="seconds", least=0
    )

    auth_mode: str = setting("none", "Who vouches for callers.", choices=("none", "trusted_proxy"))
    proxy_token: str | None = setting(
        None,
        f"Secret the proxy proves itself with; at least {MIN_TOKEN_CHARACTERS} characters.",
        secret=True,
        live=True,
    )
    proxy_token_previous: str | None = setting(
        None, "A second accepted secret, while the token is rotated.", secret=True, live=True
    )
    auth_failures_per_second: float = setting(
        5.0,
        "Failed authentications of one peer address that are answered 401; more are 429. Requests that "
        "authenticate are never limited by it.",
        least=0.001,
        live=True,
    )
    auth_failure_burst: int = setting(50, "How many of them may come at once.", least=1, live=True)
    principal_header: str = setting(PRINCIPAL_HEADER, "Header with the user's id.", live=True)
    scopes_header: str = setting(SCOPES_HEADER, "Header with the user's scopes.", live=True)
    hide_forbidden_as_not_found: bool = setting(
        True, "Answer what the access rules deny exactly as what does not exist.", live=True
    )
    acl_config: Policy | None = setting(
        None, "Access rules; see the ACL reference.", toml_only=True, live=True
    )
    acl_file: str | None = setting(
        None,
        "TOML file with the access rules instead, read again when it changes; see the ACL reference.",
        live=True,
    )
    acl_file_watch_seconds: float = setting(
        2.0,
        "How often it is looked at; a change is taken when two looks have seen the same. 0: never.",
        unit="seconds",
        least=0,
        live=True,
    )

    multi_tenant_enabled: bool = setting(False, "Keep tenants apart.")
    tenant_header: str = setting(
        TENANT_HEADER, "Header with the tenant; X-Strata-Tenant is always its alias.", live=True
    )
    require_tenant_header: bool = setting(False, "Refuse requests without a tenant.", live=True)
    max_tenants: int = setting(1000, "Most live tenants; idle ones make room for others.", least=1)
    tenant_idle_seconds: float = setting(
        900.0,
        "How long a tenant may be idle before the server lets go of it; its results and cache stay on disk.",
        unit="seconds",
        least=0.001,
    )
    mailbox_size: int = setting(256, "Questions that may wait for one tenant; more are refused.", least=1)
    max_tenant_crashes: int = setting(
        5, "Crashes within the window after which a tenant stays down.", least=0
    )
    tenant_crash_window_seconds: float = setting(60.0, "That window.", unit="seconds", least=1)

    tenants: dict[str, TenantSection] = setting(
        dict,
        "Limits of single tenants by id, each with the names of the settings marked so; also `weight`, "
        "`enabled` and, as a table of limits, `maximum`.",
        toml_only=True,
        live=True,
    )
    tenant_maximum: dict[str, float] = setting(
        dict,
        "What no tenant's limits can exceed, by limit; a tenant's own `maximum` may be less.",
        toml_only=True,
        live=True,
    )
    tenant_overrides_file: str | None = setting(
        None,
        "TOML file of limits that the admin API has changed, read again when it changes; by default "
        "tenant-overrides.toml in the artifact directory.",
    )

    warehouses: dict[str, str] = setting(
        dict, "Directories of Iceberg warehouses by alias; as a variable: `alias=/path,other=/path`."
    )
    catalogs: dict[str, dict[str, str]] = setting(
        dict, "pyiceberg catalogs by alias, each a table of its properties.", toml_only=True
    )

    cache_dir: str = setting("~/.strata/cache", "Directory of the tenants' cache shards.")
    max_cache_size_bytes: int = setting(
        10737418240,
        "Bytes of cached segments, shared by the tenants as they need them; of one: the most it may have.",
        unit="bytes",
        least=0,
        tenant=True,
    )
    cache_guaranteed_bytes: int = setting(
        67108864, "Bytes of them that no other tenant takes from one that is active.", unit="bytes", least=0
    )
    cache_granularity: str = setting(
        "row_group_projection",
        "What is cached: the columns a scan asked for.",
        choices=("row_group_projection",),
    )
    metadata_db: str | None = setting(
        None, "SQLite file of the artifacts' metadata; by default in the artifact directory."
    )

    batch_size: int = limit(65536, "Most rows of a record batch.", unit="rows", least=1)
    fetch_parallelism: int = limit(4, "Row groups of one scan in flight.", least=1)
    max_fetch_workers: int = setting(32, "Most threads that read and decode.", least=1)
    work_slots: int = setting(0, "Threads that read and decode; 0: as many as there are cores.", least=0)
    bulk_latency_tolerance: float = setting(
        4.0,
        "How many times longer than usual small scans may take to get a thread before large ones have fewer "
        "of them, one at least; 1 is strict, 1000 is never.",
        least=1,
    )
    fetch_timeout_seconds: float = limit(
        60.0, "Longest wait for a part of a row group.", unit="seconds", least=0.001
    )

    max_concurrent_scans: int = limit(100, "Builds of one tenant at a time.", least=1)
    max_tasks_per_scan: int = limit(1000, "Data files one scan may read.", least=1)
    plan_timeout_seconds: float = limit(30.0, "Longest planning of a scan.", unit="seconds", least=0.001)
    scan_timeout_seconds: float = limit(300.0, "Longest scan.", unit="seconds", least=0.001)
    max_response_bytes: int = limit(
        536870912, "Largest result, measured on its Arrow bytes.", unit="bytes", least=1024
    )
    stream_state_ttl_seconds: float = limit(
        300.0, "How long a stream waits for its first reader.", unit="seconds", least=0.001
    )

    interactive_slots: int = limit(32, "Small scans of one tenant at a time.", least=1)
    bulk_slots: int = limit(8, "Large scans of one tenant at a time.", least=1)
    interactive_slots_per_principal: int = limit(
        0,
        "Of those, most that one principal has at a time; 0 for no such bound.",
        least=0,
        zero_is_free=True,
    )
    bulk_slots_per_principal: int = limit(0, "The same for large scans.", least=0, zero_is_free=True)
    interactive_max_bytes: int = limit(10485760, "Largest small scan.", unit="bytes", least=0)
    interactive_max_columns: int = limit(10, "Most columns of a small scan.", least=0)
    interactive_queue_timeout_seconds: float = limit(
        10.0, "How long a small scan may wait for its slot.", unit="seconds", least=0.001
    )
    bulk_queue_timeout_seconds: float = limit(
        30.0, "How long a large scan may wait for its slot.", unit="seconds", least=0.001
    )

    rate_limit_enabled: bool = setting(
        True, "Whether the limits below are kept; each allows two seconds' worth at once.", live=True
    )
    rate_limit_global_rps: float = limit(
        1000.0, "Requests a second of one tenant; 0 for no limit, here and below.", least=0, zero_is_free=True
    )
    rate_limit_client_rps: float = limit(
        100.0, "Requests a second of one principal.", least=0, zero_is_free=True
    )
    rate_limit_scan_rps: float = limit(
        50.0, "Materializations and warmings a second of one principal.", least=0, zero_is_free=True
    )
    rate_limit_bytes_per_second: int = limit(
        0,
        "Bytes of answers a second of one tenant; streams are paced.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )
    rate_limit_client_bytes_per_second: int = limit(
        0, "The same of one principal.", unit="bytes", least=0, zero_is_free=True
    )
    rate_limit_bytes_per_day: int = limit(
        0,
        "Bytes of answers a day of one tenant. What is used comes back evenly over a day, and at a restart.",
        unit="bytes",
        least=0,
        zero_is_free=True,
    )
    rate_limit_client_bytes_per_day: int = limit(
        0, "The same of one principal.", unit="bytes", least=0, zero_is_free=True
    )

    memory_budget_bytes: int = setting(
        0,
        "Bytes all builds together may hold in flight; 0 for a quarter of the memory of the machine or its "
        "control group.",
        unit="bytes",
        least=0,
        live=True,
    )
    disk_reserve_bytes: int = setting(
        268435456,
        "Bytes left free where results are written; with less, nothing is built. 0 to fill the disk.",
        unit="bytes",
        least=0,
        live=True,
    )

    artifact_dir: str | None = setting(
        None,
        "Directory of results, of one server alone; required in service mode, whatever the blob backend, "
        "for metadata and results under way; ~/.strata/artifacts in personal mode.",
    )
    artifact_blob_backend: str = setting(
        "local", "Where results are kept in the end.", choices=("local", "s3", "gcs", "azure")
    )
    artifact_s3_bucket: str | None = setting(None, "Bucket of results on S3.")
    artifact_s3_prefix: str = setting("artifacts", "Prefix of results in the bucket.")
    artifact_gcs_bucket: str | None = setting(None, "Bucket of results on Google Cloud Storage.")
    artifact_gcs_prefix: str = setting("artifacts", "Prefix of results in the bucket.")
    artifact_azure_container: str | None = setting(None, "Container of results on Azure.")
    artifact_azure_prefix: str = setting("artifacts", "Prefix of results in the container.")
    artifact_copies_bytes: int = setting(
        10737418240,
        "Local copies of results whose place is elsewhere; the newest stays, however large.",
        unit="bytes",
        least=0,
    )
    s3_region: str | None = setting(None, "Region; else the AWS variables.")
    s3_endpoint_url: str | None = setting(None, "Endpoint of an S3-compatible store.")
    s3_access_key: str | None = setting(None, "Access key; else the AWS variables.", secret=True)
    s3_secret_key: str | None = setting(None, "Secret key; else the AWS variables.", secret=True)
    s3_anonymous: bool = setting(False, "Send unsigned requests.")
    s3_connect_timeout_seconds: float = setting(10.0, "Longest connect.", unit="seconds", least=0.001)
    s3_request_timeout_seconds: float = setting(30.0, "Longest request.", unit="seconds", least=0.001)

    metrics_port: int | None = setting(
        None,
        "Port where whoever reaches it reads the metrics, and nothing else; none: only the main port has "
        "them. 0 picks a free one.",
        least=0,
        most=65535,
    )
    metrics_host: str = setting("127.0.0.1", "Address of that port.")
    metrics_max_tenants: int = setting(
        1000, "Tenants with metrics of their own; those of all others are summed.", least=0
    )

    log_level: str = setting(
        "INFO", "Least level that is logged.", choices=("DEBUG", "INFO", "WARNING", "ERROR"), live=True
    )
    log_format: str = setting(
        "json", "One JSON object a line, or readable text.", choices=("json", "text"), live=True
    )

    @property
    def overrides_path(self) -> Path:
        """Where limits are kept that the admin API has changed."""
        if self.tenant_overrides_file is None:
            return self.artifact_root / "tenant-overrides.toml"
        return Path(self.tenant_overrides_file).expanduser()

    @property
    def artifact_root(self) -> Path:
        """Where results are kept: as configured, or personal mode's default."""
        return Path(self.artifact_dir or "~/.strata/artifacts").expanduser()


BUCKETS = {"s3": "artifact_s3_bucket", "gcs": "artifact_gcs_bucket", "azure": "artifact_azure_container"}
"""The setting each blob backend needs."""

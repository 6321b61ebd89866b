"""The limits of one tenant."""

from __future__ import annotations

import attrs

from strata.work import Tier


@attrs.frozen
class TenantLimits:
    """Limits of one tenant; each is measured where it applies.

    Attributes:
        interactive_slots: Interactive builds at a time.
        bulk_slots: Bulk builds at a time.
        interactive_slots_per_principal: Interactive builds of one principal at a time; 0 for no limit.
        bulk_slots_per_principal: Bulk builds of one principal at a time; 0 for no limit.
        interactive_max_bytes: Largest estimated Arrow bytes of an interactive scan.
        interactive_max_columns: Most columns of an interactive scan.
        interactive_queue_timeout: Seconds an interactive build may wait for its slot.
        bulk_queue_timeout: Seconds a bulk build may wait for its slot.
        max_builds: Builds at a time in all, those without a waiting request included.
        max_tasks: Most data files of a scan.
        max_response_bytes: Most Arrow bytes of a result.
        plan_timeout: Seconds for planning a scan.
        scan_timeout: Seconds for a whole build.
        fetch_timeout: Seconds for one row group, from its entry into the queue to its rows.
        fetch_parallelism: Row groups of one build in flight.
        batch_rows: Most rows of a record batch.
        stream_ttl: Seconds after which a stream that was never opened is forgotten.
        cache_bytes: Bytes of cached segments on disk.
        transform_memory: Bytes of memory of one SQL query.
        transform_spill: Bytes of disk of one SQL query.
        transform_threads: Threads of one SQL query.
        rate_limited: Whether the rates are limited: the seven fields from ``requests_per_second`` on.
        requests_per_second: Requests a second of all principals; 0 for no limit, as in the next six.
        principal_requests_per_second: Requests a second of one principal.
        principal_scans_per_second: Requests to materialize a second of one principal.
        bytes_per_second: Bytes a second sent to all principals; streams are delayed.
        principal_bytes_per_second: Bytes a second sent to one principal; streams are delayed.
        bytes_per_day: Bytes a day sent to all principals.
        principal_bytes_per_day: Bytes a day sent to one principal.
        artifact_max_bytes: Bytes of results and their texts that the tenant keeps; 0 for no limit.
        artifact_max_count: Results that the tenant keeps; 0 for no limit.
        artifact_max_idle: Seconds after which an unused result goes; 0 for never.
        artifact_min_idle: Seconds for which every result stays after its last use.
        names_shared: Whether names of another principal may be moved by all who may write.
        protected_aliases: Aliases whose changes a second person has to approve.
        access_audit: Whether reads of the tenant are recorded.
        weight: Share of the machine relative to the weights of competing tenants.
    """

    interactive_slots: int = 32
    bulk_slots: int = 8
    interactive_slots_per_principal: int = 0
    bulk_slots_per_principal: int = 0
    interactive_max_bytes: int = 10 * 1024 * 1024
    interactive_max_columns: int = 10
    interactive_queue_timeout: float = 10.0
    bulk_queue_timeout: float = 30.0
    max_builds: int = 100
    max_tasks: int = 1000
    max_response_bytes: int = 512 * 1024 * 1024
    plan_timeout: float = 30.0
    scan_timeout: float = 300.0
    fetch_timeout: float = 60.0
    fetch_parallelism: int = 4
    batch_rows: int = 65536
    stream_ttl: float = 300.0
    cache_bytes: int = 10 * 1024**3
    transform_memory: int = 512 * 1024 * 1024
    transform_spill: int = 4 * 1024**3
    transform_threads: int = 2
    rate_limited: bool = True
    requests_per_second: float = 1000.0
    principal_requests_per_second: float = 100.0
    principal_scans_per_second: float = 50.0
    bytes_per_second: int = 0
    principal_bytes_per_second: int = 0
    bytes_per_day: int = 0
    principal_bytes_per_day: int = 0
    artifact_max_bytes: int = 0
    artifact_max_count: int = 0
    artifact_max_idle: float = 0.0
    artifact_min_idle: float = 3600.0
    names_shared: bool = False
    protected_aliases: frozenset[str] = frozenset()
    access_audit: bool = False
    weight: float = 1.0

    def tier(self, estimated_bytes: int, columns: int) -> Tier:
        """Return a scan's tier: interactive when both its estimated Arrow bytes and its columns are few."""
        small = estimated_bytes <= self.interactive_max_bytes and columns <= self.interactive_max_columns
        return Tier.INTERACTIVE if small else Tier.BULK

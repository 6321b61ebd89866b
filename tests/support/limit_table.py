"""Which test shows where each limit of a tenant holds: written by hand, and checked to name every limit.

A new limit needs a line in :data:`EDGES`. That every limit reaches a running actor is tested in
``tests/service/test_every_limit.py``, whether it is listed here or not.
"""

from __future__ import annotations

_EDGES = "tests/tenants/limits/test_limit_edges.py::"
_RATES = "tests/tenants/limits/test_rates.py::"
_TIMES = "tests/simulation/test_time_limits.py::"
_HERE = "tests/service/test_every_limit.py::"
_REQUESTS = f"{_RATES}test_a_rate_of_requests_is_reached_exactly"
_BYTES = f"{_RATES}test_a_request_is_refused_while_its_bytes_are_in_debt"
_WAIT = f"{_EDGES}test_a_wait_for_a_slot_is_exactly_as_long_as_it_may_be"
_SMALL = f"{_EDGES}test_a_scan_is_small_up_to_exactly_so_many_bytes_and_columns"
_SLOTS = f"{_EDGES}test_slots_are_given_to_the_last_one"
_SQL = "tests/service/test_sql.py::test_a_query_has_exactly_the_limits_of_its_tenant"
_REGISTRY = "tests/service/test_registry.py::"
_DECIDING = "tests/tenants/retention/test_deciding.py::"
_OWN = "tests/tenants/limits/test_slots.py::test_a_principal_at_its_cap_is_told_so_and_others_go_on"

EDGES: dict[str, str] = {
    "batch_size": f"{_HERE}test_a_batch_has_exactly_as_many_rows_as_it_may",
    "fetch_parallelism": "tests/service/test_settings.py::test_row_groups_are_read_at_most_so_many_at_a_time",
    "fetch_timeout_seconds": f"{_TIMES}test_what_takes_as_long_as_it_may_is_done_and_what_takes_longer_is_not",
    "max_concurrent_scans": (
        f"{_EDGES}test_one_principal_has_four_fifths_of_max_concurrent_scans_and_not_one_more"
    ),
    "max_tasks_per_scan": "tests/service/test_settings.py::test_a_scan_of_too_many_files_is_refused",
    "plan_timeout_seconds": f"{_TIMES}test_what_takes_as_long_as_it_may_is_done_and_what_takes_longer_is_not",
    "scan_timeout_seconds": f"{_TIMES}test_a_scan_has_exactly_as_long_as_it_may",
    "max_response_bytes": (
        "tests/service/test_admin.py::test_a_limit_that_is_changed_holds_for_the_next_request"
    ),
    "stream_state_ttl_seconds": (
        "tests/tenants/builds/test_promised_streams.py::test_a_stream_waits_exactly_as_long_as_it_may"
    ),
    "interactive_slots": _SLOTS,
    "bulk_slots": _SLOTS,
    "interactive_slots_per_principal": _OWN,
    "bulk_slots_per_principal": _OWN,
    "interactive_max_bytes": _SMALL,
    "interactive_max_columns": _SMALL,
    "interactive_queue_timeout_seconds": _WAIT,
    "bulk_queue_timeout_seconds": _WAIT,
    "rate_limit_global_rps": _REQUESTS,
    "rate_limit_client_rps": _REQUESTS,
    "rate_limit_scan_rps": _REQUESTS,
    "rate_limit_bytes_per_second": _BYTES,
    "rate_limit_client_bytes_per_second": _BYTES,
    "rate_limit_bytes_per_day": _BYTES,
    "rate_limit_client_bytes_per_day": _BYTES,
    "max_cache_size_bytes": "tests/cache/test_cache_shard.py::test_a_budget_is_filled_to_the_last_byte",
    **dict.fromkeys(("transform_memory_bytes", "transform_spill_bytes", "transform_threads"), _SQL),
    "artifact_max_bytes": (
        "tests/service/test_retention.py::test_a_tenant_over_its_quota_makes_room_out_of_its_own_results"
    ),
    "artifact_max_count": (
        "tests/service/test_retention.py::"
        "test_a_tenant_whose_results_are_held_is_refused_and_told_when_waiting_helps"
    ),
    "artifact_max_idle_days": f"{_DECIDING}test_results_go_in_the_order_of_their_use_and_no_more_than_needed",
    "artifact_min_idle_seconds": (
        f"{_DECIDING}test_results_go_in_the_order_of_their_use_and_no_more_than_needed"
    ),
    "artifact_names_shared": f"{_REGISTRY}test_names_of_others_can_be_shared_by_a_setting",
    "access_audit": "tests/service/test_access_audit.py::test_it_is_off_unless_a_tenant_has_it_on",
    "registry_protected_aliases": f"{_REGISTRY}test_a_protected_alias_needs_a_second_person",
    "weight": "tests/work/test_fair_bound.py::test_bytes_follow_the_weights",
    "enabled": "tests/service/test_admin.py::test_a_disabled_tenant_is_403_and_has_no_actor",
}
"""By limit, the test that reaches it exactly and passes just below it."""

DRAINS: dict[str, str] = {
    "max_concurrent_scans": f"{_EDGES}test_max_concurrent_scans_lowered_below_use_drains",
    "interactive_slots": "tests/service/test_admin.py::test_lowered_slots_drain_and_are_never_given_twice",
    "bulk_slots": "tests/tenants/limits/test_slots.py::test_lowering_below_use_drains_and_never_over_admits",
    "interactive_slots_per_principal": f"{_EDGES}test_a_principals_slots_lowered_below_use_drain",
    "bulk_slots_per_principal": f"{_EDGES}test_a_principals_slots_lowered_below_use_drain",
    "max_cache_size_bytes": "tests/cache/test_cache_shard.py::test_a_budget_is_filled_to_the_last_byte",
    "stream_state_ttl_seconds": (
        "tests/tenants/builds/test_promised_streams.py::test_a_changed_time_holds_for_every_new_stream"
    ),
    "rate_limit_client_rps": f"{_RATES}test_a_new_limit_holds_at_once_for_what_was_taken",
}
"""By limit on concurrent use, the test that lowers it below its use."""

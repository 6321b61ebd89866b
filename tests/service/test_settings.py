"""Every setting has an effect, shown here or in the test named here."""

import threading
from functools import partial
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from reading_here import read_here
from service_kit import ARROW, TOKEN, Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.http.serving.connection import ClientTimeouts
from strata.server import run_server
from strata.server.run import timeouts_of
from strata.server.service import contract_of, limits_of
from strata.tenants.builds import planning, scan_pipeline
from strata.work import Tier

ELSEWHERE = {
    **dict.fromkeys(
        ("access_audit", "access_audit_days", "access_audit_max_bytes", "access_audit_required"),
        "tests/service/test_access_audit.py",
    ),
    "accel_redirect": "tests/deploy/test_accelerated.py",
    "artifact_presigned_seconds": "tests/deploy/test_signed_objects.py",
    "catalog_callers": "tests/service/test_catalogs_as_the_caller.py",
    "tracing_enabled": "tests/service/test_tracing.py",
    "artifact_gc_interval_seconds": "tests/service/test_retention.py",
    "artifact_max_bytes": "tests/service/test_retention.py",
    "artifact_max_count": "tests/service/test_retention.py",
    "artifact_max_idle_days": "tests/service/test_retention.py",
    "artifact_min_idle_seconds": "tests/service/test_retention.py",
    "artifact_names_shared": "tests/service/test_registry.py",
    "registry_protected_aliases": "tests/service/test_registry.py",
    "notebook_workers": "tests/service/test_notebook_sessions.py",
    "notebook_environments": "tests/service/test_notebook_executors.py",
    "transforms": "tests/service/test_sql.py",
    "transform_memory_bytes": "tests/service/test_sql_escapes.py",
    "transform_spill_bytes": "tests/service/test_sql_escapes.py",
    "transform_threads": "tests/service/test_sql.py",
    "service_writes_enabled": "tests/service/test_removal.py",
    "allowed_hosts": "tests/service/test_browsers.py, tests/http/door/test_cross_site.py",
    "deployment_mode": "tests/config/test_boot_matrix.py, tests/service/test_contract.py (direct writes)",
    "host": "tests/service/test_settings.py::test_host_and_port_are_where_the_server_listens",
    "port": "tests/service/test_settings.py::test_host_and_port_are_where_the_server_listens",
    "allow_remote_clients_in_personal": "tests/config/test_boot_matrix.py",
    "auth_mode": "tests/test_auth.py",
    "proxy_token": "tests/test_auth.py",
    "hide_forbidden_as_not_found": "tests/service/test_isolation.py",
    "acl_config": "tests/service/test_isolation.py",
    "acl_file": "tests/service/test_acl_http.py, tests/config/test_rules_file.py",
    "acl_file_watch_seconds": "tests/service/test_acl_http.py, tests/config/test_rules_file.py",
    "multi_tenant_enabled": "tests/test_auth.py",
    "require_tenant_header": "tests/test_auth.py",
    "max_tenants": "tests/tenants/lifecycle/test_registry.py",
    "tenant_idle_seconds": "tests/tenants/lifecycle/test_registry.py, tests/service/test_scale.py",
    "metrics_max_tenants": "tests/tenants/lifecycle/test_registry.py, tests/service/test_metrics.py",
    "metrics_port": "tests/service/test_metrics.py",
    "metrics_host": "tests/service/test_metrics.py",
    "cache_guaranteed_bytes": "tests/cache/test_cache_budget.py, tests/service/test_cache_sharing.py",
    "mailbox_size": "tests/tenants/lifecycle/test_registry.py",
    "max_tenant_crashes": "tests/service/test_isolation.py",
    "tenant_crash_window_seconds": "tests/tenants/lifecycle/test_registry.py",
    "tenants": "tests/tenants/limits/test_overrides.py",
    "tenant_maximum": "tests/tenants/limits/test_overrides.py",
    "tenant_overrides_file": "tests/tenants/limits/test_overrides.py",
    "warehouses": "tests/service/test_contract.py",
    "catalogs": "tests/tables/catalogs/test_loading.py",
    "cache_granularity": "tests/config/test_settings.py: it has one value",
    "max_concurrent_scans": "tests/service/test_builds.py",
    "max_response_bytes": "tests/service/test_builds.py",
    "interactive_slots": "tests/service/test_builds.py",
    "interactive_queue_timeout_seconds": "tests/service/test_builds.py",
    "artifact_blob_backend": "tests/artifacts/blobs/test_blob_stores.py",
    "log_level": "tests/observability/test_logs.py",
    "log_format": "tests/observability/test_logs.py",
    "shutdown_grace_seconds": "tests/service/test_signals.py",
    "shutdown_notice_seconds": "tests/service/test_connections.py",
    "unix_socket": "tests/service/test_connections.py",
    "max_connections": "tests/service/test_connections.py",
    "max_connections_per_peer": "tests/service/test_connections.py",
    "keep_alive_seconds": "tests/service/test_connections.py",
    "request_head_seconds": "tests/service/test_connections.py",
    "request_body_seconds": "tests/service/test_connections.py",
    "client_stall_seconds": "tests/service/test_signals.py",
    "auth_failures_per_second": "tests/http/door/test_front_door.py, tests/service/test_connections.py",
    "auth_failure_burst": "tests/service/test_connections.py",
    "tls_certificate": "tests/service/test_connections.py, tests/config/test_tls.py",
    "tls_key": "tests/service/test_connections.py, tests/config/test_tls.py",
    "tls_client_ca": "tests/service/test_connections.py, tests/config/test_tls.py",
}
for _name in ("s3_bucket", "s3_prefix", "gcs_bucket", "gcs_prefix", "azure_container", "azure_prefix"):
    ELSEWHERE[f"artifact_{_name}"] = "tests/artifacts/blobs/test_object_settings.py"
for _name in ("region", "endpoint_url", "access_key", "secret_key", "session_token", "anonymous"):
    ELSEWHERE[f"s3_{_name}"] = "tests/artifacts/blobs/test_object_settings.py"
for _name in (
    "azure_account", "azure_account_key", "azure_client_id", "azure_client_secret", "azure_directory_id",
    "azure_endpoint_url", "azure_sas_token", "gcs_endpoint_url", "gcs_service_account_file",
):  # fmt: skip
    ELSEWHERE[_name] = "tests/artifacts/blobs/test_object_settings.py"
for _name in ("dsn", "connections"):
    ELSEWHERE[f"artifact_metadata_{_name}"] = "tests/service/test_on_postgresql.py"
ELSEWHERE["artifact_lease_seconds"] = "tests/service/test_two_servers.py"
ELSEWHERE["artifact_copies_bytes"] = "tests/service/test_on_s3.py"
for _name in ("connect", "request"):
    ELSEWHERE[f"s3_{_name}_timeout_seconds"] = "tests/artifacts/blobs/test_object_settings.py"

for _name in ("enabled", "global_rps", "client_rps", "scan_rps"):
    ELSEWHERE[f"rate_limit_{_name}"] = "tests/service/test_rate_limits.py, tests/tenants/limits/test_rates.py"
for _name in ("bytes_per_second", "client_bytes_per_second", "bytes_per_day", "client_bytes_per_day"):
    ELSEWHERE[f"rate_limit_{_name}"] = "tests/service/test_rate_limits.py, tests/tenants/limits/test_rates.py"
for _name in ("memory_budget_bytes", "disk_reserve_bytes"):
    ELSEWHERE[_name] = "tests/service/test_machine_limits.py"

HERE = (
    "principal_header", "scopes_header", "tenant_header", "proxy_token_previous", "personal_mode_user_header",
    "max_request_bytes", "cache_dir", "artifact_dir", "metadata_db", "max_cache_size_bytes", "batch_size",
    "fetch_parallelism", "work_slots", "max_fetch_workers", "fetch_timeout_seconds", "plan_timeout_seconds",
    "scan_timeout_seconds", "max_tasks_per_scan", "stream_state_ttl_seconds", "interactive_max_bytes",
    "interactive_max_columns", "bulk_slots", "bulk_queue_timeout_seconds", "unix_socket", "max_connections",
    "max_connections_per_peer", "keep_alive_seconds", "request_head_seconds", "request_body_seconds",
    "client_stall_seconds", "auth_failures_per_second", "auth_failure_burst", "interactive_slots_per_principal",
    "bulk_slots_per_principal",
    "bulk_latency_tolerance",
)  # fmt: skip


def test_every_setting_has_a_test_of_its_effect() -> None:
    """Each setting names an existing test of its effect."""
    source = Path(__file__).read_text()
    root = Path(__file__).parents[2]
    names = {field.name for field in attrs.fields(Settings)}

    assert names == set(ELSEWHERE) | set(HERE)
    for name in HERE:
        assert f"{name}=" in source or f'"{name}"' in source.partition("HERE = ")[2].partition(")")[2], name
    for where in ELSEWHERE.values():
        assert (root / where.partition("::")[0].partition(",")[0].partition(":")[0]).exists(), where


async def status(settings: Settings, headers: dict[str, str], path: str = "/v1/artifacts") -> int:
    async with running(settings) as server, httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        return (await client.get(path)).status_code


async def test_identity_headers_have_the_configured_names(settings: Settings) -> None:
    """Configured header names are used, and the default ones no longer."""
    changed = attrs.evolve(settings, principal_header="X-Who", scopes_header="X-May", tenant_header="X-Team")
    mine = {"X-Strata-Proxy-Token": TOKEN, "X-Who": "ana", "X-May": "admin:cache", "X-Team": "a"}

    assert 200 == await status(changed, mine, "/v1/cache/stats")
    assert 401 == await status(changed, identity())


async def test_the_previous_token_is_accepted_while_it_is_rotated(settings: Settings) -> None:
    """Both tokens are accepted, and no third one."""
    changed = attrs.evolve(settings, proxy_token="a-newer-token-of-many-letters", proxy_token_previous=TOKEN)

    assert 200 == await status(changed, identity())
    assert 200 == await status(
        changed, identity() | {"X-Strata-Proxy-Token": "a-newer-token-of-many-letters"}
    )
    assert 401 == await status(
        changed, identity() | {"X-Strata-Proxy-Token": "another-token-of-many-letters"}
    )


async def test_personal_mode_names_its_user_by_header(settings: Settings) -> None:
    """The configured header names the principal, and streams belong to it."""
    personal = Settings(
        artifact_dir=settings.artifact_dir, cache_dir=settings.cache_dir, personal_mode_user_header="X-User"
    )
    assert "X-User" == contract_of(personal).personal_user_header
    assert 200 == await status(personal, {"X-User": "ana"})
    assert 200 == await status(personal, {})


async def test_bodies_are_capped_at_max_request_bytes(settings: Settings) -> None:
    """The limit is exact to the byte."""
    async with running(attrs.evolve(settings, max_request_bytes=2000)) as server, server.client() as client:
        for size, expected in ((2000, 422), (2001, 413)):
            answer = await client.post(
                "/v1/materialize", content=b"x" * size, headers={"Content-Type": "application/json"}
            )
            assert expected == answer.status_code


async def test_files_lie_where_they_are_configured(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """`cache_dir`, `artifact_dir` and `metadata_db` contain the files."""
    warehouse.create(numbers(10))
    changed = attrs.evolve(
        settings,
        cache_dir=str(tmp_path / "c"),
        artifact_dir=str(tmp_path / "a"),
        metadata_db=str(tmp_path / "m.db"),
    )
    async with running(changed) as server, server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        assert (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
        with trio.fail_after(10):
            admin = identity(scopes="admin:cache")
            while not (await client.get("/v1/cache/stats", headers=admin)).json()["segments"]:
                pass  # segments are kept after the result is ready
    assert (tmp_path / "m.db").exists()
    assert 1 == len(list((tmp_path / "a").rglob("*.arrow")))
    assert 1 == len(list((tmp_path / "c").rglob("*.pack")))


async def test_the_cache_keeps_to_its_budget(settings: Settings, warehouse: Warehouse) -> None:
    """With `max_cache_size_bytes = 0` nothing is cached."""
    warehouse.create(numbers(10))
    admin = identity("root", scopes="admin:*")
    async with (
        running(attrs.evolve(settings, max_cache_size_bytes=0)) as server,
        server.client(**admin) as client,
    ):
        await fetch(client, scan(warehouse.uri()))
        await fetch(client, scan(warehouse.uri(), params={"columns": ["id"]}))
        assert 0 == (await client.get("/v1/cache/stats")).json()["size_bytes"]


async def test_batches_have_at_most_batch_size_rows(settings: Settings, warehouse: Warehouse) -> None:
    """Batches respect `batch_size` with large row groups."""
    warehouse.create(numbers(100))
    async with running(attrs.evolve(settings, batch_size=30)) as server, server.client() as client:
        answer = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})
    assert [30, 30, 30, 10] == [batch.num_rows for batch in pa.ipc.open_stream(answer.content)]


@pytest.mark.parametrize(
    ("parallelism", "slots", "workers", "most"), [(1, 8, 8, 1), (6, 8, 8, 6), (6, 3, 8, 3), (6, 8, 2, 2)]
)
async def test_row_groups_are_read_at_most_so_many_at_a_time(  # noqa: PLR0917  # fixtures and cases
    settings: Settings,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    parallelism,
    slots,
    workers,
    most,
) -> None:
    """`fetch_parallelism` bounds a scan, `work_slots` and `max_fetch_workers` the process; each bound is reached."""
    warehouse.create(numbers(1000), **{"write.parquet.row-group-limit": "50"})
    gate, lock, now, peak = threading.Event(), threading.Lock(), [0], [0]
    real = scan_pipeline.read_slice
    first = threading.Event()

    def counted(*args, **kwargs):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        if first.is_set():
            gate.wait(20)
        first.set()  # the first one has the machine to itself
        found = real(*args, **kwargs)
        with lock:
            now[0] -= 1
        return found

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", counted)
    changed = attrs.evolve(
        settings, fetch_parallelism=parallelism, work_slots=slots, max_fetch_workers=workers
    )
    async with running(changed) as server, server.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(fetch, client, scan(warehouse.uri()))
        with trio.fail_after(20):
            while now[0] < most:  # noqa: ASYNC110  # threads set no event
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert (most, most) == (now[0], peak[0])
        assert min(slots, workers) == server.service.registry.resources.pool.slots
        gate.set()
    assert most == peak[0]


@pytest.mark.parametrize(("tolerance", "limit"), [(1.0, 1), (4.0, 1), (1000.0, 4)])
async def test_bulk_latency_tolerance_is_when_large_scans_make_room(
    settings: Settings, tolerance: float, limit: int
) -> None:
    """At twenty times the usual latency bulk scans lose threads by default; tests/work/test_pool_time.py has the pool."""
    changed = attrs.evolve(settings, work_slots=4, bulk_latency_tolerance=tolerance)
    async with running(changed) as server:
        pool = server.service.registry.resources.pool
        adaptive = pool._bulk
        assert adaptive is not None
        for latency in [0.005] * 600 + [0.1] * 30:
            adaptive.sample(latency, 4)
        await pool.run("a", Tier.INTERACTIVE, bool)  # interactive work has run

        assert limit == pool.bulk_limit


def slow(monkeypatch: pytest.MonkeyPatch, module, name: str) -> threading.Event:
    """Make a blocking function wait until the event is set."""
    gate, real = threading.Event(), getattr(module, name)

    def waiting(*args, **kwargs):
        gate.wait(20)
        return real(*args, **kwargs)

    if module is scan_pipeline:
        read_here(monkeypatch)
    monkeypatch.setattr(module, name, waiting)
    return gate


TIMEOUTS: list[tuple[str, object, str]] = [
    ("fetch_timeout_seconds", scan_pipeline, "read_slice"),
    ("plan_timeout_seconds", planning, "plan_step"),
    ("scan_timeout_seconds", scan_pipeline, "read_slice"),
]


@pytest.mark.parametrize(("setting", "module", "name"), TIMEOUTS)
async def test_each_timeout_ends_a_build_and_says_its_name(  # noqa: PLR0917  # fixtures and cases
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, setting: str, module, name: str
) -> None:
    """Each timeout is 504 with a message, and frees the slot."""
    warehouse.create(numbers(10))
    gate = slow(monkeypatch, module, name)
    async with running(attrs.evolve(settings, **{setting: 0.05})) as server, server.client() as client:
        answer = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})
        assert 504 == answer.status_code
        assert setting in answer.json()["detail"]
        [tenant] = server.service.registry.tenants()
        assert 0 == sum(slots.used for slots in tenant.actor.builder.slots.values())
        gate.set()


async def test_a_scan_of_too_many_files_is_refused(settings: Settings, warehouse: Warehouse) -> None:
    """`max_tasks_per_scan` is exact."""
    table = warehouse.create(numbers(1))
    table.append(numbers(1, start=1))
    for most, expected in ((2, 200), (1, 413)):
        async with (
            running(attrs.evolve(settings, max_tasks_per_scan=most)) as server,
            server.client() as client,
        ):
            answer = await client.post(
                "/v1/materialize", json=scan(warehouse.uri(), params={"columns": ["id"]})
            )
            assert expected == answer.status_code


async def test_a_stream_nobody_reads_is_forgotten(settings: Settings, warehouse: Warehouse) -> None:
    """After `stream_state_ttl_seconds` the stream is not found; its result stays."""
    warehouse.create(numbers(1))
    async with (
        running(attrs.evolve(settings, stream_state_ttl_seconds=0.001)) as server,
        server.client() as client,
    ):
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        with trio.fail_after(10):
            while (await client.get(url)).status_code != 404:
                pass
            while not (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]:
                pass


@pytest.mark.parametrize("change", [{"interactive_max_bytes": 10}, {"interactive_max_columns": 2}, {}])
async def test_bytes_and_columns_decide_the_tier(
    settings: Settings, warehouse: Warehouse, change, monkeypatch
) -> None:
    """Large scans are bulk, and a full bulk tier refuses after `bulk_queue_timeout_seconds`."""
    warehouse.create(numbers(1000))
    gate = slow(monkeypatch, scan_pipeline, "read_slice")
    changed = attrs.evolve(settings, bulk_slots=1, bulk_queue_timeout_seconds=0.05, **change)
    async with running(changed) as server, server.client() as client:
        first = scan(warehouse.uri(), mode="artifact")
        second = scan(warehouse.uri(), mode="artifact", params={"columns": ["name", "value", "id"]})
        assert 200 == (await client.post("/v1/materialize", json=first)).status_code
        answer = await client.post("/v1/materialize", json=second)
        [tenant] = server.service.registry.tenants()
        used = {tier.value: slots.used for tier, slots in tenant.actor.builder.slots.items()}
        assert ({"interactive": 0, "bulk": 1} if change else {"interactive": 2, "bulk": 0}) == used
        assert ((429, "bulk_slots") if change else (200, None)) == (
            answer.status_code,
            answer.json().get("error"),
        )
        gate.set()


@pytest.mark.parametrize("change", [{"bulk_slots_per_principal": 1, "interactive_max_bytes": 10}, {}])
async def test_a_principal_has_so_many_slots(
    settings: Settings, warehouse: Warehouse, monkeypatch, change
) -> None:
    """`interactive_slots_per_principal` and `bulk_slots_per_principal` bound each principal separately."""
    warehouse.create(numbers(1000))
    gate = slow(monkeypatch, scan_pipeline, "read_slice")
    change = change or {"interactive_slots_per_principal": 1}
    waits = {"interactive_queue_timeout_seconds": 0.05, "bulk_queue_timeout_seconds": 0.05}
    async with running(attrs.evolve(settings, **change, **waits)) as server, server.client() as client:
        found = []
        for who, column in (("ana", "id"), ("ana", "name"), ("bob", "value")):
            body = scan(warehouse.uri(), mode="artifact", params={"columns": [column]})
            found.append(await client.post("/v1/materialize", json=body, headers=identity(who)))
        (name,) = (key for key in change if key.endswith("principal"))
        assert [200, 429, 200] == [answer.status_code for answer in found]
        assert name == found[1].json()["error"]
        gate.set()


async def test_host_and_port_are_where_the_server_listens(server: Running) -> None:
    """The server listens on `host` and `port`; the test kit binds port 0."""
    assert server.url.startswith("http://127.0.0.1:")
    assert (8765, "127.0.0.1") == ((default := Settings()).port, default.host)
    assert 32 == limits_of(default).interactive_slots


async def test_connections_are_what_the_settings_say(settings: Settings, tmp_path: Path) -> None:
    """Socket, maxima in total and per peer, and deadlines follow the settings."""
    path = tmp_path / "s.sock"
    changed = attrs.evolve(settings, unix_socket=str(path), max_connections=3, max_connections_per_peer=2)
    announced: list[str] = []

    async def alive(stream: trio.SocketStream) -> bytes:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await stream.receive_some())[: len(b"HTTP/1.1 200")]

    ready = trio.Event()

    def announce(urls: list[str]) -> None:
        announced.extend(urls)
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_server, changed, announce=announce))
        await ready.wait()
        streams = []
        for _ in range(3):
            streams.append(await trio.open_unix_socket(path))
            assert b"HTTP/1.1 200" == await alive(streams[-1])
        with trio.fail_after(60):
            assert b"" == await streams[0].receive_some()
        assert [b"HTTP/1.1 200"] * 2 == [await alive(stream) for stream in streams[1:]]
        nursery.cancel_scope.cancel()
    assert [f"unix:{path}"] == announced
    patience = timeouts_of(
        attrs.evolve(settings, keep_alive_seconds=11, request_head_seconds=12, client_stall_seconds=13)
    )
    assert ClientTimeouts(idle=11, head=12, stall=13) == patience


async def test_a_body_that_is_late_is_408_when_request_body_seconds_are_over(settings: Settings) -> None:
    """A late body is 408 after `request_body_seconds`, and not before."""
    async with running(attrs.evolve(settings, request_body_seconds=0.2)) as server:
        port = int(server.url.rsplit(":", 1)[1])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        head = "".join(f"{name}: {value}\r\n" for name, value in identity().items())
        await stream.send_all(
            f"POST /v1/materialize HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 9\r\n\r\n".encode()
        )
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")


async def test_failed_authentications_are_limited_as_configured(settings: Settings) -> None:
    """`auth_failure_burst` and `auth_failures_per_second` limit failures, and no authenticated request."""
    changed = attrs.evolve(settings, auth_failures_per_second=0.001, auth_failure_burst=2)
    async with running(changed) as server, server.client() as client:
        wrong = {"X-Strata-Proxy-Token": "x" * 20}
        seen = [await client.get("/v1/artifacts", headers=identity() | wrong) for _ in range(4)]
        assert [401, 401, 429, 429] == [answer.status_code for answer in seen]
        assert 900 <= int(seen[-1].headers["Retry-After"]) <= 1000
        assert 200 == (await client.get("/v1/artifacts")).status_code

"""Faults observed in servers of this kind that are visible only over HTTP; each test is named for its fault.

The page docs/explanation/what-went-wrong.md lists all of them with their tests.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from service_kit import ARROW, Running, Warehouse, fetch, identity, numbers, running, scan

from strata import acl
from strata.config import Settings

A, B, EVE = identity("ana", "team-a"), identity("bob", "team-b"), identity("eve", "team-a")
DENY_EVE = acl.Policy(deny=(acl.Rule("eve", "tables/*/db/closed"),), allow=(acl.Rule("*", "tables/**"),))


async def test_a_filtered_result_is_kept_as_the_rows_of_its_filter(
    server: Running, warehouse: Warehouse
) -> None:
    """`id = 5` stores one row, also from a cache that has the whole row group."""
    warehouse.create(numbers(1000))
    body = scan(warehouse.uri(), params={"filters": [{"column": "id", "op": "=", "value": 5}]})
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        assert [5] == (await fetch(client, body))["id"].to_pylist()
        kept = (await client.post("/v1/materialize", json=body)).json()
        assert kept["hit"]
        data = await client.get(kept["stream_url"])
        assert [5] == pa.ipc.open_stream(data.content).read_all()["id"].to_pylist()
        assert 1 == (await client.get(kept["stream_url"].removesuffix("/data"))).json()["row_count"]


@pytest.mark.parametrize("mode", ["", "Stream", "artifacts", "stream ", 1, None])
async def test_a_misspelled_mode_is_refused(server: Running, warehouse: Warehouse, mode: object) -> None:
    """A misspelled mode is an error instead of the default."""
    warehouse.create(numbers(1))
    async with server.client() as client:
        answer = await client.post("/v1/materialize", json=scan(warehouse.uri(), mode=mode))
    assert answer.status_code in (400, 422)
    assert "mode" in answer.text


async def test_a_cached_result_is_not_readable_by_a_principal_the_rules_deny(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A denied principal of the tenant gets the result neither by request, nor by address, nor by name."""
    warehouse.create(numbers(10), "db.closed")
    uri = warehouse.uri("db.closed")
    async with running(attrs.evolve(settings, acl_config=DENY_EVE)) as server:
        async with server.client(**A) as ana:
            await fetch(ana, scan(uri, name="mine"))
            data = (await ana.post("/v1/materialize", json=scan(uri))).json()["stream_url"]
        async with server.client(**EVE) as eve:
            assert 404 == (await eve.post("/v1/materialize", json=scan(uri))).status_code
            direct = await eve.post("/v1/materialize", json=scan(uri), headers={"Accept": ARROW})
            assert 404 == direct.status_code
            for path in (data, data.removesuffix("/data"), "/v1/names/mine"):
                assert 404 == (await eve.get(path)).status_code, path


PLANNING = [
    {"columns": ["no_such_column"]},
    {"filters": [{"column": "id", "op": "=", "value": "no number"}]},
    {"snapshot_id": 1},
    {"ref": "none"},
]


@pytest.mark.parametrize("params", PLANNING, ids=str)
async def test_planning_errors_do_not_tell_a_denied_table_from_a_missing_one(
    settings: Settings, warehouse: Warehouse, params: dict
) -> None:
    """Access rules are checked before planning, so its errors reveal no denied table."""
    warehouse.create(numbers(10), "db.closed")
    async with (
        running(attrs.evolve(settings, acl_config=DENY_EVE)) as server,
        server.client(**EVE) as eve,
        server.client(**A) as ana,
    ):
        seen = [
            await eve.post(
                "/v1/materialize",
                json=scan(warehouse.uri(table), params=params),
                headers={"X-Request-ID": "same"},
            )
            for table in ("db.closed", "db.missing")
        ]
        assert seen[0].content == seen[1].content
        assert [404, 404] == [answer.status_code for answer in seen]
        own = await ana.post("/v1/materialize", json=scan(warehouse.uri("db.closed"), params=params))
        assert own.status_code in (400, 404)
        assert own.json()["detail"] != seen[0].json()["detail"], "who may read it is told what is wrong"


async def test_forwarded_for_headers_mint_no_new_client(settings: Settings) -> None:
    """Failures are counted by the peer's address, with any `X-Forwarded-For`."""
    changed = attrs.evolve(settings, auth_failures_per_second=0.001, auth_failure_burst=3)
    async with running(changed) as server, server.client() as client:
        seen = []
        for guess in range(6):
            named = {"X-Forwarded-For": f"10.0.0.{guess}", "Forwarded": f"for=10.0.1.{guess}"}
            wrong = {"X-Strata-Proxy-Token": "x" * 20, "X-Real-IP": f"10.0.2.{guess}"}
            seen.append((await client.get("/v1/artifacts", headers=identity() | wrong | named)).status_code)
        assert [401] * 3 + [429] * 3 == seen


async def test_readiness_probes_are_never_rate_limited(settings: Settings) -> None:
    """Probes of an address that has used up its failures are still answered."""
    changed = attrs.evolve(settings, auth_failures_per_second=0.001, auth_failure_burst=1)
    async with running(changed) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert [401, 429] == [(await client.get("/v1/artifacts")).status_code for _ in range(2)]
        for path in ("/health", "/health/ready"):
            assert {200} == {(await client.get(path)).status_code for _ in range(300)}


async def test_work_in_threads_is_cached_under_the_tenant_that_asked_for_it(
    server: Running, settings: Settings, warehouse: Warehouse
) -> None:
    """Rows read in a thread are cached for the tenant of the request."""
    starts = {"team-a": 100_000, "team-b": 200_000}
    for tenant, start in starts.items():
        rows = numbers(2000, start=start).append_column("only", pa.array([f"{tenant}-only"] * 2000))
        warehouse.create(rows, f"db.of_{tenant[-1]}", **{"write.parquet.row-group-limit": "100"})

    async def scanning(who: dict[str, str], table: str) -> None:
        async with server.client(**who) as client:
            assert 2000 == (await fetch(client, scan(warehouse.uri(table)))).num_rows

    async with trio.open_nursery() as nursery:
        nursery.start_soon(scanning, A, "db.of_a")
        nursery.start_soon(scanning, B, "db.of_b")
    for tenant in starts:
        async with server.client(**identity("root", tenant, "admin:cache")) as admin:
            with trio.fail_after(20):
                while (await admin.get("/v1/cache/stats")).json()["segments"] < 20:
                    pass  # segments are kept after the result is ready
    kept = await trio.to_thread.run_sync(_packs_by_shard, Path(settings.cache_dir))
    assert sorted([(True, False), (False, True)]) == sorted(
        (b"team-a-only" in content, b"team-b-only" in content) for content in kept
    )


def _packs_by_shard(cache: Path) -> list[bytes]:
    shards: dict[Path, bytes] = {}
    for pack in cache.rglob("*.pack"):
        shards[pack.parent] = shards.get(pack.parent, b"") + pack.read_bytes()
    return list(shards.values())


async def test_metric_families_are_declared_once_and_carry_their_tenant(
    server: Running, warehouse: Warehouse
) -> None:
    """Each family is declared once, with a tenant label unless it belongs to the process."""
    warehouse.create(numbers(1))
    for who in (A, B):
        async with server.client(**who) as client:
            await fetch(client, scan(warehouse.uri()))
    async with server.client(**identity("root", scopes="admin:metrics")) as admin:
        lines = (await admin.get("/metrics")).text.splitlines()
    families = [line.split()[2] for line in lines if line.startswith("# TYPE strata_")]
    assert len(families) == len(set(families)) >= 10
    samples = [line for line in lines if line.startswith("strata_")]
    of_tenants, of_process = (
        {line.partition("{")[0] for line in samples if ('tenant="' in line) == named}
        for named in (True, False)
    )
    assert set() == of_tenants & of_process
    assert len(of_tenants) >= 10
    for tenant in ("team-a", "team-b"):
        assert any(f'tenant="{tenant}"' in line for line in samples)


async def test_a_large_body_is_refused_without_a_word_of_it(server: Running) -> None:
    """A body of 50 MB is refused, and the error has no part of it."""
    async with server.client() as client:
        answer = await client.post("/v1/materialize", content=b'{"s3cr3t": "' + b"s3cr3t" * 9_000_000)
    assert 413 == answer.status_code
    assert "s3cr3t" not in answer.text
    assert len(answer.content) < 1000

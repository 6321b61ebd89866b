"""A service with tables in a REST catalog: the contract, access rules, and a catalog that does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import httpx
import pytest
import trio
from rest_catalog import RestServer, rest_server
from service_kit import ARROW, Warehouse, fetch, identity, numbers, running, scan

from strata import acl
from strata.config import Settings
from strata.tenants.shared import resources

A, B = identity("ana", "team-a"), identity("bob", "team-b")


@pytest.fixture
def rest(warehouse: Warehouse) -> Iterator[RestServer]:
    with rest_server(warehouse.catalog) as server:
        yield server


@pytest.fixture
def on_rest(settings: Settings, rest: RestServer) -> Settings:
    prod = {"type": "rest", "uri": rest.uri, "token": "s3cr3t-of-the-catalog"}
    return attrs.evolve(settings, catalogs={"prod": prod})


async def test_a_table_of_a_rest_catalog_is_scanned_by_its_alias(
    on_rest: Settings, warehouse: Warehouse
) -> None:
    """A scan is a miss, then a hit, and has the new rows after a commit."""
    table = warehouse.create(numbers(10))
    some = scan("prod:db.events", params={"filters": [{"column": "id", "op": "<", "value": 3}]})
    async with running(on_rest) as server, server.client() as client:
        assert numbers(3).to_pylist() == (await fetch(client, some)).to_pylist()
        assert (await client.post("/v1/materialize", json=some)).json()["hit"]
        table.append(numbers(1, start=-1))
        assert [-1, 0, 1, 2] == sorted((await fetch(client, some))["id"].to_pylist())


async def test_a_denied_table_of_a_rest_catalog_is_byte_for_byte_a_missing_one(
    on_rest: Settings, warehouse: Warehouse
) -> None:
    """Access rules see alias, namespace and table."""
    for table in ("db.open", "db.closed"):
        warehouse.create(numbers(1), table)
    policy = acl.Policy(
        deny=(acl.Rule(principal="*", resource="tables/prod/db/closed"),),
        allow=(acl.Rule(principal="*", resource="tables/prod/*/*"),),
    )
    async with running(attrs.evolve(on_rest, acl_config=policy)) as server, server.client() as client:
        same = {"X-Request-ID": "r"}
        read = [
            await client.post("/v1/materialize", json=scan(f"prod:db.{table}"), headers=same)
            for table in ("open", "closed", "absent")
        ]
    assert [200, 404, 404] == [answer.status_code for answer in read]
    assert read[1].content == read[2].content


async def ask(url: str, send: trio.MemorySendChannel[httpx.Response]) -> None:
    async with httpx.AsyncClient(base_url=url, headers=A, timeout=60) as client:
        await send.send(
            await client.post("/v1/materialize", json=scan("prod:db.events"), headers={"Accept": ARROW})
        )


async def test_one_tenants_questions_to_a_silent_catalog_hold_up_no_other_tenant(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse
) -> None:
    """Any number of requests to a silent catalog wait in its own few threads."""
    warehouse.create(numbers(5))
    send, answers = trio.open_memory_channel[httpx.Response](100)
    async with running(on_rest) as server, trio.open_nursery() as nursery:
        rest.go.clear()
        for _ in range(60):
            nursery.start_soon(ask, server.url, send)
        for _ in range(resources.LOOKS):
            await trio.to_thread.run_sync(rest.arrived.acquire)
        with trio.fail_after(20):
            async with server.client(**B) as bob:
                assert 5 == (await fetch(bob, scan(warehouse.uri()))).num_rows
        assert 0 == answers.statistics().current_buffer_used
        rest.go.set()
        assert [200] * 60 == [(await answers.receive()).status_code for _ in range(60)]


async def test_who_waits_too_long_for_a_catalog_is_told_to_come_back(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request gets 503 with the catalog's name, and others are answered."""
    monkeypatch.setattr(resources, "LOOK_SECONDS", 0.1)
    warehouse.create(numbers(5))
    send, answers = trio.open_memory_channel[httpx.Response](100)
    async with running(on_rest) as server, trio.open_nursery() as nursery:
        rest.go.clear()
        for _ in range(resources.LOOKS + 2):
            nursery.start_soon(ask, server.url, send)
        with trio.fail_after(20):
            for _ in range(2):
                late = await answers.receive()
                assert (503, "The catalog prod is unavailable") == (late.status_code, late.json()["detail"])
                assert int(late.headers["Retry-After"]) >= 1
        rest.go.set()
        assert [200] * resources.LOOKS == [
            (await answers.receive()).status_code for _ in range(resources.LOOKS)
        ]

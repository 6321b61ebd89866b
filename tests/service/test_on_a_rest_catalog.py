"""A service with tables in a REST catalog: the contract, access rules, and a catalog that does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import httpx
import pytest
import trio
import trio.testing
from rest_catalog import RestServer, rest_server
from service_kit import ARROW, Warehouse, fetch, identity, numbers, running, scan

from strata import acl
from strata.config import Settings
from strata.outcomes import Refused
from strata.tables import Catalogs
from strata.tables.catalogs.loading import NOT_FOUND
from strata.tenants.shared import thread_groups
from strata.tenants.shared.table_loader import NEGATIVE_SECONDS, TableLoader
from strata.work.waiting_threads import SHARE

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


async def ask(url: str, uri: str, send: trio.MemorySendChannel[httpx.Response], accept: str = ARROW) -> None:
    async with httpx.AsyncClient(base_url=url, headers=A, timeout=60) as client:
        await send.send(await client.post("/v1/materialize", json=scan(uri), headers={"Accept": accept}))


def tables(warehouse: Warehouse, count: int) -> list[str]:
    """Make tables; equal questions would share an answer."""
    for number in range(count):
        warehouse.create(numbers(5), f"db.t{number}")
    return [f"prod:db.t{number}" for number in range(count)]


async def test_one_tenants_questions_to_a_silent_catalog_hold_up_no_other_tenant(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse
) -> None:
    """Any number of a tenant's requests to a silent catalog wait in its share of the catalog's threads."""
    warehouse.create(numbers(5))
    uris = tables(warehouse, 12)
    send, answers = trio.open_memory_channel[httpx.Response](100)
    async with running(on_rest) as server, trio.open_nursery() as nursery:
        rest.go.clear()
        for uri in uris:
            nursery.start_soon(ask, server.url, uri, send)
        for _ in range(thread_groups.LOOKS // SHARE):
            await trio.to_thread.run_sync(rest.arrived.acquire)
        with trio.fail_after(20):
            async with server.client(**B) as bob:
                assert 5 == (await fetch(bob, scan(warehouse.uri()))).num_rows
        assert 0 == answers.statistics().current_buffer_used
        assert not rest.arrived.acquire(blocking=False)
        rest.go.set()
        assert [200] * 12 == [(await answers.receive()).status_code for _ in range(12)]


async def test_equal_questions_to_a_catalog_share_an_answer(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse
) -> None:
    """Of sixty equal requests one asks the catalog, and the others share the next answer."""
    warehouse.create(numbers(5))
    send, answers = trio.open_memory_channel[httpx.Response](100)
    async with running(on_rest) as server, trio.open_nursery() as nursery:
        rest.go.clear()
        registry = server.service.registry
        for _ in range(60):
            # Reading the rows would ask once more: the catalog may restrict them by now.
            nursery.start_soon(ask, server.url, "prod:db.events", send, "application/json")
        await trio.to_thread.run_sync(rest.arrived.acquire)
        while sum(len(tenant.open) for tenant in registry.tenants()) < 60:
            await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        rest.go.set()
        assert [200] * 60 == [(await answers.receive()).status_code for _ in range(60)]
        assert 2 == len([path for path, _ in rest.asked if path.endswith("/tables/events")])


async def test_a_negative_answer_of_a_catalog_is_kept_for_a_second(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse, mock_clock: trio.testing.MockClock
) -> None:
    """A missing table is asked for once a second, and found when it was made meanwhile."""
    catalogs = Catalogs(warehouses={}, catalogs=on_rest.catalogs, any_file_warehouse=False)
    loader = TableLoader(catalogs, thread_groups.ThreadGroups())
    ref = loader.catalogs.resolve("prod:db.events")
    assert not isinstance(ref, Refused)
    found = [await loader.load("team-a", ref) for _ in range(9)]
    assert [NOT_FOUND] * 9 == found
    assert 1 == len([path for path, _ in rest.asked if path.endswith("/tables/events")])
    warehouse.create(numbers(5))
    mock_clock.jump(NEGATIVE_SECONDS)
    assert not isinstance(await loader.load("team-a", ref), Refused)


async def test_who_waits_too_long_for_a_catalog_is_told_to_come_back(
    on_rest: Settings, rest: RestServer, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request gets 503 with the catalog's name, and others are answered."""
    monkeypatch.setattr(thread_groups, "WAIT_SECONDS", 0.1)
    share = thread_groups.LOOKS // SHARE
    uris = tables(warehouse, share + 2)
    send, answers = trio.open_memory_channel[httpx.Response](100)
    async with running(on_rest) as server, trio.open_nursery() as nursery:
        rest.go.clear()
        for uri in uris:
            nursery.start_soon(ask, server.url, uri, send)
        with trio.fail_after(20):
            for _ in range(2):
                late = await answers.receive()
                assert (503, "The catalog prod is unavailable") == (late.status_code, late.json()["detail"])
                assert int(late.headers["Retry-After"]) >= 1
        rest.go.set()
        assert [200] * share == [(await answers.receive()).status_code for _ in range(share)]

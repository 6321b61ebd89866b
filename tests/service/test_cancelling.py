"""A build is cancelled by those who asked for it, and by nobody else."""

from __future__ import annotations

import attrs
import httpx
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings

SECONDS = 20.0


async def begun(client: httpx.AsyncClient, warehouse: Warehouse, mode: str = "artifact") -> dict:
    return (await client.post("/v1/materialize", json=scan(warehouse.uri(), mode=mode))).json()


def in_row_groups(warehouse: Warehouse, rows: int = 40_000) -> None:
    warehouse.create(numbers(rows), **{"write.parquet.row-group-limit": str(rows // 8)})


def slots_in_use(server: Running, tenant: str = "team-a") -> int:
    [found] = [one for one in server.service.registry.tenants() if one.id == tenant]
    return sum(slots.used for slots in found.actor.builder.slots.values())


async def cancel(client: httpx.AsyncClient, build: dict) -> dict:
    with trio.fail_after(SECONDS):
        return (await client.post(f"/v1/builds/{build['build_id']}/cancel")).json()


async def state_of(client: httpx.AsyncClient, build: dict) -> str:
    return (await client.get(f"/v1/builds/{build['build_id']}")).json()["state"]


async def test_who_asked_for_a_build_ends_it(server: Running, warehouse: Warehouse, gate) -> None:
    """It is recorded as failed with its code, holds nothing, and the same request builds anew."""
    in_row_groups(warehouse)
    async with server.client() as client:
        build = await begun(client, warehouse)
        found = await cancel(client, build)
        assert {"build_id": build["build_id"], "cancelled": True, "state": "failed"} == found
        record = (await client.get(f"/v1/builds/{build['build_id']}")).json()
        assert ("failed", "cancelled") == (record["state"], record["error_code"])
        assert 0 == slots_in_use(server)
        again = await cancel(client, build)
        assert (False, "failed") == (again["cancelled"], again["state"])
        gate.set()
        assert 40_000 == (await fetch(client, scan(warehouse.uri()))).num_rows


async def test_a_reader_of_a_cancelled_build_gets_no_whole_stream(
    server: Running, warehouse: Warehouse, gate
) -> None:
    """Its stream breaks off, and asking for it says why."""
    in_row_groups(warehouse)
    async with server.client() as client:
        build = await begun(client, warehouse, "stream")
        async with client.stream("GET", build["stream_url"]) as answer:
            chunks = answer.aiter_raw()
            await anext(chunks)
            assert (await cancel(client, build))["cancelled"]
            with pytest.raises(httpx.TransportError):
                async for _ in chunks:
                    pass
        refused = await client.get(build["stream_url"])
        assert (409, "cancelled") == (refused.status_code, refused.json()["error"])


async def test_a_build_that_others_asked_for_goes_on(server: Running, warehouse: Warehouse, gate) -> None:
    """It ends with the last of them; who asks again counts again, and who never asked cannot end it."""
    in_row_groups(warehouse)
    async with (
        server.client() as ana,
        server.client(**identity("bob")) as bob,
        server.client(**identity("zoe", scopes="admin:*")) as zoe,
    ):
        build = await begun(ana, warehouse)
        path = f"/v1/builds/{build['build_id']}/cancel"
        assert build["build_id"] == (await begun(bob, warehouse))["build_id"]
        for client in (zoe, ana, ana):
            assert (False, "building") == tuple((await client.post(path)).json().values())[1:]
        await begun(ana, warehouse)
        assert not (await bob.post(path)).json()["cancelled"]
        assert (await cancel(ana, build))["cancelled"]


async def test_who_may_not_see_a_build_cannot_end_it(settings: Settings, warehouse: Warehouse, gate) -> None:
    """Of another tenant, or denied the table: the answer is that of a build that does not exist."""
    in_row_groups(warehouse)
    rules = Policy(deny=(Rule("eve", "tables/**"),), default="allow")
    async with (
        running(attrs.evolve(settings, acl_config=rules)) as server,
        server.client() as ana,
        server.client(**identity("eve")) as eve,
        server.client(**identity("ana", "team-b")) as other,
    ):
        build = await begun(ana, warehouse)
        missing = await eve.post("/v1/builds/nothing/cancel")
        for client in (eve, other):
            refused = await client.post(f"/v1/builds/{build['build_id']}/cancel")
            assert (404, missing.json()["detail"]) == (refused.status_code, refused.json()["detail"])
        gate.set()
        with trio.fail_after(SECONDS):
            while "building" == (state := await state_of(ana, build)):
                pass
        assert "ready" == state

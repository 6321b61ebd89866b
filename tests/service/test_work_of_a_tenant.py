"""Administrators list the builds and streams of a tenant, page by page, and end builds by filter."""

from __future__ import annotations

import threading

import attrs
import httpx
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings

SECONDS = 60.0

OPERATOR = identity("root", "ops", "admin:*")
ADMIN = identity("ada", "team-a", "admin:tenants")
ELSEWHERE = identity("eve", "team-b", "admin:tenants")
BOB = identity("bob", "team-a")

TEAM = "/v1/admin/tenants/team-a"


def in_row_groups(warehouse: Warehouse, name: str, rows: int = 40_000) -> None:
    warehouse.create(numbers(rows), name, **{"write.parquet.row-group-limit": str(rows // 8)})


async def begun(client: httpx.AsyncClient, table: str, **more: object) -> dict:
    answer = await client.post("/v1/materialize", json=scan(table, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(client: httpx.AsyncClient, what: str = "builds", **query: object) -> dict:
    answer = await client.get(f"{TEAM}/{what}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until_waiting(client: httpx.AsyncClient) -> dict:
    """Return the list of builds once one of them waits for a slot."""
    with trio.fail_after(SECONDS):
        while True:
            found = await listed(client)
            if any(one["waits_for"] for one in found["builds"]):
                return found
            await trio.sleep(0.01)


async def test_a_build_is_listed_with_snapshot_rule_rows_and_state(
    settings: Settings, warehouse: Warehouse, gate: threading.Event
) -> None:
    """One that runs has its result and its table; one that waits names the limit and who asked."""
    in_row_groups(warehouse, "db.events")
    in_row_groups(warehouse, "db.others")
    one_slot = attrs.evolve(settings, interactive_slots=1, bulk_slots=1)
    async with (
        running(one_slot) as server,
        server.client() as ana,
        server.client(**BOB) as bob,
        server.client(**ADMIN) as ada,
        trio.open_nursery() as nursery,
    ):
        build = await begun(ana, "wh:db.events", mode="stream")
        nursery.start_soon(begun, bob, "wh:db.others")
        found = await until_waiting(ada)
        assert (True, None) == (found["asked"], found["next"])
        by_state = {one["state"]: one for one in found["builds"]}
        runs, waits = by_state["building"], by_state["waiting"]
        assert (build["build_id"], build["artifact_uri"]) == (runs["build_id"], runs["artifact_uri"])
        assert ["ana"] == runs["principals"]
        snapshot = warehouse.catalog.load_table("db.events").current_snapshot()
        assert snapshot is not None
        assert [
            {
                "table": "tables/wh/db/events",
                "snapshot": str(snapshot.snapshot_id),
                "rule": "default",
                "allowed": True,
            }
        ] == [one | {"rule": "default"} for one in runs["tables"]]
        assert 40_000 == runs["rows_planned"]
        assert runs["rows_done"] < 40_000
        assert (None, None, "interactive_slots", ["bob"]) == (
            waits["build_id"], waits["artifact_uri"], waits["waits_for"], waits["principals"]
        )  # fmt: skip
        assert [waits] == (await listed(ada, principal="bob"))["builds"]
        assert ["building"] == [one["state"] for one in (await listed(ada, state="building"))["builds"]]
        first = await listed(ada, limit=1)
        second = await listed(ada, limit=1, after=first["next"])
        assert {"building", "waiting"} == {one["state"] for one in first["builds"] + second["builds"]}
        assert second["next"] is None
        [stream] = (await listed(ada, "streams"))["streams"]
        assert ("ana", "unread", build["artifact_uri"]) == (
            stream["owner"], stream["state"], stream["artifact_uri"]
        )  # fmt: skip
        assert [] == (await listed(ada, "streams", state="read"))["streams"]
        gate.set()
        assert 40_000 == (await fetch(ana, scan("wh:db.events"))).num_rows


async def test_builds_are_ended_by_id_by_principal_and_all(
    settings: Settings, warehouse: Warehouse, gate: threading.Event
) -> None:
    """They fail with a code of their own, nothing else ends, and the audit has the filter."""
    for name in ("db.a", "db.b", "db.c"):
        in_row_groups(warehouse, name)
    async with (
        running(attrs.evolve(settings, work_slots=4)) as server,  # the gate holds a thread of each build
        server.client() as ana,
        server.client(**BOB) as bob,
        server.client(**ADMIN) as ada,
    ):
        builds = {
            "a": await begun(ana, "wh:db.a"), "b": await begun(bob, "wh:db.b"), "c": await begun(bob, "wh:db.c")
        }  # fmt: skip

        async def stop(**body: object) -> tuple[int, int]:
            answer = await ada.post(f"{TEAM}/builds/stop", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["chosen"], answer.json()["stopped"]

        assert (0, 0) == await stop(build_ids=["none"])
        assert (0, 0) == await stop(build_ids=[builds["a"]["build_id"]], principal="bob")
        assert (1, 1) == await stop(build_ids=[builds["b"]["build_id"]])
        assert (1, 1) == await stop(principal="bob")
        assert ["ana"] == [one["principals"][0] for one in (await listed(ada))["builds"]]
        assert (1, 1) == await stop(all=True)
        for name, client in (("a", ana), ("b", bob), ("c", bob)):
            record = (await client.get(f"/v1/builds/{builds[name]['build_id']}")).json()
            assert ("failed", "stopped") == (record["state"], record["error_code"])
        told = [one["new"] for one in (await ada.get("/v1/admin/audit")).json()["entries"]]
        assert {"all": True} | {"build_ids": None, "principal": None, "state": None} == told[0]
        gate.set()
        assert 40_000 == (await fetch(bob, scan("wh:db.b"))).num_rows


async def test_a_build_that_two_asked_for_goes_on_for_the_other(
    server: Running, warehouse: Warehouse, gate: threading.Event
) -> None:
    """Ended for one of them it is whole for the other; the audit has twenty ids at most, and short ones."""
    in_row_groups(warehouse, "db.a")
    async with server.client() as ana, server.client(**BOB) as bob, server.client(**ADMIN) as ada:
        mine, other = await begun(ana, "wh:db.a"), await begun(bob, "wh:db.a")
        assert mine["build_id"] == other["build_id"]
        answer = await ada.post(f"{TEAM}/builds/stop", json={"principal": "bob"})
        assert (1, 0) == (answer.json()["chosen"], answer.json()["stopped"])
        gate.set()
        assert 40_000 == (await fetch(ana, scan("wh:db.a"))).num_rows
        many = {"build_ids": [f"b{number}" for number in range(1000)]}
        assert 200 == (await ada.post(f"{TEAM}/builds/stop", json=many)).status_code
        noted = (await ada.get("/v1/admin/audit")).json()["entries"][0]["new"]["build_ids"]
        assert many["build_ids"][:20] == noted
        long = {"build_ids": ["b" * 65]}
        assert 422 == (await ada.post(f"{TEAM}/builds/stop", json=long)).status_code


async def test_a_stop_without_a_filter_is_refused(server: Running) -> None:
    """Neither nothing at all nor a filter beside ``all`` ends anything; unknown words are refused."""
    async with server.client(**ADMIN) as ada:
        for body in ({}, {"all": False}, {"all": True, "principal": "bob"}):
            answer = await ada.post(f"{TEAM}/builds/stop", json=body)
            assert (400, "no_filter") == (answer.status_code, answer.json()["error"])
        for body in ({"state": "ready"}, {"build_ids": []}, {"principal": ""}):
            assert 422 == (await ada.post(f"{TEAM}/builds/stop", json=body)).status_code
        for query in ("state=none", "limit=0", "limit=201", "after=", "owner=bob"):
            assert 400 == (await ada.get(f"{TEAM}/builds?{query}")).status_code


@pytest.mark.parametrize(("method", "path"), [("GET", "builds"), ("GET", "streams"), ("POST", "builds/stop")])
async def test_the_work_of_another_tenant_is_that_of_one_that_does_not_exist(
    server: Running, warehouse: Warehouse, method: str, path: str
) -> None:
    """To an administrator of a tenant; an operator reaches each, and a caller without the scope none."""
    warehouse.create(numbers(10))
    async with server.client() as ana:
        await fetch(ana, scan(warehouse.uri()))

    async def answered(who: dict[str, str], tenant: str) -> httpx.Response:
        async with server.client(**who) as client:
            body = {"json": {"all": True}} if method == "POST" else {}
            headers = {"X-Request-ID": "same"}
            return await client.request(method, f"/v1/admin/tenants/{tenant}/{path}", headers=headers, **body)

    assert 200 == (await answered(OPERATOR, "team-a")).status_code
    assert 403 == (await answered(BOB, "team-a")).status_code
    theirs, nobodys = await answered(ELSEWHERE, "team-a"), await answered(ELSEWHERE, "nobody")
    assert (404, theirs.content) == (nobodys.status_code, nobodys.content)

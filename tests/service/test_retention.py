"""Results go by themselves: by quota, by idle time, on request, and never what is held or in use."""

from __future__ import annotations

import threading
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.artifacts import STORE_DOWN
from strata.config import Settings
from strata.outcomes import RefusalError
from strata.tenants.budgets import disk_space
from strata.tenants.retention.collector import tell_uses
from strata.tenants.retention.sweeper import Sweeper

DIRECT = {"Accept": "application/vnd.apache.arrow.stream"}
GC = identity("root", "team-a", "admin:cache")
NOW = "?min_idle_seconds=0&max_idle_days=0"


def body(number: int, **more: object) -> dict:
    """Return a scan with its own identity, of about 70 KB."""
    return scan("wh:db.events", params={"filters": [{"column": "id", "op": ">=", "value": number}]}, **more)


async def build(client: httpx.AsyncClient, number: int, **more: object) -> httpx.Response:
    answer = await client.post("/v1/materialize", json=body(number, **more), headers=DIRECT)
    if answer.status_code == 200:
        await client.post("/v1/materialize", json=body(number))  # waits for the commit
    return answer


def versions(server: Running, tenant: str = "team-a") -> int:
    return server.service.registry.resources.retention.usage(tenant).versions


def stored(settings: Settings) -> int:
    """Return the bytes of results on the disk."""
    return sum(path.stat().st_size for path in Path(settings.artifact_dir or "").glob("blobs/*/*/*.arrow"))


def sweeper(server: Running) -> Sweeper:
    registry = server.service.registry
    return Sweeper(registry.resources, registry.limits, lambda: 3600.0)


async def test_a_tenant_over_its_quota_makes_room_out_of_its_own_results(
    settings: Settings, warehouse: Warehouse
) -> None:
    """It builds on, its least recently used results go, and the disk never holds more than its quota."""
    warehouse.create(numbers(2_000))
    limited = attrs.evolve(settings, artifact_max_bytes=300_000, artifact_min_idle_seconds=0)
    async with running(limited) as server, server.client() as client:
        async with server.client(**identity("bob", "team-b")) as other:
            assert 200 == (await build(other, 0)).status_code
        theirs = stored(settings)
        assert 200 == (await build(client, 0, name="kept")).status_code
        for number in range(1, 15):
            assert 200 == (await build(client, number)).status_code
            assert stored(settings) - theirs <= 300_000
        assert versions(server) >= 3
        assert 1 == versions(server, "team-b")
        kept = (await client.get("/v1/names/kept")).json()["artifact_uri"]
        assert 2_000 == (await fetch(client, body(0))).num_rows
        assert kept == (await client.get("/v1/names/kept")).json()["artifact_uri"]


async def test_a_tenant_whose_results_are_held_is_refused_and_told_when_waiting_helps(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Named results: 503 without Retry-After; fresh ones: with the time; a neighbour builds on."""
    warehouse.create(numbers(2_000))
    limited = attrs.evolve(settings, artifact_max_count=2)
    async with running(limited) as server, server.client() as client:
        await build(client, 0)
        await build(client, 1)
        fresh = await build(client, 2)
        assert (503, "storage_quota") == (fresh.status_code, fresh.json()["error"])
        assert "artifact_max_count = 2" in fresh.json()["detail"]
        assert 3500 < int(fresh.headers["Retry-After"]) <= 3600
        for number in (0, 1):
            await client.post("/v1/materialize", json=body(number, name=f"n{number}"))
        held = await build(client, 2)
        assert (503, "storage_quota") == (held.status_code, held.json()["error"])
        assert "Retry-After" not in held.headers
        assert 2_000 == (await fetch(client, body(0))).num_rows
        async with server.client(**identity("bob", "team-b")) as other:
            assert 200 == (await build(other, 0)).status_code


async def test_a_result_that_grows_over_the_quota_is_cut(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result whose size is not known before stops at the quota, and leaves nothing on the disk."""
    warehouse.create(numbers(50_000))
    limited = attrs.evolve(settings, artifact_max_bytes=400_000)
    async with running(limited) as server, server.client() as client:
        started = await client.post("/v1/materialize", json=body(1, mode="artifact"))
        if started.status_code == 200:
            path = f"/v1/builds/{started.json()['build_id']}"
            while (found := (await client.get(path)).json())["state"] == "building":
                pass
            assert ("failed", "storage_quota") == (found["state"], found["error_code"])
        else:
            assert "storage_quota" == started.json()["error"]
        assert 0 == stored(settings)
        actor = server.service.registry.find("team-a")
        assert actor is not None
        assert actor.actor is not None
        assert actor.actor.builder is not None
        assert 0 == actor.actor.builder.storage.growing


async def test_the_reserve_is_kept_while_a_result_is_written(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that would take of the reserve is cut, although there was room when it began."""
    warehouse.create(numbers(50_000))
    monkeypatch.setattr(disk_space, "LOOK_BYTES", 2**60)
    async with running(settings) as server, server.client() as client:
        guard = server.service.registry.resources.disk_space
        assert guard is not None
        monkeypatch.setattr(guard, "_look", lambda _path: guard.reserve + 300_000)
        monkeypatch.setattr(guard, "_shared", False)
        started = await client.post("/v1/materialize", json=body(1, mode="artifact"))
        if started.status_code == 200:
            path = f"/v1/builds/{started.json()['build_id']}"
            while (found := (await client.get(path)).json())["state"] == "building":
                pass
            assert "storage_unavailable" == found["error_code"]
        else:
            assert "storage_unavailable" == started.json()["error"]
        assert guard.free > guard.reserve


async def test_a_collection_takes_what_nothing_holds(settings: Settings, warehouse: Warehouse) -> None:
    """`POST /v1/artifacts/gc`: a dry run changes nothing, a run leaves named results, the audit has it."""
    warehouse.create(numbers(2_000))
    async with running(settings) as server, server.client() as client, server.client(**GC) as admin:
        await build(client, 0, name="kept")
        for number in range(1, 4):
            await build(client, number)
        none = (await admin.post("/v1/artifacts/gc")).json()
        assert (0, False) == (none["deleted_count"], none["dry_run"])  # all were used just now
        dry = (await admin.post(f"/v1/artifacts/gc{NOW}&dry_run=true")).json()
        assert (3, True, 4) == (dry["deleted_count"], dry["dry_run"], versions(server))
        done = (await admin.post(f"/v1/artifacts/gc{NOW}")).json()
        assert {**dry, "dry_run": False} == done
        assert 1 == versions(server)
        assert done["store_bytes"] == server.service.registry.resources.retention.usage("team-a").stored_bytes
        assert 2_000 == (await fetch(client, body(0))).num_rows
        for wrong in ("?dry_run=yes", "?max_bytes=-1", "?min_idle_seconds=x", "?older=1"):
            assert 400 == (await admin.post(f"/v1/artifacts/gc{wrong}")).status_code
        refused = await client.post("/v1/artifacts/gc")
        assert (403, "missing_scope") == (refused.status_code, refused.json()["error"])
    entries = server.service.registry.resources.metadata.list_audit(tenant="team-a", before=None, limit=9)
    done_by = [(one.act.action, one.act.principal) for one in entries]
    assert [("artifact.collect", "root")] == [one for one in done_by if one[0] != "name.set"]


async def test_what_is_being_read_is_not_collected(settings: Settings, warehouse: Warehouse) -> None:
    """A result with an open reader stays, whatever a collection asks for."""
    warehouse.create(numbers(200_000))
    async with running(settings) as server, server.client() as client, server.client(**GC) as admin:
        await build(client, 0)
        url = (await client.post("/v1/materialize", json=body(0))).json()["stream_url"]
        async with client.stream("GET", url) as answer:
            assert 200 == answer.status_code
            assert 0 == (await admin.post(f"/v1/artifacts/gc{NOW}")).json()["deleted_count"]
            async for _ in answer.aiter_bytes():
                pass
        resources = server.service.registry.resources
        await tell_uses(resources, "team-a")
        deleted = 0
        with trio.fail_after(10):
            while not deleted:  # the server lets go of the result after the client has its last byte
                deleted = (await admin.post(f"/v1/artifacts/gc{NOW}")).json()["deleted_count"]
        assert 1 == deleted


async def test_unused_results_go_by_themselves(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`artifact_max_idle_days`: the collection of all tenants takes them, and no tenant's limits another's."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client:
        async with server.client(**identity("bob", "team-b")) as other:
            await build(other, 0)
        await build(client, 0)
        limits = server.service.registry.limits
        short = lambda tenant: attrs.evolve(  # noqa: E731
            limits(tenant), artifact_max_idle=10.0 if tenant == "team-a" else 0.0, artifact_min_idle=1.0
        )
        found = sweeper(server)
        found.limits = short
        await found.collect_all()
        assert (1, 1) == (versions(server), versions(server, "team-b"))
        retention = server.service.registry.resources.retention
        late = retention.store.now() + 3600
        monkeypatch.setattr(retention.store, "now", lambda: late)
        await client.post("/v1/materialize", json=body(0))  # a use
        await found.collect_all()
        assert (1, 1) == (versions(server), versions(server, "team-b"))
        later = late + 3600
        monkeypatch.setattr(retention.store, "now", lambda: later)
        await found.collect_all()
        assert (0, 1) == (versions(server), versions(server, "team-b"))


async def test_the_largest_tenant_makes_room_when_the_disk_nears_its_reserve(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results of the tenant that keeps the most go first, and of the others none that need not."""
    warehouse.create(numbers(2_000))
    relaxed = attrs.evolve(settings, artifact_min_idle_seconds=0)
    async with running(relaxed) as server, server.client() as client:
        async with server.client(**identity("bob", "team-b")) as other:
            await build(other, 0)
        for number in range(4):
            await build(client, number)
        guard = server.service.registry.resources.disk_space
        assert guard is not None
        whole = stored(settings) + 2 * guard.reserve - 100_000
        monkeypatch.setattr(guard, "_look", lambda _path: whole - stored(settings))
        found = sweeper(server)
        await found.look()
        assert guard.near
        await tell_uses(server.service.registry.resources, "team-a")
        await found.relieve()
        assert not guard.near
        assert (2, 1) == (versions(server), versions(server, "team-b"))


async def test_why_a_result_is_kept(settings: Settings, warehouse: Warehouse) -> None:
    """`GET …/why`: names and times, and that it may go at the earliest after its idle time."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client:
        await build(client, 0)
        uri = (await client.post("/v1/materialize", json=body(0))).json()["artifact_uri"]
        artifact_id = uri.rpartition("/")[2].partition("@")[0]
        path = f"/v1/artifacts/{artifact_id}/v/1/why"
        free = (await client.get(path)).json()
        assert ([], uri) == (free["held_by"], free["artifact_uri"])
        assert free["last_used_at"] < free["may_go_at"] < free["goes_at"]
        await client.post("/v1/materialize", json=body(0, name="daily"))
        held = (await client.get(path)).json()
        assert [("name", "daily")] == [(one["kind"], one["name"]) for one in held["held_by"]]
        assert (None, None) == (held["may_go_at"], held["goes_at"])


async def test_a_result_that_is_about_to_go_is_not_found_and_is_built_anew(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that comes while a result is removed waits for the end of that, and gets another version."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client, server.client(**GC) as admin:
        await build(client, 0)
        retention = server.service.registry.resources.retention
        removing, go = threading.Event(), threading.Event()
        real = type(retention).collect

        def slow(*args: object, **kwargs: object) -> object:
            removing.set()
            assert go.wait(30)
            return real(*args, **kwargs)

        monkeypatch.setattr(type(retention), "collect", slow)
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.post("/v1/materialize", json=body(0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(admin.post, f"/v1/artifacts/gc{NOW}")
            while not removing.is_set():
                await trio.lowlevel.checkpoint()
            nursery.start_soon(ask)
            for _ in range(20):
                await client.get("/v1/me")  # the request has come to its wait
            assert [] == answers
            go.set()
        answer = answers[0].json()
        assert (False, "@v=2") == (answer["hit"], answer["artifact_uri"][-4:])
        assert 100 == pa.ipc.open_stream((await client.get(answer["stream_url"])).content).read_all().num_rows


async def test_a_store_that_does_not_answer_ends_one_look_only(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper logs it and goes on."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        await build(client, 0)
        resources = server.service.registry.resources

        def down(*_: object, **__: object) -> None:
            raise RefusalError(STORE_DOWN)

        found = sweeper(server)
        with monkeypatch.context() as patched:
            patched.setattr(type(resources.retention), "largest", down)
            await found._try("disk", found.look)
        await found._try("disk", found.look)
        assert resources.stored["team-a"] > 0

"""A name that a request asks for is set with its result, or the request is told; a lost database is noticed."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from service_kit import Running, Warehouse, fetch, numbers, scan

from strata.artifacts import STORE_DOWN, SqlMetadataStore
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.config import Settings
from strata.outcomes import RefusalError
from strata.tenants.builds import materialize, state


def down(*_args: object, **_kwargs: object) -> Any:
    raise RefusalError(STORE_DOWN)


async def names(client: httpx.AsyncClient) -> list[str]:
    return [found["name"] for found in (await client.get("/v1/names")).json()["names"]]


def wanted(server: Running) -> list[int]:
    """Return how many requests wait for each running build."""
    actors = [found.actor for found in server.service.registry.tenants()]
    return [
        build.wanted
        for actor in actors
        if actor.materializer is not None
        for build in actor.materializer.running.values()
    ]


async def test_every_name_of_a_build_is_set_in_its_own_transaction(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a store that fails between "ready" and "named", the result is ready and has all of its names."""
    warehouse.create(numbers(10))
    may_begin, real = threading.Event(), SqlMetadataStore.begin_build

    def begin_build(*args: Any, **kwargs: Any) -> Any:
        assert may_begin.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(SqlMetadataStore, "begin_build", begin_build)
    monkeypatch.setattr(SqlRegistry, "set_name", down)
    answers: list[httpx.Response] = []

    async def ask(client: httpx.AsyncClient, name: str) -> None:
        answers.append(await client.post("/v1/materialize", json=scan(warehouse.uri(), name=name)))

    async with server.client() as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, "first")
            nursery.start_soon(ask, client, "second")
            with trio.fail_after(20):
                while [2] != wanted(server):  # noqa: ASYNC110  # both wait for admission
                    await trio.sleep(0.01)
            may_begin.set()
        assert [200, 200] == [answer.status_code for answer in answers]
        for answer in answers:
            assert 200 == (await client.get(answer.json()["stream_url"])).status_code
        with trio.fail_after(20):
            while ["first", "second"] != await names(client):  # noqa: ASYNC110  # the commit follows the last byte
                await trio.sleep(0.01)
        hit = await client.post("/v1/materialize", json=scan(warehouse.uri()))
        assert hit.json()["hit"]


async def test_a_request_that_joins_during_the_commit_names_the_result_itself(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that comes too late for the transaction is set right after it, or its request is refused."""
    warehouse.create(numbers(10))

    async def late(self: materialize.Materializer, _provenance: object) -> None:
        for build in self.running.values():
            while build.names is not None:  # noqa: ASYNC110  # taking them sets no event
                await trio.sleep(0.001)

    committing, real = threading.Event(), SqlMetadataStore.finish_build

    def finish_build(*args: Any, **kwargs: Any) -> Any:
        assert committing.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(materialize.Materializer, "_settled", late)
    monkeypatch.setattr(SqlMetadataStore, "finish_build", finish_build)
    answers: list[httpx.Response] = []

    async def ask(client: httpx.AsyncClient, name: str) -> None:
        answers.append(await client.post("/v1/materialize", json=scan(warehouse.uri(), name=name)))

    async with server.client() as client:
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client, "late")
            [tenant] = server.service.registry.tenants()
            with trio.fail_after(20):
                running = tenant.actor.materializer.running
                while not any(b.done.statistics().tasks_waiting for b in running.values()):  # noqa: ASYNC110
                    await trio.sleep(0.001)
            committing.set()
        assert [200] == [answer.status_code for answer in answers]
        assert ["late"] == await names(client)
        assert 200 == (await client.get(url)).status_code


async def test_a_large_result_is_read_again_while_its_commit_goes_on(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream of its bytes is joined at once; an artifact, a name and a small result wait for the commit."""
    warehouse.create(numbers(10))
    committing, real = threading.Event(), SqlMetadataStore.finish_build

    def finish_build(*args: Any, **kwargs: Any) -> Any:
        assert committing.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(SqlMetadataStore, "finish_build", finish_build)
    answers: list[dict[str, Any]] = []

    async def ask(client: httpx.AsyncClient, **more: str) -> None:
        answers.append((await client.post("/v1/materialize", json=scan(warehouse.uri(), **more))).json())

    async with server.client() as client:
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        rows = (await client.get(url)).content
        [tenant] = server.service.registry.tenants()
        [build] = tenant.actor.materializer.running.values()
        with trio.fail_after(20):
            await build.hashed.wait()
        async with trio.open_nursery() as nursery:
            for more in ({}, {"mode": "artifact"}, {"name": "n"}):
                nursery.start_soon(partial(ask, client, **more))
            with trio.fail_after(20):
                while build.done.statistics().tasks_waiting < 3:
                    await trio.lowlevel.checkpoint()
            assert [] == answers, "it is small"
            monkeypatch.setattr(state, "COMMITTED_SOON", 1)
            again = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
            assert (False, "building", again["build_id"]) == (
                again["hit"],
                again["state"],
                build.record.build_id,
            )
            assert rows == (await client.get(again["stream_url"])).content
            assert not build.done.is_set()
            committing.set()
        assert [(True, "ready")] * 3 == [(one["hit"], one["state"]) for one in answers]
        assert ["n"] == await names(client)


async def test_a_large_result_whose_commit_fails_is_no_hit(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has read its stream has all rows, who reads later an error; the next request builds it."""
    warehouse.create(numbers(10))
    monkeypatch.setattr(state, "COMMITTED_SOON", 1)
    failing = threading.Event()

    def finish_build(*_args: Any, **_kwargs: Any) -> Any:
        assert failing.wait(30)
        return STORE_DOWN

    async with server.client() as client:
        with monkeypatch.context() as patched:
            patched.setattr(SqlMetadataStore, "finish_build", finish_build)
            first = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
            rows = (await client.get(first["stream_url"])).content
            [tenant] = server.service.registry.tenants()
            [build] = tenant.actor.materializer.running.values()
            again = [
                (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json() for _ in range(2)
            ]
            assert [first["build_id"]] * 2 == [one["build_id"] for one in again]
            assert rows == (await client.get(again[0]["stream_url"])).content
            failing.set()
            with trio.fail_after(20):
                await build.done.wait()
            assert 503 == (await client.get(again[1]["stream_url"])).status_code
        anew = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        assert not anew["hit"]
        assert rows == (await client.get(anew["stream_url"])).content


async def test_a_hit_that_cannot_be_named_is_refused_and_stays_a_hit(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that asked for the name is told; its repetition finds the result and sets the name."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        with monkeypatch.context() as patched:
            patched.setattr(SqlRegistry, "set_name", down)
            refused = await client.post("/v1/materialize", json=scan(warehouse.uri(), name="n"))
        assert (503, "metadata_store_down") == (refused.status_code, refused.json()["error"])
        again = await client.post("/v1/materialize", json=scan(warehouse.uri(), name="n"))
        assert (200, True) == (again.status_code, again.json()["hit"])
        assert ["n"] == await names(client)


async def test_a_database_removed_under_a_running_server_is_noticed(
    server: Running, settings: Settings, warehouse: Warehouse
) -> None:
    """Readiness and requests say that the store is down, not that all is well; put back, it serves again."""
    warehouse.create(numbers(10))
    database = Path(settings.artifact_dir) / "metadata.db"
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        assert 200 == (await client.get("/health/ready")).status_code
        database.rename(database.with_name("aside"))
        assert 503 == (await client.get("/health/ready")).status_code
        for answer in (await client.get("/v1/names"), await client.get("/v1/artifacts")):
            assert (503, "metadata_store_down") == (answer.status_code, answer.json()["error"])
        database.with_name("aside").rename(database)
        assert 200 == (await client.get("/health/ready")).status_code
        assert 1 == len((await client.get("/v1/artifacts")).json()["artifacts"])

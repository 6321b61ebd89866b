"""Results whose bytes are lost: never served short, an error only once, then built again."""

import os
import threading
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import trio
from service_kit import Running, Warehouse, fetch, numbers, running, scan

from strata.artifacts import ArtifactRecord
from strata.config import Settings
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.results import read

DOWN = Refused(Reason.UNAVAILABLE, "The store does not answer.", code="down", retry_after=1)


@pytest.fixture(autouse=True)
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no small results in memory, where a lost blob would not matter."""
    monkeypatch.setattr(read, "SMALL_BYTES", 0)


def blobs(settings: Settings) -> list[Path]:
    return sorted(settings.artifact_root.glob("blobs/*/*/*.arrow"))


async def materialize(client: httpx.AsyncClient, uri: str, **more: object) -> dict:
    answer = await client.post("/v1/materialize", json=scan(uri, **more))
    assert 200 == answer.status_code, answer.text
    return answer.json()


async def rows(client: httpx.AsyncClient, answer: dict) -> int:
    data = await client.get(answer["stream_url"])
    assert 200 == data.status_code, data.text
    return pa.ipc.open_stream(data.content).read_all().num_rows


def lose(blob: Path) -> None:
    blob.unlink()


def truncate(blob: Path) -> None:
    os.truncate(blob, 100)


def lengthen(blob: Path) -> None:
    os.truncate(blob, blob.stat().st_size + 1)


@pytest.mark.parametrize("damage", [lose, truncate, lengthen])
async def test_lost_while_the_server_runs(
    damage, server: Running, settings: Settings, warehouse: Warehouse
) -> None:
    """The first read of a lost result is an error; afterwards it is unknown, and the next request builds it."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        hit = await materialize(client, warehouse.uri())
        damage(blobs(settings)[0])

        told = await client.get(hit["stream_url"])
        assert (500, "blob_missing") == (told.status_code, told.json()["error"])
        assert 404 == (await client.get(hit["stream_url"])).status_code
        record = (await client.get(hit["stream_url"].removesuffix("/data"))).json()
        assert "failed" == record["state"]
        again = await materialize(client, warehouse.uri())
        assert not again["hit"]
        assert 10 == await rows(client, again)
        assert (await materialize(client, warehouse.uri()))["hit"]


async def test_lost_while_the_server_was_down(settings: Settings, warehouse: Warehouse) -> None:
    """Of a result lost while the server was down every version is failed, and the first request builds it."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        await fetch(client, scan(warehouse.uri(), refresh=True))
    for blob in blobs(settings):
        lose(blob)
    async with running(settings) as server, server.client() as client:
        assert not (
            await client.post("/v1/artifacts/explain-materialize", json=scan(warehouse.uri()))
        ).json()["would_hit"]
        again = await materialize(client, warehouse.uri())
        assert not again["hit"]
        assert 10 == await rows(client, again)
        assert (await materialize(client, warehouse.uri()))["hit"]
        listed = (await client.get("/v1/artifacts?sort=created_at&order=asc")).json()["artifacts"]
        assert ["failed", "failed", "ready"] == [artifact["state"] for artifact in listed]


async def test_what_the_database_said_before_a_loss_is_not_remembered(
    server: Running, settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database answer from before a loss is not cached; it would be served forever."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        hit = await materialize(client, warehouse.uri())
        [tenant] = [t for t in server.service.registry.tenants() if t.actor is not None]
        materializer = tenant.actor.materializer
        [key] = materializer.finished.ready
        del materializer.finished.ready[key]
        asked, answer = threading.Event(), threading.Event()
        real = materializer.resources.metadata.find_ready

        def slow(*args: str) -> ArtifactRecord | None:
            found = real(*args)
            asked.set()
            assert answer.wait(30)
            return found

        monkeypatch.setattr(materializer.resources.metadata, "find_ready", slow)
        lost = blobs(settings)[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(materialize, client, warehouse.uri())
            await trio.to_thread.run_sync(asked.wait, 30)
            kept = lost.rename(lost.with_suffix(".kept"))
            assert 500 == (await client.get(hit["stream_url"])).status_code
            kept.rename(lost)  # the slow question finds it readable again, too late
            answer.set()

        # The slow request may have begun the build whose result this one finds; the lost version is not served.
        assert hit["stream_url"] != (await materialize(client, warehouse.uri()))["stream_url"]


async def test_a_blob_that_cannot_be_opened_now_is_not_given_up(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many open files a read is 503, and the artifact stays ready."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        hit = await materialize(client, warehouse.uri())
        [tenant] = [t for t in server.service.registry.tenants() if t.actor is not None]
        with monkeypatch.context() as patched:
            patched.setattr(tenant.actor.resources.blobs, "open_reader", lambda *_: DOWN)
            told = await client.get(hit["stream_url"])
        assert (503, "1") == (told.status_code, told.headers["Retry-After"])
        again = await materialize(client, warehouse.uri())
        assert again["hit"]
        assert 10 == await rows(client, again)


async def test_a_metadata_store_that_is_down_restarts_no_tenant(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store is down requests get 503; the tenant's builds and cache survive."""
    warehouse.create(numbers(10))

    def down(*_args: object, **_kwargs: object) -> None:
        raise RefusalError(DOWN)

    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        [tenant] = [t for t in server.service.registry.tenants() if t.actor is not None]
        actor = tenant.actor
        with monkeypatch.context() as patched:
            for name in ("find_ready", "begin_build", "fail_build", "list_artifacts", "get_build"):
                patched.setattr(actor.resources.metadata, name, down)
            for method, path, body in (
                ("POST", "/v1/materialize", scan(warehouse.uri(), params={"columns": ["id"]})),
                ("POST", "/v1/materialize", scan(warehouse.uri(), refresh=True)),
                ("GET", "/v1/artifacts", None),
                ("GET", "/v1/artifacts/builds/x", None),
            ):
                told = await client.request(method, path, json=body)
                assert (503, "down") == (told.status_code, told.json()["error"]), path
        assert 10 == (await fetch(client, scan(warehouse.uri(), params={"columns": ["id"]}))).num_rows
        assert tenant.actor is actor


async def test_a_build_that_cannot_be_noted_leaves_no_file_and_no_descriptor(
    server: Running, settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that cannot be recorded removes the blob that it has started."""
    warehouse.create(numbers(10))

    def down(*_args: object, **_kwargs: object) -> None:
        [blob] = growing.iterdir()
        began.append(blob.stat().st_size)
        raise RefusalError(DOWN)

    began: list[int] = []
    growing = settings.artifact_root.resolve() / "blobs" / "growing"
    async with server.client() as client:
        assert 200 == (await client.get("/v1/artifacts")).status_code
        [tenant] = [t for t in server.service.registry.tenants() if t.actor is not None]
        monkeypatch.setattr(tenant.actor.resources.metadata, "begin_build", down)
        opened = []
        for _ in range(4):
            told = await client.post("/v1/materialize", json=scan(warehouse.uri()))
            assert (503, "down") == (told.status_code, told.json()["error"])
            opened.append(sum(str(growing) in link for link in map(_target, Path("/proc/self/fd").iterdir())))
    assert 4 == len(began)
    assert all(began), "the blob begins with the schema"
    assert [0] * 4 == opened
    assert [] == list(growing.iterdir())


def _target(descriptor: Path) -> str:
    """Return the target of an open descriptor; None if it was closed meanwhile."""
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""


async def test_a_failed_build_that_cannot_be_noted_crashes_nothing(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets the reason; the next start of the server finds the build interrupted."""
    warehouse.create(numbers(10))

    def down(*_args: object, **_kwargs: object) -> None:
        raise RefusalError(DOWN)

    async with server.client() as client:
        assert 200 == (await client.get("/v1/artifacts")).status_code
        [tenant] = [t for t in server.service.registry.tenants() if t.actor is not None]
        actor = tenant.actor
        with monkeypatch.context() as patched:
            patched.setattr(actor.resources.metadata, "finish_build", down)
            patched.setattr(actor.resources.metadata, "fail_build", down)
            answer = await materialize(client, warehouse.uri(), mode="artifact")
            build = f"/v1/artifacts/builds/{answer['build_id']}"
            while actor.materializer.running:
                await client.get(build)
        assert "building" == (await client.get(build)).json()["state"]
        assert 10 == (await fetch(client, scan(warehouse.uri(), refresh=True))).num_rows
        assert tenant.actor is actor

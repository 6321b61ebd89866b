"""Who has read a result to its end can read it again at once, while the disk is still at it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import attrs
import httpx
import pytest
import trio
from route_matrix import RULES
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.artifacts.blobs.store import LocalBlobWriter
from strata.config import Settings

BODY = scan("wh:db.events")


@attrs.define
class Disk:
    """Holds up every commit until it is let go, or fails it."""

    go: threading.Event = attrs.field(factory=threading.Event)
    reached: threading.Event = attrs.field(factory=threading.Event)
    broken: bool = False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    found, real = Disk(), LocalBlobWriter.commit

    def commit(self: LocalBlobWriter) -> object:
        found.reached.set()
        assert found.go.wait(60)
        if found.broken:
            raise OSError(5, "on purpose")
        return real(self)

    monkeypatch.setattr(LocalBlobWriter, "commit", commit)
    yield found
    found.go.set()


async def streamed(client: httpx.AsyncClient, disk: Disk) -> tuple[str, bytes]:
    """Read a result's stream to its end, and return the path of the artifact and the bytes."""
    answer = (await client.post("/v1/materialize", json=BODY)).json()
    content = (await client.get(answer["stream_url"])).content
    while not disk.reached.is_set():
        await trio.lowlevel.checkpoint()
    artifact_id, _, version = answer["artifact_uri"].rpartition("/")[2].partition("@v=")
    return f"/v1/artifacts/{artifact_id}/v/{version}", content


async def test_a_result_is_read_before_the_disk_has_it(
    server: Running, warehouse: Warehouse, disk: Disk
) -> None:
    """Its bytes, a range and its validator, all while its commit hangs."""
    warehouse.create(numbers(5_000))
    async with server.client() as client:
        path, content = await streamed(client, disk)
        data = await client.get(f"{path}/data")
        assert (200, content) == (data.status_code, data.content)
        assert "5000" == data.headers["X-Arrow-Row-Count"]
        part = await client.get(f"{path}/data", headers={"Range": "bytes=10-19"})
        assert (206, content[10:20]) == (part.status_code, part.content)
        same = await client.get(f"{path}/data", headers={"If-None-Match": data.headers["ETag"]})
        assert 304 == same.status_code
        assert not disk.go.is_set()
        disk.go.set()
        record = (await client.get(path)).json()
        assert ("ready", data.headers["ETag"]) == (record["state"], f'"{record["content_sha256"]}"')
        assert content == (await client.get(f"{path}/data")).content


async def test_who_may_not_read_a_result_does_not_see_its_end(
    settings: Settings, warehouse: Warehouse, disk: Disk
) -> None:
    """Another tenant and a denied caller get the answer of a missing result, at once."""
    warehouse.create(numbers(100))
    async with running(attrs.evolve(settings, acl_config=RULES)) as server:
        async with server.client() as client:
            path, _ = await streamed(client, disk)
        for headers in (identity("bob", "team-b"), identity("eve", "team-a")):
            async with server.client(**headers, **{"X-Request-ID": "same"}) as client:
                missing = path.replace("/v/1", "/v/9")
                for end in ("", "/data"):
                    answer, other = await client.get(path + end), await client.get(missing + end)
                    assert (404, other.content) == (answer.status_code, answer.content)
        disk.go.set()


async def test_a_result_whose_commit_fails_is_built_anew(
    server: Running, warehouse: Warehouse, disk: Disk
) -> None:
    """What was promised is gone with the disk; the next request builds it."""
    warehouse.create(numbers(100))
    async with server.client() as client:
        path, content = await streamed(client, disk)
        assert content == (await client.get(f"{path}/data")).content
        disk.broken = True
        disk.go.set()
        assert "failed" == (await client.get(path)).json()["state"]
        assert 404 == (await client.get(f"{path}/data")).status_code
        disk.broken = False
        assert 100 == (await fetch(client, BODY)).num_rows

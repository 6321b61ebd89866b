"""A blob that was changed in place is noticed: a small one at once, a large one by a sample of reads."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.tenants.results import read

BODY = scan("wh:db.events")


def change(settings: Settings) -> None:
    """Change one byte of the only blob, whose name and size stay."""
    [blob] = Path(settings.artifact_dir or "").glob("blobs/*/*/*.arrow")
    found = bytearray(blob.read_bytes())
    found[len(found) // 2] ^= 1
    blob.write_bytes(found)


async def built(client: httpx.AsyncClient) -> int:
    """Build the result, wait for the end of its commit, and return its number of rows."""
    rows = (await fetch(client, BODY)).num_rows
    await client.post("/v1/materialize", json=BODY)
    return rows


async def states(server: Running) -> list[str]:
    async with server.client() as client:
        return [one["state"] for one in (await client.get("/v1/artifacts")).json()["artifacts"]]


async def test_a_changed_small_result_is_never_read(settings: Settings, warehouse: Warehouse) -> None:
    """Its hash is that of no read: it is given up, and the next request builds it again."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client:
        await built(client)
    change(settings)
    async with running(settings) as server, server.client() as client:
        path = (await client.post("/v1/materialize", json=BODY)).json()["stream_url"]
        assert (500, "blob_missing") == ((lost := await client.get(path)).status_code, lost.json()["error"])
        assert 100 == await built(client)
        assert ["ready", "failed"] == await states(server)


async def test_a_changed_large_result_is_noticed_by_a_read(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One read in `SAMPLED` has the whole blob hashed; another tenant's equal result is its own."""
    monkeypatch.setattr(read, "SAMPLED", 2)
    warehouse.create(numbers(20_000))
    changed = attrs.evolve(settings, artifact_min_idle_seconds=0)
    async with running(changed) as server, server.client() as client:
        await built(client)
        path = (await client.post("/v1/materialize", json=BODY)).json()["stream_url"]
        change(changed)
        async with server.client(**identity("bob", "team-b")) as bob:
            await built(bob)
            for _ in range(2):
                assert 200 == (await client.get(path)).status_code
            with trio.fail_after(30):
                while "failed" not in await states(server):
                    await trio.lowlevel.checkpoint()
            assert 404 == (await client.get(path)).status_code
            assert 20_000 == await built(client)
            assert ["ready"] == [one["state"] for one in (await bob.get("/v1/artifacts")).json()["artifacts"]]


async def test_reads_that_give_fewer_bytes_lose_no_result(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short read (pread(2)) is no damage, when a result is read and when it is verified."""
    warehouse.create(numbers(100))
    async with running(settings) as server, server.client() as client:
        await built(client)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: real(fd, min(count, 700), offset))
    async with running(settings) as server, server.client(**identity(scopes="admin:*")) as client:
        made = await client.post("/v1/materialize", json=BODY)
        assert 200 == made.status_code, made.text
        path = made.json()["stream_url"]
        answer = await client.get(path)
        assert 100 == pa.ipc.open_stream(answer.content).read_all().num_rows
        verified = await client.post(path.replace("/data", "/verify"))
        assert 200 == verified.status_code, verified.text
        assert ["ready"] == await states(server)

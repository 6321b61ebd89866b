"""A service with results in S3 (moto, on loopback)."""

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs
import obstore
import pyarrow as pa
import pytest
import trio
from service_kit import Warehouse, fetch, numbers, running, scan

from strata.artifacts.blobs.objects import open_object_store
from strata.config import Settings
from strata.tenants.results import read

moto = pytest.importorskip("moto.server", reason="moto is a test dependency")


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/strata-results", method="PUT")).close()
    yield url
    server.stop()


@pytest.fixture
def on_s3(settings: Settings, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(read, "SMALL_BYTES", 0)
    return attrs.evolve(
        settings, artifact_blob_backend="s3", artifact_s3_bucket="strata-results", s3_endpoint_url=endpoint,
        s3_region="us-east-1", s3_access_key="k", s3_secret_key="s", s3_connect_timeout_seconds=2,
        s3_request_timeout_seconds=5, artifact_copies_bytes=1,
    )  # fmt: skip


def copies(settings: Settings) -> list[Path]:
    return sorted(settings.artifact_root.glob("blobs/*/*/*.arrow"))


async def test_results_outlive_the_local_disk(on_s3: Settings, warehouse: Warehouse) -> None:
    """Results are served from S3 after local copies are gone; `artifact_copies_bytes` bounds the copies."""
    warehouse.create(numbers(1000))
    requests = [
        scan(warehouse.uri(), params={"columns": columns}) for columns in (["id"], ["value"], ["name"])
    ]
    async with running(on_s3) as server, server.client() as client:
        first = [await fetch(client, request) for request in requests]
        for request in requests:
            assert (await client.post("/v1/materialize", json=request)).json()["hit"]
        assert 1 == len(copies(on_s3)), "room for none: only the newest is there"
    shutil.rmtree(on_s3.artifact_root / "blobs")
    async with running(on_s3) as server, server.client() as client:
        for request, expected in zip(requests, first, strict=True):
            hit = (await client.post("/v1/materialize", json=request)).json()
            assert hit["hit"]
            data = await client.get(hit["stream_url"])
            assert expected == pa.ipc.open_stream(data.content).read_all()
            assert 1 == len(copies(on_s3))


async def test_an_object_that_is_gone_is_built_anew(on_s3: Settings, warehouse: Warehouse) -> None:
    """The first read of a missing object is an error; the next request builds the result again."""
    warehouse.create(numbers(10))
    async with running(on_s3) as server, server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        [copy] = copies(on_s3)
        copy.unlink()
        key = f"artifacts/{copy.parts[-3]}/{copy.name}"
        await trio.to_thread.run_sync(obstore.delete, open_object_store("s3", on_s3)[0], key)

        assert (500, "blob_missing") == (
            (told := await client.get(hit["stream_url"])).status_code,
            told.json()["error"],
        )
        assert not (again := (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json())["hit"]
        assert 10 == pa.ipc.open_stream((await client.get(again["stream_url"])).content).read_all().num_rows


async def test_a_store_that_is_down_refuses_and_loses_nothing(on_s3: Settings, warehouse: Warehouse) -> None:
    """Reads and builds get 503 with Retry-After while the store is down, and succeed afterwards."""
    warehouse.create(numbers(10))
    async with running(on_s3) as server, server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        assert (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
    shutil.rmtree(on_s3.artifact_root / "blobs")
    down = attrs.evolve(
        on_s3,
        s3_endpoint_url="http://127.0.0.1:9",
        s3_connect_timeout_seconds=0.1,
        s3_request_timeout_seconds=0.2,
    )
    async with running(down) as server, server.client() as client:
        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        told = await client.get(hit["stream_url"])
        assert (503, "blob_store_down") == (told.status_code, told.json()["error"])
        assert int(told.headers["Retry-After"]) >= 1
        other = scan(warehouse.uri(), mode="artifact", params={"columns": ["id"]})
        build = (await client.post("/v1/materialize", json=other)).json()["build_id"]
        state = {"state": "building"}
        while state["state"] == "building":
            state = (await client.get(f"/v1/artifacts/builds/{build}")).json()
        assert ("failed", "blob_store_down") == (state["state"], state["error_code"])
    async with running(on_s3) as server, server.client() as client:
        hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        assert hit["hit"]
        assert 200 == (await client.get(hit["stream_url"])).status_code
        assert 10 == (await fetch(client, scan(warehouse.uri(), params={"columns": ["id"]}))).num_rows

"""Results that clients put: verified, under their own identity, never in the place of the server's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
from route_matrix import RULES
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings

WRITER = identity("ana", "team-a", "artifacts:write")
MADE = {"executor": "mine@v1", "params": {"n": 1}}


def stream(rows: int = 3) -> bytes:
    table = pa.table({"x": range(rows)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.fixture
async def writable(settings: Settings, warehouse: Warehouse) -> AsyncIterator[Running]:
    """Start a server with direct writes, whose rules deny eve every table."""
    warehouse.create(numbers(10))
    async with running(attrs.evolve(settings, service_writes_enabled=True, acl_config=RULES)) as server:
        yield server


async def put(client: httpx.AsyncClient, data: bytes, **metadata: object) -> httpx.Response:
    given = {"inputs": [], "transform": MADE, **metadata}
    files = {
        "metadata": (None, json.dumps(given), "application/json"),
        "data": ("data.arrow", data, "application/vnd.apache.arrow.stream"),
    }
    return await client.put("/v1/artifacts", files=files)


def files_of(settings: Settings) -> list[Path]:
    return [one for one in Path(settings.artifact_dir or "").glob("blobs/**/*") if one.is_file()]


async def test_an_upload_is_a_result_with_its_name_and_its_audit(writable: Running) -> None:
    """It is read as it was sent; the same again is a hit; other bytes are 409, and the first ones stay."""
    data = stream()
    async with writable.client(**WRITER) as client:
        first = (await put(client, data, name="mine")).json()
        assert (False, len(data), "strata://name/mine") == (
            first["hit"], first["byte_size"], first["name_uri"],
        )  # fmt: skip
        path = first["artifact_uri"].removeprefix("strata://artifact/").replace("@v=", "/v/")
        assert data == (await client.get(f"/v1/artifacts/{path}/data")).content
        record = (await client.get(f"/v1/artifacts/{path}")).json()
        assert ("ready", 3, "x: int64") == (record["state"], record["row_count"], record["arrow_schema"])
        again = (await put(client, data)).json()
        assert (True, first["artifact_uri"]) == (again["hit"], again["artifact_uri"])
        other = await put(client, stream(4))
        assert (409, "put_differs") == (other.status_code, other.json()["error"])
        assert data == (await client.get(f"/v1/artifacts/{path}/data")).content
        entries = (await client.get("/v1/registry/audit")).json()["entries"]
        assert [("name_set", "ana"), ("artifact_put", "ana")] == [
            (one["action"], one["actor"]) for one in entries
        ]
        assert 200 == (await client.delete("/v1/names/mine")).status_code
        assert 200 == (await client.delete(f"/v1/artifacts/{path}")).status_code


async def test_what_a_client_puts_never_answers_a_transform_of_the_server(
    writable: Running, warehouse: Warehouse
) -> None:
    """Under the server's own transform, inputs and parameters it is another result."""
    async with writable.client(**WRITER) as client:
        forged = await put(
            client, stream(1), inputs=["wh:db.events"], transform={"executor": "scan@v1", "params": {}}
        )
        assert 200 == forged.status_code
        assert 10 == (await fetch(client, scan("wh:db.events"))).num_rows
        found = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()
        assert forged.json()["artifact_uri"] != found["artifact_uri"]
    async with writable.client(**identity("eve", "team-a")) as eve:  # the rights are those to the inputs
        path = forged.json()["artifact_uri"].removeprefix("strata://artifact/").replace("@v=", "/v/")
        assert 404 == (await eve.get(f"/v1/artifacts/{path}")).status_code
    async with writable.client(**identity("bob", "team-b", "artifacts:write")) as bob:
        assert 404 == (await bob.get(f"/v1/artifacts/{path}")).status_code
        assert not (await put(bob, stream(1), inputs=["wh:db.events"])).json()["hit"]


async def test_what_is_no_whole_stream_is_refused_and_leaves_nothing(
    writable: Running, settings: Settings
) -> None:
    """Junk, a stream cut anywhere, one with bytes behind it, and none at all are 400."""
    whole = stream()
    async with writable.client(**WRITER) as client:
        for data in (b"", b"junk" * 9, whole[:-1], whole[:-8], whole[: len(whole) // 2], whole + b"x"):
            refused = await put(client, data)
            assert (400, "not_an_arrow_stream") == (refused.status_code, refused.json()["error"]), data[-9:]
        assert [] == [one for one in files_of(settings) if one.suffix]
        assert 0 == (await client.get("/v1/artifacts")).json()["total_count"]


async def test_who_may_not_write_puts_nothing(writable: Running) -> None:
    """The scope is needed; the form of the body is checked."""
    async with writable.client() as client:
        refused = await put(client, stream())
        assert (403, "missing_scope") == (refused.status_code, refused.json()["error"])
    async with writable.client(**WRITER) as client:
        for content, code in (
            (b"no boundary", "invalid_multipart"),
            (b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nx\r\n--b--', "invalid_multipart"),
            (b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{}', "invalid_multipart"),
            (b'--b\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{]\r\n--b--', "invalid_json"),
        ):
            kind = {"Content-Type": "multipart/form-data; boundary=b"}
            refused = await client.put("/v1/artifacts", content=content, headers=kind)
            assert code == refused.json()["error"], refused.text
        assert 400 == (await put(client, stream(), transform={})).status_code
        gone = await put(client, stream(), inputs=["strata://artifact/none@v=1"])
        assert 404 == gone.status_code


async def test_service_mode_takes_no_uploads_unless_it_is_set_to(server: Running) -> None:
    """Without `service_writes_enabled` the scope does not help."""
    async with server.client(**WRITER) as client:
        refused = await put(client, stream())
        assert (403, "writes_disabled") == (refused.status_code, refused.json()["error"])


async def test_an_upload_is_bound_by_the_tenants_limits(settings: Settings) -> None:
    """A larger one than `max_response_bytes` is 413 while it is written; one over the quota is refused."""
    base = attrs.evolve(settings, service_writes_enabled=True)
    data = stream(50_000)
    for changed, expected in (
        (attrs.evolve(base, max_response_bytes=200_000), (413, "response_too_large")),
        (attrs.evolve(base, artifact_max_bytes=200_000), (503, "storage_quota")),
    ):
        async with running(changed) as server, server.client(**WRITER) as client:
            refused = await put(client, data)
            assert expected == (refused.status_code, refused.json()["error"])
            assert 200 == (await put(client, stream())).status_code

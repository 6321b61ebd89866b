"""Names that callers set and drop: with a scope, within their rights, in the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest
from route_matrix import RULES
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings

WRITER = identity("ana", "team-a", "artifacts:write")
BODY = scan("wh:db.events")


@pytest.fixture
async def writable(settings: Settings, warehouse: Warehouse) -> AsyncIterator[Running]:
    """Start a server with direct writes, whose rules deny eve every table."""
    warehouse.create(numbers(100))
    async with running(attrs.evolve(settings, service_writes_enabled=True, acl_config=RULES)) as server:
        yield server


async def made(server: Running) -> dict:
    """Build a result and return what names it in a body."""
    async with server.client(**WRITER) as client:
        await fetch(client, BODY)
        uri = (await client.post("/v1/materialize", json=BODY)).json()["artifact_uri"]
    artifact_id, _, version = uri.rpartition("/")[2].partition("@v=")
    return {"artifact_id": artifact_id, "version": int(version)}


async def test_a_name_is_set_moved_and_dropped(writable: Running) -> None:
    """The name resolves, holds its result, and no longer does; the audit has both acts."""
    target = await made(writable)
    path = f"/v1/artifacts/{target['artifact_id']}/v/1"
    async with writable.client(**WRITER) as client:
        answer = await client.post("/v1/names", json={"name": "a/daily", **target})
        uri = f"strata://artifact/{target['artifact_id']}@v=1"
        assert {"name_uri": "strata://name/a/daily", "artifact_uri": uri} == answer.json()
        assert uri == (await client.get("/v1/names/a/daily")).json()["artifact_uri"]
        assert 409 == (await client.delete(path)).status_code
        dropped = await client.delete("/v1/names/a/daily")
        assert (200, "deleted", "a/daily") == (
            dropped.status_code,
            dropped.json()["status"],
            dropped.json()["name"],
        )
        assert 404 == (await client.delete("/v1/names/a/daily")).status_code
        assert 404 == (await client.get("/v1/names/a/daily")).status_code
        assert 200 == (await client.delete(path)).status_code
    async with writable.client(**identity("ada", "team-a", "admin:tenants")) as client:
        entries = (await client.get("/v1/admin/audit")).json()["entries"]
    assert ["artifact.delete", "name.delete", "name.set"] == [entry["action"] for entry in entries]
    assert "a/daily" == entries[1]["old"]["name"] == entries[2]["new"]["name"]


async def test_who_may_not_read_a_result_names_and_unnames_nothing(writable: Running) -> None:
    """Another tenant and a denied caller get the answers of what is missing; the scope is needed."""
    target = await made(writable)
    async with writable.client(**WRITER) as client:
        await client.post("/v1/names", json={"name": "kept", **target})
    for headers in (
        identity("bob", "team-b", "artifacts:write"),
        identity("eve", "team-a", "artifacts:write"),
    ):
        async with writable.client(**headers, **{"X-Request-ID": "same"}) as client:
            there = await client.post("/v1/names", json={"name": "x", **target})
            missing = await client.post("/v1/names", json={"name": "x", **target, "version": 9})
            assert (404, missing.content) == (there.status_code, there.content)
            gone, none = await client.delete("/v1/names/kept"), await client.delete("/v1/names/none")
            assert (404, none.content) == (gone.status_code, gone.content)
    async with writable.client() as client:
        for refused in (
            await client.post("/v1/names", json={"name": "x", **target}),
            await client.delete("/v1/names/kept"),
        ):
            assert (403, "missing_scope") == (refused.status_code, refused.json()["error"])
        assert 200 == (await client.get("/v1/names/kept")).status_code


async def test_what_is_no_name_is_refused(writable: Running) -> None:
    """An empty, padded, long or unprintable name is 400, an unknown key 422."""
    target = await made(writable)
    async with writable.client(**WRITER) as client:
        for name in ("", " x", "n" * 513, "a\nb"):
            refused = await client.post("/v1/names", json={"name": name, **target})
            assert (400, "invalid_name") == (refused.status_code, refused.json()["error"])
        wrong = await client.post("/v1/names", json={"name": "n", **target, "more": 1})
        assert wrong.status_code in (400, 422)
        for version in (0, 2**70):
            answer = await client.post("/v1/names", json={"name": "n", **target, "version": version})
            assert answer.status_code in (404, 422)

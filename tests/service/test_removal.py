"""Removal of results by a caller: with a scope, within its rights, and never under another one's feet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from route_matrix import RULES
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.tenants.results import removal
from strata.tenants.retention.removed_bytes import remove_pending

WRITER = identity("ana", "team-a", "artifacts:write")
EVE = identity("eve", "team-a", "artifacts:write admin:*")
BOB = identity("bob", "team-b", "artifacts:write")


@pytest.fixture
async def writable(settings: Settings, warehouse: Warehouse) -> AsyncIterator[Running]:
    """Start a server with direct writes, whose rules deny eve every table."""
    warehouse.create(numbers(100))
    changed = attrs.evolve(settings, service_writes_enabled=True, acl_config=RULES)
    async with running(changed) as server:
        yield server


async def made(client: httpx.AsyncClient, **more: object) -> str:
    """Build a result and return its path."""
    answer = await client.post("/v1/materialize", json=scan("wh:db.events", **more))
    assert 200 == answer.status_code, answer.text
    if not answer.json()["hit"]:
        assert 200 == (await client.get(answer.json()["stream_url"])).status_code
        await client.post("/v1/materialize", json=scan("wh:db.events", **more))  # waits for the commit
    artifact_id, _, version = answer.json()["artifact_uri"].rpartition("/")[2].partition("@v=")
    return f"/v1/artifacts/{artifact_id}/v/{version}"


def blobs(settings: Settings) -> list[Path]:
    return list(Path(settings.artifact_dir or "").glob("blobs/*/*/*.arrow"))


async def test_a_file_that_a_proxy_was_told_to_send_stays_for_it(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result is gone at once; the next look of the sweeper removes the file."""
    warehouse.create(numbers(20_000))  # a small result is not named
    with_proxy = attrs.evolve(settings, service_writes_enabled=True, accel_redirect="/_strata/results")
    async with running(with_proxy) as server, server.client(**WRITER) as client:
        path = await made(client)
        named = await client.get(f"{path}/data")
        assert named.headers["x-accel-redirect"].startswith("/_strata/results/")
        assert 200 == (await client.delete(path)).status_code
        assert 404 == (await client.get(path)).status_code
        assert 1 == len(blobs(settings))
        resources = server.service.registry.resources
        await remove_pending(resources, "team-a")
        assert 1 == len(blobs(settings))
        monkeypatch.setattr(resources.lent, "_until", {})
        for tenant in resources.lent.take_kept():
            await remove_pending(resources, tenant)
        assert [] == blobs(settings)


async def test_a_removed_result_is_gone_with_its_bytes_and_is_built_anew(
    writable: Running, settings: Settings
) -> None:
    """Row, builds, bytes and the tenant's sum are gone; the next request builds another version."""
    retention = writable.service.registry.resources.retention
    async with writable.client(**WRITER) as client:
        path = await made(client)
        size = (await client.get(path)).json()["byte_size"]
        answer = await client.delete(path)
        assert (200, "deleted", size) == (
            answer.status_code,
            answer.json()["status"],
            answer.json()["byte_size"],
        )
        for found in (await client.get(path), await client.get(f"{path}/data"), await client.delete(path)):
            assert 404 == found.status_code
        assert [] == blobs(settings)
        assert (0, 0) == attrs.astuple(retention.usage("team-a"))
        assert () == retention.pending(9)
        assert path.replace("/v/1", "/v/2") == await made(client)
        assert 100 == (await fetch(client, scan("wh:db.events"))).num_rows


async def test_who_may_not_remove_learns_nothing_and_removes_nothing(writable: Running) -> None:
    """Another tenant's and a denied result are answered as missing ones; the scope is needed."""
    async with writable.client(**WRITER) as client:
        path = await made(client)
    missing = path.replace("/v/1", "/v/7")
    for headers in (EVE, BOB):
        async with writable.client(**headers, **{"X-Request-ID": "same"}) as client:
            answers = [await client.delete(one) for one in (path, missing)]
            told = [(one.status_code, one.content, {**one.headers, "date": ""}) for one in answers]
            assert told[0] == told[1]
            assert 404 == told[0][0]
    async with writable.client(**identity("ana", "team-a", "admin:* artifacts")) as client:
        refused = await client.delete(path)
        assert (403, "missing_scope") == (refused.status_code, refused.json()["error"])
        assert 200 == (await client.get(f"{path}/data")).status_code


async def test_a_rule_can_keep_a_result_from_being_removed(settings: Settings, warehouse: Warehouse) -> None:
    """A deny rule on the artifact for the action delete is 403, and the caller still reads the result."""
    warehouse.create(numbers(10))
    rules = Policy(deny=(Rule("ana", "artifacts/**", action="delete"),), allow=(Rule("*", "tables/wh/db/*"),))
    changed = attrs.evolve(settings, service_writes_enabled=True, acl_config=rules)
    async with running(changed) as server, server.client(**WRITER) as client:
        path = await made(client)
        refused = await client.delete(path)
        assert (403, "access_denied") == (refused.status_code, refused.json()["error"])
        assert 200 == (await client.get(path)).status_code


async def test_what_a_name_points_at_is_kept(writable: Running, settings: Settings) -> None:
    """A named result is 409, and another result with the same bytes keeps them."""
    async with writable.client(**WRITER) as client:
        named = await made(client, name="daily")
        other = await made(client, params={"filters": [{"column": "id", "op": ">=", "value": 0}]})
        assert named != other
        assert 1 == len(blobs(settings))  # equal bytes are one file
        refused = await client.delete(named)
        assert (409, "artifact_held") == (refused.status_code, refused.json()["error"])
        assert 200 == (await client.delete(other)).status_code
        assert 100 == (await fetch(client, scan("wh:db.events"))).num_rows
        assert 200 == (await client.get(f"{named}/data")).status_code


async def test_a_reader_that_has_a_result_open_reads_it_to_its_end(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The bytes of a removed result stay with those who read them."""
    warehouse.create(numbers(200_000))
    changed = attrs.evolve(settings, service_writes_enabled=True)
    async with running(changed) as server, server.client(**WRITER) as client:
        path = await made(client)
        expected = (await client.get(f"{path}/data")).content
        async with client.stream("GET", f"{path}/data") as answer:
            parts = answer.aiter_bytes()
            first = await anext(parts)
            assert 200 == (await client.delete(path)).status_code
            rest = b"".join([part async for part in parts])
        assert expected == first + rest


async def test_a_removal_is_in_the_audit_of_its_tenant(writable: Running) -> None:
    """Who removed what is recorded with the removal, and refused ones are not."""
    async with writable.client(**WRITER) as client:
        kept, gone = await made(client, name="n"), await made(client, params={"columns": ["id"]})
        await client.delete(kept)
        await client.delete(gone)
    async with writable.client(**identity("ada", "team-a", "admin:tenants")) as client:
        entries = (await client.get("/v1/admin/audit")).json()["entries"]
    [entry] = [one for one in entries if one["action"] != "name.set"]  # that of the kept one's name
    assert ("artifact.delete", "ana") == (entry["action"], entry["principal"])
    assert [gone.split("/")[3]] == [one["artifact_id"] for one in entry["old"]["versions"]]


async def test_what_a_killed_process_has_left_is_removed_at_the_next_start(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends between row and bytes leaves the bytes to the next start."""
    warehouse.create(numbers(100))
    changed = attrs.evolve(settings, service_writes_enabled=True)
    async with running(changed) as server, server.client(**WRITER) as client:
        path = await made(client)
        with monkeypatch.context() as patched:
            patched.setattr(removal, "remove_bytes", nothing)
            assert 200 == (await client.delete(path)).status_code
    assert 1 == len(blobs(settings))
    async with running(changed) as server:
        resources = server.service.registry.resources
        with trio.fail_after(30):
            while resources.retention.pending(1):
                await trio.lowlevel.checkpoint()
        assert [] == blobs(settings)


async def nothing(*_: object) -> int:
    return 0


async def test_bytes_that_could_not_be_removed_are_removed_later(
    writable: Running, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses leaves a pending removal: the result is gone at once, its bytes afterwards."""
    resources = writable.service.registry.resources
    real = Path.unlink

    def broken(self: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002
        if self.suffix == ".arrow":
            raise OSError(5, "on purpose")
        real(self, missing_ok=missing_ok)

    async with writable.client(**WRITER) as client:
        path = await made(client)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", broken)
            assert 200 == (await client.delete(path)).status_code
        assert 404 == (await client.get(f"{path}/data")).status_code
        assert (1, 1) == (len(blobs(settings)), len(resources.retention.pending(9)))
        assert await remove_pending(resources, "team-a") > 0
        assert ([], ()) == (blobs(settings), resources.retention.pending(9))

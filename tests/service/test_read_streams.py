"""What clients see who fetch a stream twice, in part, not at all, or after their tenant was evicted."""

import attrs
import httpx
import pyarrow as pa
from service_kit import ARROW, Running, Warehouse, identity, numbers, running, scan

from strata.config import Settings
from strata.tenants.shared.left_streams import LeftStream

ROOT = identity("root", "team-a", "admin:*")


async def promised(client: httpx.AsyncClient, warehouse: Warehouse, column: str = "id") -> str:
    answer = await client.post("/v1/materialize", json=scan(warehouse.uri(), params={"columns": [column]}))
    return answer.json()["stream_url"]


def unread(server: Running) -> int:
    return server.service.registry.find("team-a").actor.unread


async def test_a_stream_that_was_read_can_be_read_again_and_waits_no_longer(
    server: Running, warehouse: Warehouse
) -> None:
    """The repetition of a client whose connection broke at the last moment gets the same bytes."""
    warehouse.create(numbers(1000))
    async with server.client() as client:
        url = await promised(client, warehouse)
        assert 1 == unread(server)
        assert 200 == (await client.head(url)).status_code
        assert 1 == unread(server), "HEAD reads nothing"
        first = await client.get(url)
        assert (200, 0) == (first.status_code, unread(server))
        found = server.service.registry.find("team-a").actor.opened_materializer
        for _ in range(2):  # perhaps before the commit, and after it
            again = await client.get(url)
            assert (200, first.content) == (again.status_code, again.content)
            while found.running:
                await client.get("/v1/me")
        assert [LeftStream] == [type(stream) for stream in found.read.values()], "no build is kept for it"
        other = await client.get(url, headers=identity("bob"))
        assert 404 == other.status_code


async def test_a_stream_that_was_cut_waits_for_its_next_reader(server: Running, warehouse: Warehouse) -> None:
    """A client that leaves in the middle has not read its stream."""
    warehouse.create(numbers(400_000))
    async with server.client() as client:
        url = await promised(client, warehouse, "name")
        async with client.stream("GET", url) as flow:
            await anext(flow.aiter_raw(1000))
        assert 1 == unread(server)
        whole = await client.get(url)
        assert 400_000 == pa.ipc.open_stream(whole.content).read_all().num_rows
        assert 0 == unread(server)


async def test_an_unread_stream_outlives_its_actor(server: Running, warehouse: Warehouse) -> None:
    """A promised stream is read after an eviction as before, by its owner alone."""
    warehouse.create(numbers(1000))
    async with server.client() as client, server.client(**ROOT) as root:
        url = await promised(client, warehouse)
        build = (
            await client.post("/v1/materialize", json=scan(warehouse.uri()) | {"mode": "artifact"})
        ).json()
        while "ready" != (await client.get(f"/v1/builds/{build['build_id']}")).json()["state"]:
            pass
        while server.service.registry.find("team-a").actor.opened_materializer.running:
            await client.get("/v1/me")
        assert (await root.post("/v1/admin/tenants/team-a/evict")).json()["changed"]
        assert 404 == (await client.get(url, headers=identity("bob"))).status_code
        found = await client.get(url)
        assert (200, ARROW) == (found.status_code, found.headers["content-type"])
        assert 1000 == pa.ipc.open_stream(found.content).read_all().num_rows


async def test_a_third_tenant_is_served_once_two_have_read_their_results(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Tenants that have read what they asked for hold no place, however long a stream may wait."""
    warehouse.create(numbers(10))
    changed = attrs.evolve(settings, max_tenants=2, stream_state_ttl_seconds=300)
    async with running(changed) as server:
        for number in range(6):
            async with server.client(**identity("ana", f"t{number}")) as client:
                body, arrow = scan(warehouse.uri()), {"Accept": ARROW}
                answer = await client.post("/v1/materialize", json=body, headers=arrow)
                while answer.status_code == 503:  # the tenants before may still be committing
                    answer = await client.post("/v1/materialize", json=body, headers=arrow)
                assert 200 == answer.status_code, answer.text

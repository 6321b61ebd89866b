"""Limits of the machine: 503 with the setting's name before a build starts; finished results can be read."""

import attrs
import pytest
from service_kit import Warehouse, fetch, identity, numbers, running, scan

from strata.artifacts.metadata import records
from strata.config import Settings
from strata.server.service import memory_of
from strata.tables.plan import model
from strata.tenants.builds import materialize

MIB = 1024 * 1024


async def test_a_nearly_full_disk_begins_no_build_and_serves_what_is_there(
    settings: Settings, warehouse: Warehouse
) -> None:
    """`disk_reserve_bytes` refuses builds until enough bytes are free."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        server.service.take(attrs.evolve(settings, disk_reserve_bytes=2**60), None)
        assert 10 == (await fetch(client, scan(warehouse.uri()))).num_rows
        body = scan(warehouse.uri(), params={"columns": ["id"]})
        refused = await client.post("/v1/materialize", json=body)
        assert (503, "storage_unavailable") == (refused.status_code, refused.json()["error"])
        assert "disk_reserve_bytes" in refused.json()["detail"]
        server.service.take(settings, None)
        assert 10 == (await fetch(client, body)).num_rows


async def test_a_build_waits_for_memory_and_is_503_when_there_is_none(
    settings: Settings, warehouse: Warehouse
) -> None:
    """`memory_budget_bytes`: the build waits, then is refused; slot and reservation are released."""
    warehouse.create(numbers(10))
    short = attrs.evolve(settings, memory_budget_bytes=1000, interactive_queue_timeout_seconds=0.05)
    async with running(short) as server, server.client() as client:
        memory = server.service.registry.resources.memory
        held = memory.queue("somebody", 1000)
        refused = await client.post("/v1/materialize", json=scan(warehouse.uri()))
        assert (503, "memory_budget_bytes") == (refused.status_code, refused.json()["error"])
        assert int(refused.headers["Retry-After"]) >= 1
        assert "limit" not in refused.json()
        assert "somebody" not in refused.text
        held.release()
        assert 10 == (await fetch(client, scan(warehouse.uri()))).num_rows
        assert 200 == (await client.get("/v1/artifacts", headers=identity())).status_code
        for tenant in server.service.registry.tenants():
            assert 0 == sum(slots.used for slots in tenant.actor.builder.slots.values())


def test_the_budget_is_a_share_of_the_machine_unless_it_is_set() -> None:
    """`memory_budget_bytes = 0` is a share of the machine's memory, not no memory."""
    assert memory_of(Settings()) > 0
    assert 12345 == memory_of(Settings(memory_budget_bytes=12345))


async def test_the_parts_of_the_memory_budget_follow_the_setting(settings: Settings) -> None:
    """Bodies, what tenants remember, parsed files and builds together have the budget, also after a change."""
    async with running(attrs.evolve(settings, memory_budget_bytes=80 * MIB)) as server:
        resources, door = server.service.registry.resources, server.service.app

        def parts() -> list[int]:
            caches = resources.catalogs._caches
            tables = caches.footers._footers.budget + caches.footers._columns.budget + caches.deletes.budget
            tables += caches.manifests.budget + caches.tables.budget
            found = [resources.memory.total, door.bodies.total, resources.remembered.total, tables]
            return [round(nbytes / MIB) for nbytes in found]

        assert [50, 10, 10, 10] == parts()
        server.service.take(attrs.evolve(settings, memory_budget_bytes=16 * MIB), None)
        assert [10, 2, 2, 2] == parts()


async def test_a_filter_value_that_is_too_large_is_413(settings: Settings, warehouse: Warehouse) -> None:
    """The answer says which value and how large it may be; 900 KB of it were kept with every result."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        for path in ("/v1/materialize", "/v1/artifacts/explain-materialize"):
            condition = {"column": "name", "op": "=", "value": "x" * 900_000}
            body = scan(warehouse.uri(), params={"columns": ["id"], "filters": [condition]})
            refused = await client.post(path, json=body)
            assert (413, "filter_values_too_large") == (refused.status_code, refused.json()["error"])
            assert ["body", "transform", "params", "filters", 0, "value"] == refused.json()["errors"][0][
                "loc"
            ]
            assert len(refused.content) < 1000


async def test_a_transform_that_is_too_large_is_413(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The canonical transform is kept with the result, so it is bounded whatever it consists of."""
    monkeypatch.setattr(materialize, "MAX_TRANSFORM_BYTES", 200)
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        body = scan(warehouse.uri(), params={"columns": ["id"]})
        assert 200 == (await client.post("/v1/materialize", json=body)).status_code
        body["transform"]["params"]["filters"] = [{"column": "id", "op": ">", "value": at} for at in range(9)]
        refused = await client.post("/v1/materialize", json=body)
        assert (413, "transform_too_large") == (refused.status_code, refused.json()["error"])


async def test_a_build_reserves_memory_for_its_deletes(settings: Settings, warehouse: Warehouse) -> None:
    """What reading delete files takes is part of the build's reservation, however few rows it has."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        reserved: list[int] = []
        memory = server.service.registry.resources.memory
        queue = memory.queue
        memory.queue = lambda tenant, size: (reserved.append(size), queue(tenant, size))[1]  # type: ignore[method-assign]
        await fetch(client, scan(warehouse.uri()))
        real = model.Totals.of
        with_deletes = lambda files: attrs.evolve(real(files), delete_bytes=model.DELETE_BYTES)  # noqa: E731
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model.Totals, "of", with_deletes)
            await fetch(
                client, scan(warehouse.uri(), params={"filters": [{"column": "id", "op": ">", "value": -1}]})
            )
    assert reserved[0] + model.DELETE_BYTES == reserved[1]


async def test_a_page_that_ends_early_says_so_in_its_limit(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that goes on from offset + limit reads every result once, however large they are."""
    monkeypatch.setattr(records, "PAGE_BYTES", 4000)
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as client:
        for columns in (["id"], ["name"], ["value"], ["id", "name"], ["id", "value"]):
            await fetch(client, scan(warehouse.uri(), params={"columns": columns}))
        found, offset, pages = set(), 0, 0
        while offset < 5:
            page = (await client.get("/v1/artifacts", params={"limit": 1000, "offset": offset})).json()
            found |= {one["artifact_id"] for one in page["artifacts"]}
            offset, pages = offset + page["limit"], pages + 1
            assert 5 == page["total_count"]
    assert 5 == len(found)
    assert 1 < pages <= 5

"""Limits of the machine: 503 with the setting's name before a build starts; finished results can be read."""

import attrs
from service_kit import Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.server.service import memory_of


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

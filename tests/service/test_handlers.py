"""The actor's table of handlers: whole, and built once."""

from __future__ import annotations

from typing import get_args

from service_kit import Running, Warehouse, fetch, numbers, scan

from strata.tenants import messages as m


async def test_every_kind_of_question_has_one_handler_for_the_life_of_the_actor(
    server: Running, warehouse: Warehouse
) -> None:
    """The table has all members of ``messages.Question``, and two questions meet the same one."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        found = server.service.registry.find("team-a")
        assert found is not None
        assert found.actor is not None
        before = found.actor._handlers
        await fetch(client, scan(warehouse.uri()))
    assert found.actor._handlers is before
    assert set(get_args(m.Question)) == set(before)

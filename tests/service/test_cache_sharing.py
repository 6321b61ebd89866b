"""The budget of all caches through the service: one tenant's scans do not lower another's hit rate."""

from collections.abc import Callable

import attrs
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.artifacts import tenant_prefix
from strata.cache import CacheShard
from strata.config import Settings


async def until(true: Callable[[], bool]) -> None:
    """Return once the condition holds; background work has no event."""
    with trio.fail_after(30):
        while not true():  # noqa: ASYNC110  # no event tells of it
            await trio.sleep(0.005)


A, B = identity("ana", "team-a", "admin:*"), identity("bob", "team-b", "admin:*")


async def shard_of(server: Running, tenant: str) -> CacheShard:
    """Return a tenant's shard once no build for it is left."""
    registry = server.service.registry
    [found] = [one for one in registry.tenants() if one.id == tenant]
    pool = registry.resources.pool
    await until(lambda: not (found.actor.busy or found.actor.materializer.running or pool.running))
    return found.actor.shard


async def dashboard(server: Running, client, uri: str, turn: int) -> tuple[int, int]:
    """Send a small request of B that no finished result answers; return the hits and misses it caused."""
    before = (await shard_of(server, "team-b")).stats() if turn else None
    await fetch(client, scan(uri, params={"filters": [{"column": "id", "op": "<", "value": turn + 1}]}))
    after = (await shard_of(server, "team-b")).stats()
    return after.hits - (before.hits if before else 0), after.misses - (before.misses if before else 0)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
async def test_scans_of_twenty_times_the_budget_leave_the_others_hit_rate_where_it_was(
    settings: Settings, warehouse: Warehouse, whole
) -> None:
    """While A scans everything repeatedly, in whole and filtered results, each request of B hits."""
    warehouse.create(numbers(2000), "db.small")
    large = [f"db.large{number}" for number in range(20)]
    for table in large:
        warehouse.create(numbers(8000), table)
    budget = 256 * 1024
    changed = attrs.evolve(settings, max_cache_size_bytes=budget, cache_guaranteed_bytes=0)
    async with running(changed) as server, server.client(**A) as ana, server.client(**B) as bob:
        small = warehouse.uri("db.small")
        assert (0, 1) == await dashboard(server, bob, small, 0)
        kept = await shard_of(server, "team-b")
        await until(lambda: kept.stats().segments == 1)
        assert (1, 0) == await dashboard(server, bob, small, 1)
        decoded, turn = 0, 2
        for table in large:
            params = {} if whole else {"filters": [{"column": "id", "op": ">=", "value": 10}]}
            decoded += (await fetch(ana, scan(warehouse.uri(table), params=params))).nbytes
            assert (await shard_of(server, "team-a")).stats().bytes <= budget / 2 + 1
            assert (1, 0) == await dashboard(server, bob, small, turn)
            turn += 1
        assert decoded >= 20 * budget
        sharing = server.service.registry.sharing
        assert sharing.budget.held <= budget
        cache = server.service.registry.resources.cache_dir
        await until(lambda: sum(path.stat().st_size for path in cache.rglob("*.*")) == sharing.budget.held)


async def test_what_a_tenant_left_behind_makes_room(settings: Settings, warehouse: Warehouse) -> None:
    """Segments of absent tenants, also of an earlier run, are removed first, with their directory."""
    warehouse.create(numbers(2000))
    async with running(settings) as server, server.client(**A) as ana:
        await fetch(ana, scan(warehouse.uri()))
        shard = await shard_of(server, "team-a")
        await until(lambda: shard.stats().bytes > 0)  # which comes after the result
        size = shard.stats().bytes
        cache = server.service.registry.resources.cache_dir
    left = cache / tenant_prefix("team-a")
    changed = attrs.evolve(settings, max_cache_size_bytes=2 * size + size // 2, cache_guaranteed_bytes=0)
    async with running(changed) as server, server.client(**B) as bob:
        sharing = server.service.registry.sharing
        await until(lambda: sharing.walked)
        assert [(left.name, size)] == list(sharing.budget._gone.items())
        await fetch(bob, scan(warehouse.uri()))
        shard = await shard_of(server, "team-b")
        await until(lambda: shard.stats().bytes == size)
        assert left.exists()
        await fetch(bob, scan(warehouse.uri(), params={"columns": ["name", "id", "value"]}))
        warehouse.create(numbers(2000, start=5000), "db.other")
        await fetch(bob, scan(warehouse.uri("db.other")))
        await until(lambda: not left.exists())
        await until(lambda: not list(sharing.budget._gone.items()))


async def test_a_grant_that_was_cut_shrinks_a_running_actors_cache(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A reduced grant reaches the actor over its share by a message, and its files are removed."""
    for number in range(4):
        warehouse.create(numbers(2000, start=number), f"db.t{number}")
    async with running(settings) as server, server.client(**A) as ana, server.client(**B) as bob:
        budget = server.service.registry.sharing.budget
        for number in range(4):
            await fetch(ana, scan(warehouse.uri(f"db.t{number}")))
        shard = await shard_of(server, "team-a")
        await until(lambda: shard.stats().segments == 4)
        full = shard.stats().bytes
        budget.total, budget.guarantee = full, 0
        await fetch(bob, scan(warehouse.uri("db.t0")))
        other = await shard_of(server, "team-b")
        await until(lambda: other.stats().bytes > 0)
        await until(lambda: shard.stats().bytes < full)
        assert budget.held <= full

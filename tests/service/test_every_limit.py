"""Every limit has tests, and a change of it reaches a running actor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
import trio
from limit_table import DRAINS, EDGES
from service_kit import ARROW, Running, Warehouse, identity, numbers, running, scan

from strata.config import Settings
from strata.config.tenants import LIMITS, NUMBERS
from strata.server.service import limits_of
from strata.tenants import TenantLimits
from strata.tenants.limits.rates import Rules
from strata.work import Tier

ROOT = Path(__file__).parents[2]
OPERATOR = identity("root", "ops", "admin:*")
PATH = "/v1/admin/tenants/team-a/limits"


def test_every_limit_has_tests_of_its_edges() -> None:
    """Each limit names existing tests, so a new limit without any is noticed."""
    assert set(LIMITS) == set(EDGES)
    assert set(DRAINS) <= set(LIMITS)
    for where in (*EDGES.values(), *DRAINS.values()):
        path, _, name = where.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), where


def values_of(name: str) -> tuple[Any, Any]:
    """Return a value below a limit's default and one above; where 0 means unlimited, two limits."""
    default = LIMITS[name].default
    if not default:
        return 1000, 2000
    return type(default)(default / 2), type(default)(default * 2)


def holds(server: Running, expected: TenantLimits) -> bool:
    """Return whether every object that enforces a limit of team-a uses these values."""
    registry = server.service.registry
    tenant = registry.find("team-a")
    assert tenant is not None
    actor = tenant.actor
    assert actor is not None
    assert actor.builder is not None
    slots = {
        tier: (held.total, held._shares.most)  # the most of one principal
        for tier, held in actor.builder.slots.items()
    }
    return (
        expected == actor.limits == actor.builder.limits
        and expected.cache_bytes == actor.shard.stats().budget
        and Rules.of(expected) == registry.rates.of("team-a", trio.current_time()).rules
        and expected.weight == registry.resources.pool.weight_of("team-a")
        and slots
        == {
            Tier.INTERACTIVE: (expected.interactive_slots, expected.interactive_slots_per_principal),
            Tier.BULK: (expected.bulk_slots, expected.bulk_slots_per_principal),
        }
    )


async def test_a_change_of_any_limit_reaches_a_running_actor(settings: Settings) -> None:
    """Each limit changes down, up and back in the same actor, and another tenant's limits stay."""
    async with running(attrs.evolve(settings, rate_limit_enabled=True)) as server:
        for tenant in ("team-a", "team-b"):
            async with server.client(**identity("ana", tenant)) as client:
                await client.get("/v1/names")
        registry = server.service.registry
        actors = [registry.find(tenant).actor for tenant in ("team-a", "team-b")]
        before = actors[1].limits
        async with server.client(**OPERATOR) as operator:
            for name in sorted(NUMBERS):
                for value in (*values_of(name), None):
                    answer = await operator.patch(PATH, json={name: value})
                    assert 200 == answer.status_code, answer.text
                    changed = {} if value is None or name == "weight" else {name: value}
                    expected = limits_of(attrs.evolve(server.service.settings, **changed))
                    if name == "weight" and value is not None:
                        expected = attrs.evolve(expected, weight=value)
                    assert (expected == before) == (value is None), f"{name} is in no TenantLimits"
                    with trio.fail_after(
                        10
                    ):  # a second of a virtual clock: tests/tenants/lifecycle/test_operator_actions.py
                        while not holds(server, expected):  # noqa: ASYNC110  # a change has no event
                            await trio.sleep(0.01)
            assert [registry.find(tenant).actor for tenant in ("team-a", "team-b")] == actors
            assert before == actors[1].limits
    others = {"enabled", "artifact_names_shared", "registry_protected_aliases", "access_audit"}
    assert set(LIMITS) - NUMBERS == others, (
        "which test_admin.py, test_registry.py and test_access_audit.py have"
    )


@pytest.mark.parametrize(("rows", "batches"), [(99, [99]), (100, [100]), (101, [100, 1])])
async def test_a_batch_has_exactly_as_many_rows_as_it_may(
    settings: Settings, warehouse: Warehouse, rows: int, batches: list[int]
) -> None:
    """Batches have exactly `batch_size` rows, except the last."""
    warehouse.create(numbers(rows))
    async with running(attrs.evolve(settings, batch_size=100)) as server, server.client() as client:
        answer = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})
    assert batches == [batch.num_rows for batch in pa.ipc.open_stream(answer.content)]

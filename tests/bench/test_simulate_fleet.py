"""The simulation of a fleet: exact where it can be computed by hand, and the table of the docs is its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fleet() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_fleet", ROOT / "bench" / "simulate_fleet.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["simulate_fleet"] = found
    spec.loader.exec_module(found)
    return found


def test_a_fair_server_serves_the_small_and_divides_the_rest(fleet: ModuleType) -> None:
    """Two small tenants get all, the two large ones the same; in the order of arrival all get the same share."""
    demands = {1: 0.1, 2: 0.3, 3: 1.0, 4: 2.6}
    assert {1: 0.1, 2: 0.3, 3: pytest.approx(0.3), 4: pytest.approx(0.3)} == fleet.fair(demands)
    assert {one: pytest.approx(demand / 4) for one, demand in demands.items()} == fleet.in_order(demands)
    assert {1: 0.1, 2: 0.3} == fleet.fair({1: 0.1, 2: 0.3}) == fleet.in_order({1: 0.1, 2: 0.3})


def test_a_server_that_is_gone_moves_its_tenants_only(fleet: ModuleType) -> None:
    """By consistent hashing and by shuffle sharding: every other tenant stays where it was."""
    servers = list(range(10))
    for made in (
        lambda alive: fleet.consistent(1, alive),
        lambda alive: fleet.shuffled(1, alive, 3),
    ):
        before, after = made(servers), made(servers[1:])
        for tenant in range(300):
            kept = [server for server in before(tenant) if server != 0]
            assert kept == [server for server in after(tenant) if server in kept]
            assert (0 in before(tenant)) == (list(before(tenant)) != list(after(tenant)))


def test_the_demand_of_all_tenants_is_the_load(fleet: ModuleType) -> None:
    """Nothing is lost by the placement, but for the tenants that are cut to one server."""
    demands = fleet.demands_of(1000, 400)
    assert 1.0 == max(demands)
    assert sum(fleet.demands_of(10_000, 10)) == pytest.approx(fleet.LOAD * 10, rel=0.2)
    outcome = fleet.run([0.5, 0.5, 0.25], [(0,), (0,), (1,)])
    assert (1.0, 0, 0) == (outcome.busiest, outcome.unserved, outcome.in_order)
    crowded = fleet.run([0.5, 0.5, 0.25, 9.0], [(0,), (0,), (1,), (0,)], bad=3)
    assert (2, 2) == (crowded.unserved, crowded.in_order)


def test_the_docs_have_the_table_that_it_prints(fleet: ModuleType) -> None:
    """Byte for byte, with the seed that is the default."""
    page = (ROOT / "docs" / "explanation" / "scale.md").read_text()
    assert fleet.table() in page

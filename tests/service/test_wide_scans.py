"""What grows with a request is a quantum of the work pool, charged to its tenant."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import trio
from service_kit import Running, Warehouse, identity, numbers, scan

from strata.http.routes import materialize as routes
from strata.outcomes import Refused
from strata.tables.scan import params as scan_params
from strata.tables.scan.params import MAX_COLUMNS, MAX_CONDITIONS, MAX_VALUES, is_wide, parse_scan_params
from strata.tenants.builds import materialize
from strata.tenants.shared import resources as shared


def some_filters(count: int) -> list[dict[str, Any]]:
    return [{"column": "id", "op": ">", "value": -number} for number in range(count)]


def one_of(count: int) -> list[dict[str, Any]]:
    return [{"column": "id", "op": "in", "value": list(range(count))}]


@pytest.mark.parametrize(
    ("expected", "params"),
    [
        (False, {}),
        (False, {"columns": ["a"] * 200, "filters": some_filters(28)}),
        (True, {"columns": ["a"] * 257}),
        (True, {"filters": some_filters(129)}),  # a filter and its value
        (True, {"filters": one_of(256)}),
        (True, {"filters": [{"column": "name", "op": "=", "value": "x" * 20_000}]}),
        (True, {"columns": ["x" * 20_000]}),
        (False, {"columns": 7, "filters": "abc"}),
        (False, {"filters": [7, None, {}, {"value": {}}, {"value": [[], {}, None]}]}),
    ],
)
def test_a_scan_is_wide_by_what_it_names(*, expected: bool, params: dict[str, Any]) -> None:
    """Columns, filters, values and long texts count, in parameters of whatever form."""
    assert expected is is_wide(params)


def test_more_columns_than_can_be_looked_up_are_refused() -> None:
    """Ten thousand may be named."""
    names = [f"c{number}" for number in range(MAX_COLUMNS + 1)]
    assert not isinstance(parse_scan_params({"columns": names[:-1]}), Refused)
    refused = parse_scan_params({"columns": names})
    assert isinstance(refused, Refused)
    assert "columns" == refused.loc[-1]


@pytest.fixture
def on_the_loop(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which of the functions that take long are called in the event loop's thread."""
    found: list[str] = []

    def watch(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def watched(*args: Any, **more: Any) -> Any:
            try:
                trio.lowlevel.current_task()
            except RuntimeError:  # in a thread
                return real(*args, **more)
            found.append(name)
            return real(*args, **more)

        monkeypatch.setattr(module, name, watched)

    for module, name in (
        (routes, "decode_body"),
        (materialize, "parse_scan_params"),
        (materialize, "resolve_scan"),
        (materialize, "scan_provenance"),
    ):
        watch(module, name)
    return found


@pytest.mark.parametrize(
    "params",
    [
        {"filters": one_of(MAX_VALUES)},
        {"filters": some_filters(MAX_CONDITIONS)},
        {"columns": ["id"] + [f"missing{number}" for number in range(MAX_COLUMNS - 1)]},
    ],
)
async def test_a_wide_scan_is_parsed_and_resolved_in_the_pool(
    server: Running, warehouse: Warehouse, on_the_loop: list[str], params: dict[str, Any]
) -> None:
    """Also when the table is loaded; the answers are those of any scan, and its tenant pays for the time."""
    warehouse.create(numbers(3))
    pool = server.service.registry.resources.pool
    async with server.client(**identity("ana", "team-a")) as client:
        for _ in range(2):
            answer = await client.post(
                "/v1/artifacts/explain-materialize", json=scan(warehouse.uri(), params=params)
            )
            assert (400 if "columns" in params else 200) == answer.status_code, answer.text
            built = await client.post("/v1/materialize", json=scan(warehouse.uri(), params=params))
            assert (400 if "columns" in params else 200) == built.status_code, built.text
    assert [] == on_the_loop
    assert pool.served_bytes()["team-a"] > 4 * shared.SMALL_COST


async def test_a_wide_table_is_resolved_in_the_pool_until_the_scan_is_remembered(
    server: Running, warehouse: Warehouse, on_the_loop: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small request on a table of many columns; the second time, it is known at once."""
    warehouse.create(pa.table({f"c{number}": [1] for number in range(scan_params.WIDE + 1)}), "db.wide")
    body = scan(warehouse.uri("db.wide"))
    async with server.client(**identity("ana", "team-a")) as client:
        first = await client.post("/v1/artifacts/explain-materialize", json=body)
        assert 200 == first.status_code
        assert "resolve_scan" not in on_the_loop
        assert first.json() == (await client.post("/v1/artifacts/explain-materialize", json=body)).json()
    assert "resolve_scan" in on_the_loop


async def test_a_small_scan_takes_no_way_through_the_pool(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is quick stays on the event loop."""
    warehouse.create(numbers(3))
    asked: list[object] = []

    async def compute(*args: object) -> None:
        asked.append(args)

    monkeypatch.setattr(shared.Resources, "compute", compute)
    async with server.client(**identity("ana", "team-a")) as client:
        body = scan(warehouse.uri(), params={"columns": ["id"], "filters": some_filters(3)})
        assert 200 == (await client.post("/v1/artifacts/explain-materialize", json=body)).status_code
    assert [] == asked


async def test_a_computation_that_fails_is_paid_for(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exception is raised to the caller, and the processor's time that it took is charged as bytes."""
    clock = iter([1.0, 3.0])
    monkeypatch.setattr(shared, "time", SimpleNamespace(thread_time=lambda: next(clock)))

    def fail() -> None:
        raise ValueError("refused")

    resources = server.service.registry.resources
    with pytest.raises(ValueError, match="refused"):
        await resources.compute("team-b", "ana", fail)
    assert 2 * shared.BYTES_PER_SECOND == resources.pool.served_bytes()["team-b"]

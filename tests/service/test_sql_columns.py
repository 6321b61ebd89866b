"""Queries read only the columns and rows that they can need; no answer and no identity depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import attrs
import pyarrow as pa
import pytest
from service_kit import Running, Warehouse, fetch, identity, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection
from strata.tables import ResolvedScan
from strata.tenants.builds import runner
from strata.tenants.transforms import narrowing

COLUMNS = ("id", "value", "name", "home", "tags")

QUERIES = {
    "SELECT id, name FROM input0 WHERE value > 3 ORDER BY ALL": {"id", "value", "name"},
    "SELECT count(*) AS n FROM input0": {"id"},
    "SELECT a.home.city AS c, b.id FROM input0 a JOIN input1 b ON a.id = b.id + 1 ORDER BY b.id": {"id", "home"},
    "SELECT value AS name FROM input0 ORDER BY name": {"value", "name"},
    "SELECT id FROM input0 a WHERE value = (SELECT max(value) FROM input1 b WHERE b.id % 3 = a.id % 3) ORDER BY id": {"id", "value"},
    "SELECT id FROM input0 UNION ALL BY NAME SELECT value FROM input1 ORDER BY ALL": {"id", "value"},
    "SELECT id FROM (SELECT * FROM input0) ORDER BY id": {*COLUMNS},
    "SELECT COLUMNS('^(id|name)$') FROM input0 ORDER BY id": {*COLUMNS},
    "SELECT t FROM input0 t ORDER BY t.id": {*COLUMNS},
    "SELECT id, tags FROM input0 NATURAL JOIN input1 ORDER BY id": {*COLUMNS},
    "SELECT columns FROM (SELECT 1 AS columns FROM input0 LIMIT 1)": {"id"},
}  # fmt: skip
"""Odd queries over one table twice, and the columns that are read."""


def body(sql: str) -> dict:
    params = {"sql": sql}
    return {
        "inputs": ["wh:db.events", "wh:db.events"],
        "transform": {"executor": "duckdb_sql@v1", "params": params},
    }


FILTERED = {
    "SELECT name FROM input0 WHERE id >= 35 AND name IS NOT NULL ORDER BY name": {
        "id >=",
        "name is not null",
    },
    "SELECT a.name FROM input0 a JOIN input1 b ON a.id = b.id WHERE b.id IN (1, 2) ORDER BY ALL": set(),
    "SELECT name FROM input1 WHERE id IN (1, 2) ORDER BY ALL": {"id in"},
    "SELECT name FROM input0 WHERE id >= 35 OR value > 1 ORDER BY name": set(),
}
"""Queries over two tables, and the conditions that scans test for them."""


def body_of_two(sql: str) -> dict:
    asked = body(sql)
    return {**asked, "inputs": ["wh:db.events", "wh:db.others"]}


def conditions_of(scans: list[ResolvedScan]) -> set[str]:
    return {f"{'.'.join(one.path)} {one.op}" for scan in scans for one in scan.predicates}


def rows() -> pa.Table:
    ids = range(40)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "value": pa.array([i % 7 / 2 for i in ids], pa.float64()),
            "name": [None if i % 5 == 0 else f"n{i}" for i in ids],
            "home": [{"city": f"c{i % 3}", "zip": i} for i in ids],
            "tags": [["a"] * (i % 3) for i in ids],
        }
    )


@pytest.fixture
def settings(settings: Settings) -> Settings:
    entry = RegisteredTransform("duckdb_sql@*")
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(entry,)))


@contextmanager
def scans_counted() -> Iterator[list[ResolvedScan]]:
    """Collect the scans that are built."""
    found: list[ResolvedScan] = []
    begin = runner.BuildRequest.begin

    def counted(self: runner.BuildRequest, *rest: object) -> object:
        found.append(self.scan)
        return begin(self, *rest)

    with mock.patch.object(runner.BuildRequest, "begin", counted):
        yield found


async def uri_of(server: Running, sql: str) -> str:
    async with server.client() as client:
        answer = (await client.post("/v1/materialize", json=body(sql))).json()
    assert answer["hit"], answer
    return answer["artifact_uri"]


async def test_answers_and_identities_are_the_same_with_all_columns(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Odd queries, on two servers, one of which reads all: equal answers; the columns read are counted."""
    warehouse.create(rows())
    everything = attrs.evolve(settings, artifact_dir=f"{settings.artifact_dir}/all")
    expected: dict[str, pa.Table] = {}
    with mock.patch.object(narrowing, "_needed", mock.AsyncMock(return_value=None)):
        async with running(everything) as server, server.client() as client:
            for sql in QUERIES:
                expected[sql] = await fetch(client, body(sql))
    for number, (sql, columns) in enumerate(QUERIES.items()):
        own = attrs.evolve(settings, artifact_dir=f"{settings.artifact_dir}/{number}")
        with scans_counted() as scans:
            async with running(own) as server, server.client() as client:
                assert expected[sql].equals(await fetch(client, body(sql)), check_metadata=True), sql
        assert [columns] == [{*one.arrow_schema.names} for one in scans], sql


async def test_a_result_of_fewer_columns_is_a_hit_for_who_reads_all(
    settings: Settings, warehouse: Warehouse
) -> None:
    """One identity: made from fewer columns, the result is found by a server that would read all."""
    warehouse.create(rows())
    sql = "SELECT sum(id) AS s FROM input0"
    async with running(settings) as server:
        async with server.client() as client:
            await fetch(client, body(sql))
        with mock.patch.object(narrowing, "_needed", mock.AsyncMock(return_value=None)):
            first = await uri_of(server, sql)
        assert first == await uri_of(server, sql)


async def test_a_finished_scan_of_all_columns_is_used(settings: Settings, warehouse: Warehouse) -> None:
    """Nothing is scanned again, and nobody looks at the query."""
    warehouse.create(rows())
    async with running(settings) as server, server.client() as client:
        await fetch(client, scan("wh:db.events"))
        with scans_counted() as scans:
            found = await fetch(client, body("SELECT sum(id) AS s FROM input0"))
        assert 1 == server.service.registry.resources.transforms.launcher.started
    assert ([], [{"s": 780}]) == (scans, found.to_pylist())


async def test_with_cell_grants_all_granted_columns_are_scanned(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The rows of such a scan depend on its columns: fewer of them would show other rows."""
    warehouse.create(rows())
    grants = (
        Rule("ana", "tables/wh/db/events", columns=("id",)),
        Rule("ana", "tables/wh/db/events", columns=("id", "value"), rows="id < 10"),
    )
    settings = attrs.evolve(settings, acl_config=Policy(allow=grants))
    async with running(settings) as server, server.client(**identity("ana")) as client:
        whole = await fetch(client, scan("wh:db.events"))
        found = await fetch(client, body("SELECT count(*) AS n FROM input0"))
        assert 1 == server.service.registry.resources.transforms.launcher.started
    assert [{"n": whole.num_rows}] == found.to_pylist()


async def test_scans_test_conditions_of_a_query_and_answers_are_the_same(
    settings: Settings, warehouse: Warehouse
) -> None:
    """With the answers and identities of a server that reads all rows."""
    warehouse.create(rows())
    warehouse.create(rows(), "db.others")
    for number, (sql, conditions) in enumerate(FILTERED.items()):
        asked = body_of_two(sql)
        own = attrs.evolve(settings, artifact_dir=f"{settings.artifact_dir}/{number}")
        async with running(own) as server, server.client() as client:
            with scans_counted() as scans:
                found = await fetch(client, asked)
            assert conditions == conditions_of(scans), sql
            uri = (await client.post("/v1/materialize", json=asked)).json()["artifact_uri"]
            with mock.patch.object(narrowing, "_needed", mock.AsyncMock(return_value=None)):
                hit = (await client.post("/v1/materialize", json=asked)).json()
                again = await fetch(client, {**asked, "refresh": True})
        assert (True, uri) == (hit["hit"], hit["artifact_uri"])
        assert found.equals(again, check_metadata=True), sql


async def test_a_finished_scan_of_all_rows_is_used_for_any_condition(
    settings: Settings, warehouse: Warehouse
) -> None:
    """It is there already, and serves the next condition as well."""
    warehouse.create(rows())
    asked = {**body("SELECT sum(id) AS s FROM input0 WHERE id > 37"), "inputs": ["wh:db.events"]}
    async with running(settings) as server, server.client() as client:
        await fetch(client, scan("wh:db.events", params={"columns": ["id"]}))
        with scans_counted() as scans:
            found = await fetch(client, asked)
    assert ([], [{"s": 77}]) == (scans, found.to_pylist())

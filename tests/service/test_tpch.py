"""The 22 queries of TPC-H over Iceberg tables, against bare DuckDB on the same rows."""

from __future__ import annotations

import attrs
import duckdb
import httpx
import pytest
from service_kit import Warehouse, fetch, running
from tpch_kit import TPCH, tpch_tables

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection


@pytest.fixture
def settings(settings: Settings) -> Settings:
    entry = RegisteredTransform("duckdb_sql@*")
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(entry,)))


@pytest.mark.slow
async def test_every_query_of_tpch_is_equal_to_bare_duckdb(settings: Settings, warehouse: Warehouse) -> None:
    """All 22: the same types, decimals, doubles to the last bit, and order of rows; each has rows."""
    tables = tpch_tables()
    for name, table in tables.items():
        warehouse.create(table, f"tpch.{name}")
    inputs, names = [f"wh:tpch.{name}" for name in tables], [*tables]
    with duckdb.connect(config={"threads": 2}) as bare:
        for name, table in tables.items():
            bare.register(name, table)
        expected = {number: bare.sql(query).to_arrow_table() for number, query in TPCH.items()}
    assert 22 == len(expected)
    async with running(settings) as server, server.client() as client:
        client.timeout = httpx.Timeout(300)  # the first query reads eight tables, on a busy machine too
        for number, query in TPCH.items():
            params = {"sql": query, "input_names": names}
            body = {"inputs": inputs, "transform": {"executor": "duckdb_sql@v1", "params": params}}
            found = await fetch(client, body)
            assert expected[number].equals(found.replace_schema_metadata(None)), f"query {number}"
            assert found.num_rows > 0, f"query {number}"
            assert None not in found.slice(0, 1).to_pylist()[0].values(), f"query {number}"

"""The demo's flights for tests of clusters: the tables, DuckDB's answers, and rows read from a server."""

from __future__ import annotations

from pathlib import Path

import attrs
import duckdb
import httpx
import pyarrow as pa
import trio

from strata.demo.dataset import prepare

FLIGHT_INPUTS = ("demo:nyc.flights", "demo:nyc.airlines")
"""The first has deletes and partitions, and is sent as rows; the second is read by reference."""

SECONDS = 580
"""Seconds that an answer may take: Ray starts a dozen Python processes for each build."""


@attrs.frozen
class FlightTables:
    """The demo's tables.

    Attributes:
        warehouse: The directory of their warehouse.
        rows: The rows of :data:`FLIGHT_INPUTS` as pyiceberg reads them.
    """

    warehouse: Path
    rows: tuple[pa.Table, ...]

    def right(self, sql: str) -> list[tuple]:
        """Return DuckDB's answer."""
        with duckdb.connect() as bare:
            for index, rows in enumerate(self.rows):
                bare.register(f"input{index}", rows)
            return bare.sql(sql).fetchall()


def write_flights(directory: Path) -> FlightTables:
    """Write the demo's tables into a directory."""
    data = prepare(directory, lambda _: None)
    with data.catalog() as catalog:
        names = [uri.partition(":")[2] for uri in FLIGHT_INPUTS]
        rows = tuple(catalog.load_table(name).scan().to_arrow() for name in names)
    return FlightTables(data.warehouse, rows)


async def read_rows(client: httpx.AsyncClient, body: dict) -> list[tuple]:
    """Run a build, and return its rows when it is committed."""
    begun = await client.post("/v1/materialize", json=body, timeout=SECONDS)
    assert 200 == begun.status_code, begun.text
    read = await client.get(begun.json()["stream_url"], timeout=SECONDS)
    assert 200 == read.status_code, read.text
    with trio.fail_after(60):  # the last byte may come before the commit
        while "building" == (await client.get(f"/v1/builds/{begun.json()['build_id']}")).json()["state"]:  # noqa: ASYNC110
            await trio.sleep(0.05)
    return [tuple(one.values()) for one in pa.ipc.open_stream(read.content).read_all().to_pylist()]

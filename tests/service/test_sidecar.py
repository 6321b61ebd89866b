"""A server and our own executor, together."""

from __future__ import annotations

from pathlib import Path

import attrs
import duckdb
import pyarrow as pa
import pytest
from service_kit import Warehouse, fetch, numbers, running
from sidecar_kit import executor, install_functions

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_functions(tmp_path, monkeypatch)


async def test_a_server_runs_sql_and_functions_on_it(
    settings: Settings, warehouse: Warehouse, tmp_path: Path, functions: None
) -> None:
    """Results are DuckDB's and the function's; what a function prints is in the build's log."""
    table = numbers(1000)
    warehouse.create(table)
    (tmp_path / "token").write_text("secret")
    async with executor(tmp_path / "builds") as served:
        entries = tuple(
            RegisteredTransform(ref, executor_url=served.url, token_file=str(tmp_path / "token"))
            for ref in ("duckdb_sql@v1", "double@v1")
        )
        settings = attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=entries))
        query = "SELECT id % 7 AS k, sum(value) AS s FROM input0 GROUP BY k ORDER BY k"
        async with running(settings) as service, service.client() as client:

            def body(ref: str, **params: object) -> dict:
                return {"inputs": ["wh:db.events"], "transform": {"executor": ref, "params": params}}

            found = await fetch(client, body("duckdb_sql@v1", sql=query))
            with duckdb.connect() as bare:
                bare.register("input0", table)
                assert bare.sql(query).to_arrow_table().equals(found.replace_schema_metadata(None))
            begun = (await client.post("/v1/materialize", json=body("double@v1", by=3))).json()
            read = await client.get(begun["stream_url"])
            ids = pa.ipc.open_stream(read.content).read_all()["id"].to_pylist()
            assert [3 * one for one in range(1000)] == ids
            log = (await client.get(f"/v1/builds/{begun['build_id']}/log")).json()
            assert "doubling 1000\n" == log["text"]
            wrong = (await client.post("/v1/materialize", json=body("duckdb_sql@v1", sql="SELEC"))).json()
            told = (await client.get(wrong["stream_url"])).json()
            assert "ParserException" == told["error"]
            assert "(line 1, column 1)" in told["detail"]

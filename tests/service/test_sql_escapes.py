"""Attempts of a query to leave its process, to outgrow it, or to learn of its surroundings; none succeeds."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection

REACHES = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_parquet('{warehouse}/*/*.parquet')",
    "SELECT * FROM read_json('/proc/self/environ')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('{warehouse}/x.parquet')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM 'x.parquet'",
    "SELECT * FROM 'http://127.0.0.1:{port}/health'",
    "SELECT * FROM read_csv('http://127.0.0.1:{port}/health')",
    "SELECT * FROM read_text('s3://bucket/key')",
    "SELECT * FROM query_table('read_text')",
    "SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM read_text('/proc/self/fd/0')",
    "SELECT * FROM read_text('/proc/self/fd/4')",
    "SELECT getenv('HOME')",
    "ATTACH '{warehouse}/catalog.db' AS c",
    "ATTACH ':memory:' AS m",
    "COPY (SELECT 1) TO '/tmp/strata-escape'",
    "COPY (SELECT 1) TO '/proc/self/fd/3/escape'",
    "EXPORT DATABASE '/tmp/strata-escape'",
    "IMPORT DATABASE '/tmp/strata-escape'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '/tmp/x.duckdb_extension'",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "SET GLOBAL threads = 64",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA disable_verification",
    "CALL pragma_version()",
    "CREATE SECRET s (TYPE s3)",
    "CREATE TABLE t AS SELECT 1",
    "CREATE MACRO f() AS TABLE SELECT * FROM read_text('/etc/passwd')",
    "INSERT INTO input0 SELECT 1, 2, 'x'",
    "DROP VIEW input0",
    "USE memory",
    "CHECKPOINT",
    "EXECUTE query",
    "PREPARE q AS SELECT 1",
    "BEGIN",
    "EXPLAIN ANALYZE SELECT 1",
    "VACUUM",
    "SELECT 1; SELECT * FROM read_text('/etc/passwd')",
]
"""Queries that name a file, an address, an extension, a setting or another statement."""

OUTGROWS = [
    "SELECT repeat('x', 2000000000) AS a FROM input0",
    "SELECT list(range) AS a FROM range(2000000000)",
    "SELECT string_agg(repeat('x', 1000000), '') AS a FROM range(100000)",
    "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT * FROM r",
    "SELECT count(*) AS n FROM range(100000000000) a, range(100000000000) b",
    "SELECT * FROM range(100000000000)",
    "SELECT a.range AS a, b.range AS b FROM range(100000000) a, range(100000000) b ORDER BY random()",
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "SELECT " + " + ".join(["1"] * 30_000),
    "SELECT regexp_matches(repeat('a', 100000), '(a+)+$') AS m FROM range(100000000)",
]
"""Queries that take more memory, time, rows or depth than there is."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    entry = RegisteredTransform("duckdb_sql@*", timeout_seconds=2.0, max_output_bytes=10_000_000)
    return attrs.evolve(
        settings,
        transforms=TransformSection(enabled=True, registry=(entry,)),
        transform_memory_bytes=64 << 20,
        transform_spill_bytes=64 << 20,
    )


async def outcome(server: Running, query: str) -> tuple[int, str | None, str]:
    """Return the status, the code and the text of what a query is answered."""
    body = {"inputs": ["wh:db.events"], "transform": {"executor": "duckdb_sql@v1", "params": {"sql": query}}}
    async with server.client(**identity("evangeline-7")) as client:
        with trio.fail_after(60):
            answer = await client.post("/v1/materialize", json=body)
            if answer.status_code == 200:
                url, answer = answer.json()["stream_url"], None
                try:
                    answer = await client.get(url)
                except Exception:  # noqa: BLE001  # a result over its limit is cut in the middle
                    return 413, "cut", ""
        return (
            answer.status_code,
            answer.json().get("error") if answer.status_code != 200 else None,
            answer.text,
        )


async def untouched(server: Running) -> None:
    """Check that another tenant is served, and that no process, memory or directory is left."""
    resources = server.service.registry.resources
    assert 0 == resources.transforms.launcher.running
    assert [] == [*resources.transforms.root.glob("*")]
    async with server.client(**identity("bob", "team-b")) as client:
        assert 3 == (await fetch(client, scan("wh:db.events"))).num_rows


async def test_no_query_reaches_anything(settings: Settings, warehouse: Warehouse) -> None:
    """Each attempt is a 400 without a path of the server, and the next one finds nothing of it."""
    warehouse.create(numbers(3))
    async with running(settings) as server:
        port = server.url.rpartition(":")[2]
        for text in REACHES:
            query = text.format(warehouse=warehouse.path, port=port)
            status, code, answer = await outcome(server, query)
            assert 400 == status, (query, code, answer)
            assert "root:" not in answer, query
            assert settings.cache_dir not in answer, query
        assert not Path("/tmp/strata-escape").exists()
        await untouched(server)


async def test_no_query_learns_where_it_runs(settings: Settings, warehouse: Warehouse) -> None:
    """What a query may ask DuckDB about itself has no path, no secret and no other tenant in it."""
    warehouse.create(numbers(3))
    async with running(settings) as server:
        for query in (
            "SELECT * FROM duckdb_settings()",
            "SELECT * FROM duckdb_databases()",
            "SELECT * FROM duckdb_tables() UNION ALL FROM duckdb_tables()",
            "SELECT * FROM duckdb_views()",
            "SELECT * FROM duckdb_temporary_files()",
            "SELECT * FROM duckdb_secrets()",
            "SELECT * FROM which_secret('x', 's3')",
            "SELECT * FROM pragma_database_list",
            "SELECT current_setting('temp_directory') AS t, current_user AS u",
        ):
            _, _, answer = await outcome(server, query)
            for word in (
                settings.cache_dir,
                settings.artifact_dir,
                str(warehouse.path),
                "team-a",
                "evangeline-7",
            ):
                assert str(word) not in answer, (query, word)


@pytest.mark.slow
async def test_no_query_outgrows_its_process(settings: Settings, warehouse: Warehouse) -> None:
    """Each attempt ends within its limits, in an error that says which, and leaves nothing behind."""
    warehouse.create(numbers(3))
    expected = {400, 413, 504}
    async with running(settings) as server:
        for query in OUTGROWS:
            status, code, answer = await outcome(server, query)
            assert status in expected, (query[:80], code, answer[:200])
            await untouched(server)

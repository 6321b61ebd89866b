"""SQL cells query the tables among the values that they take, and nothing else."""

from __future__ import annotations

from cell_kit import cells

TABLES = """
import pyarrow, pandas, polars
arrow = pyarrow.table({"k": [1, 2, 3], "v": ["a", None, "c"]})
frame = pandas.DataFrame({"k": [2, 3, 4]})
polar = polars.DataFrame({"k": [3]})
number = 5
"""


async def test_a_query_joins_tables_of_three_libraries() -> None:
    """Arrow, pandas and Polars tables are queried by name; the result is a table that other cells take."""
    async with cells() as found:
        await found.run(TABLES, "arrow frame polar number")
        ran = await found.run(
            "SELECT k, v FROM arrow JOIN frame USING (k) JOIN polar USING (k)",
            "result",
            "arrow frame polar number",
            sql=True,
        )
        assert ran.outcome.ok, ran.outcome
        assert "arrow/ipc" == ran.bundle.manifest["variables"]["result"]["content_type"]
        assert "[{'k': 3, 'v': 'c'}]" == (await found.run("result.to_pylist()", "", "result")).shown()[0]


async def test_a_query_reaches_nothing_else() -> None:
    """Files, settings, extensions and other statements are refused with a sentence."""
    async with cells() as found:
        for query in (
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM '/etc/passwd'",
            "COPY (SELECT 1) TO '/tmp/strata-sql'",
            "SET memory_limit = '1TB'",
            "ATTACH '/tmp/strata-sql.db'",
            "INSTALL httpfs",
            "SELECT 1; SELECT 2",
            "CREATE TABLE t AS SELECT 1",
            "SELECT * FROM names",
            "SELEC 1",
            "",
        ):
            ran = await found.run(query, "result", sql=True)
            assert ("raised", True) == (ran.ended.value, len(ran.outcome.message) > 10), (query, ran.outcome)


async def test_a_query_keeps_to_the_memory_of_its_cell() -> None:
    """A query that needs more than its cell may use fails with a sentence; the next one runs."""
    async with cells() as found:
        ran = await found.run(
            "SELECT list(range) FROM range(100_000_000)", "result", sql=True, memory_bytes=128 << 20
        )
        assert ran.ended.value in ("raised", "memory_limit"), ran.outcome
        assert "emory" in ran.outcome.message
        assert (await found.run("SELECT 1 AS one", "result", sql=True)).outcome.ok

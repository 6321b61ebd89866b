"""Print the page about the comparison with other engines: ``python -m oracles_page PATH`` writes it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from duckdb_differences import KNOWN
from foreign import TABLES
from spark_tables import TABLES as SPARK_TABLES
from spark_tables import VERSION_3, Written

VERSIONS = {
    "pyspark": "3.5.9",
    "iceberg-spark-runtime": "1.10.2",
    "duckdb": "1.5.5",
    "duckdb-extension-iceberg": "1.5.5",
}
"""What the session compares with: packages of PyPI, and the version in the name of Iceberg's jar."""

HEAD = f"""\
# Compared with other engines

`nox -s oracles` has two other engines read tables that Strata reads, and compares all rows and values: Java's Iceberg {VERSIONS["iceberg-spark-runtime"]} in
Spark {VERSIONS["pyspark"]}, and DuckDB {VERSIONS["duckdb"]} with its Iceberg extension. It is no part of `nox -s tests`: it downloads 420 MB and needs Java. The usual suite
compares with pyiceberg and with [right values by hand](tables-of-other-engines.md).

## Tables that Spark writes

Of each table: all rows of the current snapshot, of each older one, and of each branch and tag; and the rows of each filter by `=`, `!=`,
`<`, `<=`, `>`, `>=`, `in`, `not in`, `is null` and `is not null` on up to four of the column's own values, for each column of a plain
type, in structs too. Spark's answer is its own evaluation of the condition on every row, so that its pruning hides nothing. All are equal, with one
rule that differs: Spark counts NaN as the greatest number, so that it is above every other; in Strata, as in IEEE 754, no comparison but `!=` is true of it.

| table | what is in it |
|---|---|
"""

THREE = """
## Tables of version 3 that Spark writes

| table | what is in it | answer |
|---|---|---|
"""

DUCKDB = """
## Tables that DuckDB reads

DuckDB reads the {count} tables of [Tables of other engines](tables-of-other-engines.md), and random ones with a history of changed columns,
partitions and deletes. Random tables are equal, and so are {equal} of the others, or refused by both. These are not; the session fails
when a difference is gone. *Wrong* says which engine is so by the Iceberg specification, of which the cause names the section.

| table | DuckDB | wrong | cause |
|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    duckdb = DUCKDB.format(count=len(TABLES), equal=len(TABLES) - len(KNOWN))
    return "".join(
        (
            HEAD,
            *_lines((name, _what(one)) for name, one in SPARK_TABLES.items()),
            THREE,
            *_lines((name, one.what, one.answer) for name, one in VERSION_3.items()),
            duckdb,
            *_lines((TABLES[name].what, one.what, one.wrong, one.cause) for name, one in KNOWN.items()),
        )
    )


def _what(table: Written) -> str:
    more = (
        f"; Spark itself fails to read the column `{table.fails}` in an older snapshot" if table.fails else ""
    )
    return table.what + more


def _lines(rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |\n" for cells in rows]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())

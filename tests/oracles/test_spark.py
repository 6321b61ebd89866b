"""Tables that Spark writes are read by Strata as Spark itself reads them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from foreign.rows import rows_of
from spark_filters import conditions
from spark_iceberg import CATALOG
from spark_tables import TABLES

FLAGS = "every_flag"


def apart(right: list[dict[str, Any]], mine: list[dict[str, Any]]) -> tuple[list[str], list[str]] | None:
    """Return the rows that only one side has, each as a text; ``None``: there are none."""
    theirs, ours = (Counter(repr(_unordered(row)) for row in rows) for rows in (right, mine))
    return None if theirs == ours else ([*(theirs - ours)], [*(ours - theirs)])


def _unordered(value: Any) -> Any:
    """Return a value with the pairs of maps sorted: pyspark gives them in any order."""
    if isinstance(value, dict):
        return {key: _unordered(one) for key, one in value.items()}
    if isinstance(value, list):
        plain = [_unordered(one) for one in value]
        return sorted(plain, key=repr) if plain and isinstance(plain[0], tuple) else plain
    return value


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_spark_has_sparks_rows(spark: Any, strata: Any, name: str) -> None:
    """All rows, those of each filter on the table's own values, and those of each snapshot, branch and tag."""
    spark.make(name, TABLES[name].statements)
    table = f"{CATALOG}.db.{name}"
    location = f"file://{spark.metadata_file(name)}"

    def found(**params: object) -> list[dict[str, Any]]:
        scanned = strata.scan(location, name, **params)
        assert isinstance(scanned, pa.Table), scanned
        return rows_of(scanned)

    right = spark.rows(f"SELECT * FROM {table}")
    assert right
    assert None is apart(right, found())

    filters = conditions(spark.columns(name), right)
    flags = ", ".join(one.sql for one in filters)
    flagged = spark.rows(f"SELECT *, array({flags}) AS {FLAGS} FROM {table}")
    answers = [row.pop(FLAGS) for row in flagged]
    wrong = []
    for index, one in enumerate(filters):
        kept = [row for row, answer in zip(flagged, answers, strict=True) if answer[index]]
        if (difference := apart(kept, found(filters=[one.wire]))) is not None:
            wrong.append((one.sql, *difference))
    assert [] == wrong

    past = [
        one["snapshot_id"] for one in spark.rows(f"SELECT * FROM {table}.snapshots ORDER BY committed_at")
    ]
    names = [one for one, _ in spark.columns(name) if one != TABLES[name].fails]
    chosen = ", ".join(names) if TABLES[name].fails else "*"
    columns = {"columns": names} if TABLES[name].fails else {}
    if TABLES[name].fails:
        every = " UNION ALL ".join(
            f"SELECT {TABLES[name].fails} FROM {table} VERSION AS OF {one}" for one in past
        )
        with pytest.raises(Exception, match="ClassCastException"):  # as long as the entry is true
            spark.rows(every)
    for snapshot in past:
        there = spark.rows(f"SELECT {chosen} FROM {table} VERSION AS OF {snapshot}")
        assert None is apart(there, found(snapshot_id=snapshot, **columns)), snapshot
    for (ref,) in map(dict.values, spark.rows(f"SELECT name FROM {table}.refs")):
        there = spark.rows(f"SELECT * FROM {table} VERSION AS OF '{ref}'")
        assert None is apart(there, found(ref=ref)), ref

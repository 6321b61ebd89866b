#!/usr/bin/env bash
# Software: DuckDB 1.5.5 with its Iceberg and Avro extensions 1.5.5; pyiceberg 0.12.0 with pyiceberg-core 0.11.0 writes
#   the tables (pyarrow 26.0.1), and DataFusion 54.0.0 with pyiceberg-core is the control.
# Guess: in a table partitioned by the day or the month of a timestamp, `t = …` and `t >= …` find rows before 1970
#   as they do after it, and as in tables partitioned by its year or its hour.
# Instead: by month, no time before 1970 is found by either, by day only midnights are: the day and the month of the
#   filter are cut towards 1970 and not down, which is the partition after the one that the row is in, and the file is
#   skipped. `<=` and a scan without a filter have the rows. Dates are right. No error, no warning.
# Right: Iceberg specification, "Partition Transforms": day and month are the days and months from 1970-01-01, and
#   "Scan Planning": no file that may have a matching row is skipped; the stored -1 for the end of 1969 is the floor.
# Seen (rows found of three: 1969-12-31 23:30, 1955-06-15 12:00 and 1955-06-15 00:00):
#   year: = finds 3, >= finds 3, DataFusion 3 and 3
#   month: = finds 0, >= finds 0, DataFusion 3 and 3
#   day: = finds 1, >= finds 1, DataFusion 3 and 3
#   hour: = finds 3, >= finds 3, DataFusion 3 and 3
#   month of a date: = finds 3, >= finds 3, DataFusion 3 and 3
#   month, without a filter: 3 rows, partitions -1 -175
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 \
    pyarrow==26.0.1 datafusion==54.0.0 duckdb==1.5.5 duckdb-extension-iceberg==1.5.5 duckdb-extension-avro==1.5.5
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import datetime as dt
import importlib.util
import pathlib
import sys

import datafusion
import duckdb
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, HourTransform, MonthTransform, YearTransform
from pyiceberg.types import DateType, LongType, NestedField, TimestampType
from pyiceberg_core.datafusion import IcebergDataFusionTable

work = sys.argv[1]
catalog = SqlCatalog("c", uri=f"sqlite:///{work}/c.db", warehouse=f"file://{work}")
catalog.create_namespace("n")
con = duckdb.connect()
for name in ("avro", "iceberg"):
    (package,) = importlib.util.find_spec(f"duckdb_extension_{name}").submodule_search_locations
    con.load_extension(str(next(pathlib.Path(package).rglob(f"{name}.duckdb_extension"))))
times = [dt.datetime(1969, 12, 31, 23, 30), dt.datetime(1955, 6, 15, 12), dt.datetime(1955, 6, 15)]


def table(name, transform, kind, values):
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "t", kind))
    spec = PartitionSpec(PartitionField(2, 1000, transform, "p"))
    made = catalog.create_table(f"n.{name}", schema, partition_spec=spec)
    made.append(pa.table({"id": [1, 2, 3], "t": values}, schema=schema.as_arrow()))
    return made


def found(made, word, values):
    context = datafusion.SessionContext()
    place = made.metadata_location
    context.register_table("t", IcebergDataFusionTable(list(made.name()), place, file_io_properties={}))
    path = place.removeprefix("file://")
    counts = []
    for sign in ("=", ">="):
        where = [f"WHERE id = {key} AND t {sign} {word} '{value}'" for key, value in enumerate(values, 1)]
        duck = sum(len(con.sql(f"SELECT id FROM iceberg_scan('{path}') {one}").fetchall()) for one in where)
        control = sum(batch.num_rows for one in where for batch in context.sql(f"SELECT id FROM t {one}").collect())
        counts.append((duck, control))
    (equal, right), (least, too) = counts
    return f"= finds {equal}, >= finds {least}, DataFusion {right} and {too}"


seen = {}
for transform in (YearTransform(), MonthTransform(), DayTransform(), HourTransform()):
    made = table(str(transform), transform, TimestampType(), times)
    seen[str(transform)] = found(made, "TIMESTAMP", times)
dates = [time.date() for time in times]
seen["month of a date"] = found(table("dates", MonthTransform(), DateType(), dates), "DATE", dates)
made = catalog.load_table("n.month")
path = made.metadata_location.removeprefix("file://")
rows = len(con.sql(f"SELECT id FROM iceberg_scan('{path}')").fetchall())
months = sorted({task.file.partition[0] for task in made.scan().plan_files()}, reverse=True)
seen["month, without a filter"] = f"{rows} rows, partitions {' '.join(map(str, months))}"
expected = {
    "year": "= finds 3, >= finds 3, DataFusion 3 and 3",
    "month": "= finds 0, >= finds 0, DataFusion 3 and 3",
    "day": "= finds 1, >= finds 1, DataFusion 3 and 3",
    "hour": "= finds 3, >= finds 3, DataFusion 3 and 3",
    "month of a date": "= finds 3, >= finds 3, DataFusion 3 and 3",
    "month, without a filter": "3 rows, partitions -1 -175",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

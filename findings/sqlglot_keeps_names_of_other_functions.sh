#!/usr/bin/env bash
# Software: sqlglot 30.30.0, from the dialect `spark` to `duckdb`; DuckDB 2.0.1 runs what it writes, and Sail 0.7.2
#   (pysail), an engine with Spark's SQL, runs the query as it was.
# Guess: the functions of Spark become those of DuckDB that compute the same, as the transpiler does for `log`,
#   `regexp_replace`, `next_day` and the index of an array; what it cannot say, it warns of.
# Instead: for these the name stays, or nearly, and another value comes out: Sunday is the day 1 in Spark and 0 in
#   DuckDB; a percentile becomes the discrete quantile, so that the median of 1, 2, 4 and 9 is 2 and not 3; `CAST` to
#   an integer cuts in Spark and rounds in DuckDB; `kurtosis` and `skewness` are those of the population in Spark and
#   of a sample in DuckDB. `unsupported_level=RAISE` raises nothing.
# Right: Spark's reference of its built-in functions: `dayofweek` has "1 = Sunday", `percentile` is the exact
#   percentile, which interpolates.
# Seen:
#   dayofweek(date'2024-01-07'): Sail 1, transpiled 0
#   cast(1.5 as int): Sail 1, transpiled 2
#   percentile(x, 0.5): Sail 3.0, transpiled 2
#   kurtosis(x): Sail -1.0, transpiled 1.5
#   skewness(x): Sail 0.768, transpiled 1.331
#   log(2, 8): Sail 3.0, transpiled 3.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check sqlglot==30.30.0 duckdb==2.0.1 pysail==0.7.2 \
    pyspark-client==4.2.0
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import duckdb
import sqlglot
from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession

server = SparkConnectServer()
server.start()
_, port = server.listening_address
spark = SparkSession.builder.remote(f"sc://localhost:{port}").getOrCreate()

four = " FROM VALUES (1), (2), (4), (9) t(x)"
queries = {
    "dayofweek(date'2024-01-07')": "",
    "cast(1.5 as int)": "",
    "percentile(x, 0.5)": four,
    "kurtosis(x)": four,
    "skewness(x)": four,
    "log(2, 8)": "",
}


def show(value):
    return str(round(value, 3))


seen = {}
for call, source in queries.items():
    query = f"SELECT {call}{source}"
    (spark_value,) = spark.sql(query).first()
    written = sqlglot.transpile(query, read="spark", write="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)[0]
    (duck_value,) = duckdb.sql(written).fetchall()[0]
    seen[call] = f"Sail {show(spark_value)}, transpiled {show(duck_value)}"
    print(f"{call}: {seen[call]}")
spark.stop()
server.stop()
expected = {
    "dayofweek(date'2024-01-07')": "Sail 1, transpiled 0",
    "cast(1.5 as int)": "Sail 1, transpiled 2",
    "percentile(x, 0.5)": "Sail 3.0, transpiled 2",
    "kurtosis(x)": "Sail -1.0, transpiled 1.5",
    "skewness(x)": "Sail 0.768, transpiled 1.331",
    "log(2, 8)": "Sail 3.0, transpiled 3.0",
}
changed = [call for call in expected if seen[call] != expected[call]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

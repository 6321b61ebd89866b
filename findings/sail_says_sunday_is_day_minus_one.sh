#!/usr/bin/env bash
# Software: Sail 0.7.2 (pysail), an engine with the SQL of Spark, by pyspark-client 4.2.0; Python's datetime is the
#   control.
# Guess: `weekday` gives 0 for Monday to 6 for Sunday, as in Spark, and the seconds of a time before 1970 are rounded
#   down, as they are after it.
# Instead: Sunday is -1: one is taken from the day counted from Sunday. A time half a second before 1970 has 0 seconds
#   by CAST and by `unix_seconds`, and the last tenth of a millisecond of 1969 has 0 by `unix_millis`: they are cut
#   towards zero, so that the first second before 1970 and the one behind it are the same. No error, no warning.
# Right: Spark's reference of its built-in functions: weekday is "0 = Monday, 1 = Tuesday, ..., 6 = Sunday";
#   `unix_seconds` "truncates higher levels of precision", which Spark does by the floor.
# Seen:
#   weekday, Sunday to Saturday: Sail -1 0 1 2 3 4 5, right 6 0 1 2 3 4 5
#   unix_seconds of 1969-12-31 23:59:59.5: Sail 0, right -1
#   CAST of 1969-12-31 23:59:59.5 AS BIGINT: Sail 0, right -1
#   unix_millis of 1969-12-31 23:59:59.9999: Sail 0, right -1
#   unix_seconds of 1970-01-01 00:00:01.5: Sail 1, right 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pysail==0.7.2 pyspark-client==4.2.0
TZ=UTC "$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import datetime as dt
import sys

from pysail.spark import SparkConnectServer
from pyspark.sql import SparkSession

server = SparkConnectServer()
server.start()
_, port = server.listening_address
spark = SparkSession.builder.remote(f"sc://localhost:{port}").getOrCreate()
spark.conf.set("spark.sql.session.timeZone", "UTC")


def one(expression):
    return spark.sql(f"SELECT {expression}").first()[0]


days = [dt.date(2021, 1, 3) + dt.timedelta(number) for number in range(7)]
found = " ".join(str(one(f"weekday(DATE'{day}')")) for day in days)
seen = {"weekday, Sunday to Saturday": f"Sail {found}, right {' '.join(str(day.weekday()) for day in days)}"}
calls = {
    "unix_seconds of 1969-12-31 23:59:59.5": ("unix_seconds({})", dt.timedelta(seconds=1)),
    "CAST of 1969-12-31 23:59:59.5 AS BIGINT": ("CAST({} AS BIGINT)", dt.timedelta(seconds=1)),
    "unix_millis of 1969-12-31 23:59:59.9999": ("unix_millis({})", dt.timedelta(milliseconds=1)),
    "unix_seconds of 1970-01-01 00:00:01.5": ("unix_seconds({})", dt.timedelta(seconds=1)),
}
for what, (call, unit) in calls.items():
    time = what.partition(" of ")[2].removesuffix(" AS BIGINT")
    right = (dt.datetime.fromisoformat(f"{time:0<26}") - dt.datetime(1970, 1, 1)) // unit
    literal = f"TIMESTAMP'{time}'"
    seen[what] = f"Sail {one(call.format(literal))}, right {right}"
spark.stop()
server.stop()
expected = {
    "weekday, Sunday to Saturday": "Sail -1 0 1 2 3 4 5, right 6 0 1 2 3 4 5",
    "unix_seconds of 1969-12-31 23:59:59.5": "Sail 0, right -1",
    "CAST of 1969-12-31 23:59:59.5 AS BIGINT": "Sail 0, right -1",
    "unix_millis of 1969-12-31 23:59:59.9999": "Sail 0, right -1",
    "unix_seconds of 1970-01-01 00:00:01.5": "Sail 1, right 1",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

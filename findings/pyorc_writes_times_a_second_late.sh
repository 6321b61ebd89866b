#!/usr/bin/env bash
# Software: pyorc 0.12.0 as the writer and the reader; pyarrow 26.0.1 as the second reader and, as the writer of the
#   same times, as the control.
# Guess: half a second before 1970 is read as it was written, as the value is in pyorc's own files and read by pyorc.
# Instead: it is half a second after 1970: the seconds, -0.5, are cut to 0 and the half second is added. So it is for
#   each fraction of the one second before 1970, which come to lie behind the times of the second after it. pyarrow
#   reads the same wrong times from the file, and writes them right.
# Right: ORC specification, "Timestamp Columns": the value is the seconds with the nanoseconds added, which are never
#   negative, so that the seconds have to be rounded down.
# Seen:
#   1969-12-31 23:59:59.500000: pyorc 1970-01-01 00:00:00.500000, pyarrow 1970-01-01 00:00:00.500000
#   1969-12-31 23:59:58.500000: pyorc 1969-12-31 23:59:58.500000, pyarrow 1969-12-31 23:59:58.500000
#   2026-12-31 23:59:59.999999: pyorc 2026-12-31 23:59:59.999999, pyarrow 2026-12-31 23:59:59.999999
#   written by pyarrow, read by pyorc: as written
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1 pyorc==0.12.0
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import datetime as dt
import sys

import pyarrow as pa
import pyarrow.orc as orc
import pyorc

times = [
    dt.datetime(1969, 12, 31, 23, 59, 59, 500000),
    dt.datetime(1969, 12, 31, 23, 59, 58, 500000),
    dt.datetime(2026, 12, 31, 23, 59, 59, 999999),
]


def read(path):
    with open(path, "rb") as file:
        return [time.replace(tzinfo=None) for (time,) in pyorc.Reader(file)]


with open("pyorc.orc", "wb") as file, pyorc.Writer(file, "struct<t:timestamp>") as writer:
    for time in times:
        writer.write((time.replace(tzinfo=dt.timezone.utc),))
orc.write_table(pa.table({"t": pa.array(times, pa.timestamp("us"))}), "pyarrow.orc")
by_pyarrow = orc.read_table("pyorc.orc")["t"].cast(pa.timestamp("us")).to_pylist()
seen = {str(time): f"pyorc {one}, pyarrow {two}" for time, one, two in zip(times, read("pyorc.orc"), by_pyarrow)}
seen["written by pyarrow, read by pyorc"] = "as written" if read("pyarrow.orc") == times else "differs"
late, right = "1970-01-01 00:00:00.500000", "1969-12-31 23:59:58.500000"
near = "2026-12-31 23:59:59.999999"
expected = {
    "1969-12-31 23:59:59.500000": f"pyorc {late}, pyarrow {late}",
    "1969-12-31 23:59:58.500000": f"pyorc {right}, pyarrow {right}",
    "2026-12-31 23:59:59.999999": f"pyorc {near}, pyarrow {near}",
    "written by pyarrow, read by pyorc": "as written",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

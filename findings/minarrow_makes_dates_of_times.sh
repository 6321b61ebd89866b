#!/usr/bin/env bash
# Software: minarrow 0.18.3 (Python), pyarrow 26.0.1 as the writer, the reader and the control.
# Guess: an array that pyarrow gave to `Array.from_arrow` comes back with the type and the values it had.
# Instead: a timestamp in milliseconds, with a time zone or without, comes back as date64: the time of day is gone for
#   every reader that goes by the type, though the bits still hold it, which a date64 must not. A null among the values
#   of a dictionary comes back as the empty text, which is counted and joined like any other. A dictionary comes back
#   as an ordered one if a row of it is null, and else not, so that two batches of one column have two types. No error,
#   no warning. A table keeps the type of such a column, but loses the metadata of its schema to a name it was given.
# Right: Arrow columnar format, Schema.fbs, "Date": milliseconds of a date64 are whole days; "isOrdered" of a
#   dictionary is that of the field; "Dictionary-encoded Layout": a null may be in the indices or in the values.
# Seen:
#   timestamp[ms] of 2024-05-01 12:30 and 23:59: date64[ms] 2024-05-01 2024-05-01
#   ... with UTC: date64[ms] 2024-05-01 2024-05-01
#   ... its values by number: 1714566600000 1714607940000
#   ... as a column of a table: timestamp[ms] 2024-05-01 12:30:00 2024-05-01 23:59:00
#   unordered 'b', 'b', null among the values: unordered 'b' 'b' ''
#   unordered 'b', 'b', a row that is null: ordered 'b' 'b' None
#   unordered 'b', 'b', 'a': unordered 'b' 'b' 'a'
#   metadata {'owner': 'x'} of a table's schema: minarrow:table_name
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check minarrow==0.18.3 pyarrow==26.0.1
"$work/venv/bin/python" - <<'PYTHON'
import sys

import minarrow
import pyarrow as pa

numbers = pa.array([1714566600000, 1714607940000])
times = numbers.cast(pa.timestamp("ms"))
texts = pa.array(["b", None, "a"])


def back(array):
    return pa.array(minarrow.Array.from_arrow(array))


def typed(array):
    return " ".join(map(str, [array.type, *array.to_pylist()]))


def dictionary(indices):
    array = back(pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), texts))
    return " ".join(["ordered" if array.type.ordered else "unordered", *map(repr, array.to_pylist())])


schema = pa.schema([pa.field("x", times.type)], metadata={"owner": "x"})
table = pa.table(minarrow.Table.from_arrow(pa.record_batch([times], schema=schema)))
what = "timestamp[ms] of 2024-05-01 12:30 and 23:59"
seen = {
    what: typed(back(times)),
    "... with UTC": typed(back(numbers.cast(pa.timestamp("ms", "UTC")))),
    "... its values by number": " ".join(map(str, back(times).cast(pa.int64()).to_pylist())),
    "... as a column of a table": typed(table["x"]),
    "unordered 'b', 'b', null among the values": dictionary([0, 0, 1]),
    "unordered 'b', 'b', a row that is null": dictionary([0, 0, None]),
    "unordered 'b', 'b', 'a'": dictionary([0, 0, 2]),
    "metadata {'owner': 'x'} of a table's schema": " ".join(key.decode() for key in table.schema.metadata),
}
expected = {
    what: "date64[ms] 2024-05-01 2024-05-01",
    "... with UTC": "date64[ms] 2024-05-01 2024-05-01",
    "... its values by number": "1714566600000 1714607940000",
    "... as a column of a table": "timestamp[ms] 2024-05-01 12:30:00 2024-05-01 23:59:00",
    "unordered 'b', 'b', null among the values": "unordered 'b' 'b' ''",
    "unordered 'b', 'b', a row that is null": "ordered 'b' 'b' None",
    "unordered 'b', 'b', 'a'": "unordered 'b' 'b' 'a'",
    "metadata {'owner': 'x'} of a table's schema": "minarrow:table_name",
}
for name, value in seen.items():
    print(f"{name}: {value}")
changed = [name for name in expected if seen[name] != expected[name]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

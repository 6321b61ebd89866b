#!/usr/bin/env bash
# Software: nanoarrow 0.9.0 (Python), pyarrow 26.0.1 as the writer and as the control.
# Guess: `to_pylist` of an array of three rows has three items, whatever the columns.
# Instead: a struct without fields gives no item, as its rows are made by pairing the values of its fields. A stream
#   without columns has no rows then, though its length is 3; and one column of empty structs takes the rows of all
#   columns beside it along, since pairing stops at the shortest: three numbers are gone. No error, no warning.
# Right: Arrow columnar format, "Struct Layout" and the `length` of a RecordBatch: the length does not depend on the
#   children, of which there may be none.
# Seen:
#   a stream without columns: length 3, rows [], by pyarrow [{}, {}, {}]
#   a column of empty structs: length 3, rows [], by pyarrow [{'x': {}}, {'x': None}, {'x': {}}]
#   numbers beside empty structs: length 3, rows [], by pyarrow [{'n': 1, 'x': {}}, {'n': 2, 'x': None}, {'n': 3, 'x': {}}]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check nanoarrow==0.9.0 pyarrow==26.0.1
"$work/venv/bin/python" - <<'PYTHON'
import io
import sys

import nanoarrow
import pyarrow as pa


def stream(batch):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


empty = pa.array([{}, None, {}], pa.struct([]))
numbers = pa.array([1, 2, 3])
batches = {
    "a stream without columns": pa.record_batch([numbers], ["n"]).select([]),
    "a column of empty structs": pa.record_batch([empty], ["x"]),
    "numbers beside empty structs": pa.record_batch([numbers, empty], ["n", "x"]),
}
seen = {}
for what, batch in batches.items():
    data = stream(batch)
    array = nanoarrow.ArrayStream.from_readable(io.BytesIO(data)).read_all()
    table = pa.ipc.open_stream(data).read_all()
    seen[what] = f"length {len(array)}, rows {array.to_pylist()}, by pyarrow {table.to_pylist()}"
expected = {
    "a stream without columns": "length 3, rows [], by pyarrow [{}, {}, {}]",
    "a column of empty structs": "length 3, rows [], by pyarrow [{'x': {}}, {'x': None}, {'x': {}}]",
    "numbers beside empty structs": (
        "length 3, rows [], by pyarrow [{'n': 1, 'x': {}}, {'n': 2, 'x': None}, {'n': 3, 'x': {}}]"
    ),
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

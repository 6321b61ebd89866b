#!/usr/bin/env bash
# Software: pyarrow 26.0.1, pandas 3.1.1; lists of the older layout are the control.
# Guess: `to_pandas` of a slice of list views has the rows of the slice, as `to_pylist` has.
# Instead: if the whole array has a null anywhere, each row of a slice that does not begin at its first row is None,
#   though the slice has none itself; without a null in the whole array all is right. So with the second chunk of a
#   column that was cut out of one array, and with large list views. `to_pylist` and a stream of the same slice are
#   right. No error, no warning: a sum of lengths or an `explode` just finds nothing.
# Right: Arrow columnar format, "ListView Layout" and C data interface, "offset": a slice has the rows from its offset.
# Seen ([1, 2] [3] None [4] [5, 6], and the same without the None):
#   list_view, to_pandas from row 3 on: None None
#   list_view, to_pylist from row 3 on: [4] [5, 6]
#   list_view in two chunks, to_pandas: [1, 2] [3] None None None
#   large_list_view, to_pandas from row 3 on: None None
#   list_view without a null, to_pandas from row 3 on: [5, 6]
#   list_view, through a stream, to_pandas: [4] [5, 6]
#   list, to_pandas from row 3 on: [4] [5, 6]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1
"$work/venv/bin/python" - <<'PYTHON'
import sys

import pyarrow as pa

rows = [[1, 2], [3], None, [4], [5, 6]]


def show(values):
    return " ".join("None" if value is None else str(list(map(int, value))) for value in values)


def array(kind, values=rows):
    return pa.array(values, kind(pa.int64()))


def streamed(part):
    batch, sink = pa.record_batch([part], ["x"]), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_all()["x"]


views = array(pa.list_view)
full = array(pa.list_view, [row for row in rows if row is not None])
seen = {
    "list_view, to_pandas from row 3 on": show(views.slice(3).to_pandas()),
    "list_view, to_pylist from row 3 on": show(views.slice(3).to_pylist()),
    "list_view in two chunks, to_pandas": show(pa.chunked_array([views.slice(0, 3), views.slice(3)]).to_pandas()),
    "large_list_view, to_pandas from row 3 on": show(array(pa.large_list_view).slice(3).to_pandas()),
    "list_view without a null, to_pandas from row 3 on": show(full.slice(3).to_pandas()),
    "list_view, through a stream, to_pandas": show(streamed(views.slice(3)).to_pandas()),
    "list, to_pandas from row 3 on": show(array(pa.list_).slice(3).to_pandas()),
}
expected = {
    "list_view, to_pandas from row 3 on": "None None",
    "list_view, to_pylist from row 3 on": "[4] [5, 6]",
    "list_view in two chunks, to_pandas": "[1, 2] [3] None None None",
    "large_list_view, to_pandas from row 3 on": "None None",
    "list_view without a null, to_pandas from row 3 on": "[5, 6]",
    "list_view, through a stream, to_pandas": "[4] [5, 6]",
    "list, to_pandas from row 3 on": "[4] [5, 6]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

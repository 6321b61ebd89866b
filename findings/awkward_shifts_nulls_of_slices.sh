#!/usr/bin/env bash
# Software: awkward 2.14.0, pyarrow 26.0.1 as the writer and as the control.
# Guess: `from_arrow` of a slice has the rows of the slice, as its code adds the offset of an Arrow array.
# Instead: it adds the offset to the values only. The validity bitmap is read from the first bit of the whole array:
#   the nulls stand where the whole array has them, so that a value is turned into None and a null into the number 0
#   (an empty text, the first day of 1970) that lies under it. So with a sliced table and with the Parquet file that
#   `to_parquet` writes of it. Texts that are given back to Arrow are then those of other rows. Sums change, no error,
#   no warning. The same rows copied before are read right, and so is a slice of an array without nulls.
# Right: Arrow columnar format, C data interface: "offset" counts for the validity bitmap like for the other buffers.
# Seen (10 20 None 30 40 None 60 from its third row on, which is None 30 40 None 60):
#   numbers: 0 30 None 0 60, sum 90
#   days: 1970-01-01 1970-01-31 None 1970-01-01 1970-03-02
#   texts: '' '30' None '' '60'
#   texts, back to Arrow: '' '10' None '' '30'
#   a sliced table: 0 30 None 0 60, sum 90
#   written by to_parquet, read by pyarrow: 0 30 None 0 60, sum 90
#   a copy of the slice: None 30 40 None 60, sum 130
#   pyarrow on the slice: None 30 40 None 60, sum 130
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check awkward==2.14.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq

whole = pa.array([10, 20, None, 30, 40, None, 60], pa.int32())
part = whole.slice(2)
texts = ak.from_arrow(whole.cast(pa.string()).slice(2))
days = ak.from_arrow(whole.cast(pa.date32()).slice(2))
table = ak.from_arrow(pa.table({"x": whole}).slice(2))
ak.to_parquet(table, "part.parquet", extensionarray=False)


def numbers(rows):
    return f"{' '.join(map(str, rows))}, sum {sum(row or 0 for row in rows)}"


seen = {
    "numbers": numbers(ak.from_arrow(part).to_list()),
    "days": " ".join(map(str, days.to_list())),
    "texts": " ".join(map(repr, texts.to_list())),
    "texts, back to Arrow": " ".join(map(repr, ak.to_arrow(texts, extensionarray=False).to_pylist())),
    "a sliced table": numbers(table["x"].to_list()),
    "written by to_parquet, read by pyarrow": numbers(pq.read_table("part.parquet")["x"].to_pylist()),
    "a copy of the slice": numbers(ak.from_arrow(pa.array(part.to_pylist(), pa.int32())).to_list()),
    "pyarrow on the slice": numbers(part.to_pylist()),
}
shifted, right = "0 30 None 0 60, sum 90", "None 30 40 None 60, sum 130"
expected = {
    "numbers": shifted,
    "days": "1970-01-01 1970-01-31 None 1970-01-01 1970-03-02",
    "texts": "'' '30' None '' '60'",
    "texts, back to Arrow": "'' '10' None '' '30'",
    "a sliced table": shifted,
    "written by to_parquet, read by pyarrow": shifted,
    "a copy of the slice": right,
    "pyarrow on the slice": right,
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

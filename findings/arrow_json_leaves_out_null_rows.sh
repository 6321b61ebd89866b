#!/usr/bin/env bash
# Software: arrow-json 0.10.0, pyarrow 26.0.1 as the writer of the input.
# Guess: `array_to_utf8_json_array` returns one JSON text for each row, `null` or a missing one for a null.
# Instead: rows that are null are left out, so that the result is shorter and each text behind a null stands one row
#   too early; put beside the other columns of the table it belongs to other rows. A struct that is null goes too,
#   and an array of nulls gives no text at all. Inside a struct or list a null is kept apart. NaN and the infinities do
#   not go: they are nulls of the result. A null that a dictionary holds among its values is the empty text.
# Right: the README of the package, whose example expects a None for the null of its list; RFC 8259, section 3: `null`
#   is a JSON text of its own.
# Seen:
#   1, null, 3: 2 texts of 3: 1 3
#   {a: 1}, null, {a: null}: 2 texts of 3: {"a":1} {}
#   null, null: 0 texts of 2:
#   [1, null], null, []: 2 texts of 3: [1,null] []
#   NaN, inf, 1.5: 3 texts of 3: None None 1.5
#   a dictionary with null among its values: 3 texts of 3: "x" "" "x"
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check arrow-json==0.10.0 pyarrow==26.0.1
"$work/venv/bin/python" - <<'PYTHON'
import sys

import arrow_json
import pyarrow as pa

arrays = {
    "1, null, 3": pa.array([1, None, 3]),
    "{a: 1}, null, {a: null}": pa.array([{"a": 1}, None, {"a": None}]),
    "null, null": pa.array([None, None], pa.string()),
    "[1, null], null, []": pa.array([[1, None], None, []]),
    "NaN, inf, 1.5": pa.array([float("nan"), float("inf"), 1.5]),
    "a dictionary with null among its values": pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 0], pa.int8()), pa.array(["x", None])
    ),
}
seen = {}
for what, array in arrays.items():
    texts = pa.array(arrow_json.array_to_utf8_json_array(array)).to_pylist()
    seen[what] = f"{len(texts)} texts of {len(array)}: {' '.join(map(str, texts))}".strip()
expected = {
    "1, null, 3": "2 texts of 3: 1 3",
    "{a: 1}, null, {a: null}": '2 texts of 3: {"a":1} {}',
    "null, null": "0 texts of 2:",
    "[1, null], null, []": "2 texts of 3: [1,null] []",
    "NaN, inf, 1.5": "3 texts of 3: None None 1.5",
    "a dictionary with null among its values": '3 texts of 3: "x" "" "x"',
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

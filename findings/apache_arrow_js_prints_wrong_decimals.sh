#!/usr/bin/env bash
# Software: apache-arrow 21.2.0 (npm) as the reader of a stream of pyarrow 26.0.1; Python's integers are the control.
# Guess: the text of a decimal is its unscaled integer, whatever the width; that the scale is left to the caller is
#   known. Decimals of 32 and 128 bits keep to it.
# Instead: a negative decimal64 is printed as an unsigned number: -125 (-1.25 with scale 2) as 18446744073709551491. A
#   decimal256 is printed without all but its last digit: 125 as 5, -123456789 as -9, -2000000000 as -0. `String`,
#   template strings, `+ ""`, `toString` of the column and JSON all give that text; no error, no warning. For the same
#   two `Number(value)` and `valueOf(scale)` are right, while for a decimal32, whose text is right, they throw.
# Right: Arrow columnar format, Schema.fbs, "Decimal": a signed two's complement integer of 32, 64, 128 or 256 bits.
# Seen:
#   decimal32(9,2): text 125 -125 0 123456789 null, numbers none
#   decimal64(18,2): text 125 18446744073709551491 0 123456789 18446744071709551616, numbers 1.25 -1.25 0 1234567.89 -20000000
#   decimal128(38,2): text 125 -125 0 123456789 -2000000000, numbers 1.25 -1.25 0 1234567.89 -20000000
#   decimal256(60,2): text 5 -5 0 9 -0, numbers 1.25 -1.25 0 1234567.89 -20000000
#   the integers in the stream: 125 -125 0 123456789 -2000000000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" apache-arrow@21.2.0
cd "$work"
cat >read.mjs <<'JAVASCRIPT'
import { tableFromIPC } from 'apache-arrow';
import { readFileSync } from 'node:fs';

const table = tableFromIPC(readFileSync('stream'));
for (const { name, type } of table.schema.fields) {
  const values = table.getChild(name).toJSON();
  let numbers = 'none';
  try {
    numbers = values.map((value) => value.valueOf(type.scale)).join(' ');
  } catch {} // a decimal32 has no numbers
  console.log(`${name}: text ${values.map(String).join(' ')}, numbers ${numbers}`);
}
JAVASCRIPT
"$work/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa

integers = [125, -125, 0, 123456789, -2000000000]
kinds = {
    "decimal32(9,2)": pa.decimal32(9, 2),
    "decimal64(18,2)": pa.decimal64(18, 2),
    "decimal128(38,2)": pa.decimal128(38, 2),
    "decimal256(60,2)": pa.decimal256(60, 2),
}
values = [Decimal(value).scaleb(-2) for value in integers]
narrow = [value if abs(value) < 10**7 else None for value in values]
columns = [pa.array(values if kind.bit_width > 32 else narrow, kind) for kind in kinds.values()]
batch = pa.record_batch(columns, list(kinds))
with pa.OSFile("stream", "wb") as sink, pa.ipc.new_stream(sink, batch.schema) as writer:
    writer.write_batch(batch)
lines = subprocess.run(["node", "read.mjs"], check=True, capture_output=True, text=True).stdout.splitlines()
seen = dict(line.split(": ", 1) for line in lines)
seen["the integers in the stream"] = " ".join(str(int(value.as_py().scaleb(2))) for value in batch["decimal256(60,2)"])
numbers = "numbers 1.25 -1.25 0 1234567.89 -20000000"
expected = {
    "decimal32(9,2)": "text 125 -125 0 123456789 null, numbers none",
    "decimal64(18,2)": f"text 125 18446744073709551491 0 123456789 18446744071709551616, {numbers}",
    "decimal128(38,2)": f"text 125 -125 0 123456789 -2000000000, {numbers}",
    "decimal256(60,2)": f"text 5 -5 0 9 -0, {numbers}",
    "the integers in the stream": "125 -125 0 123456789 -2000000000",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

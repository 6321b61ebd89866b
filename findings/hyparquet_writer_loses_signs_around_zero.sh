#!/usr/bin/env bash
# Software: hyparquet-writer 0.17.0 (npm), pyarrow 26.0.1 as the reader and as the control.
# Guess: the numbers of a column of doubles are written bit by bit, and a decimal of -0.125 is the negative of 0.125.
# Instead: where a dictionary pays, the zeros 0 and -0 share one entry, and it has the sign of the first: one -0 in
#   front makes every 0 behind it negative. 1 divided by it, a sort of the bits, Iceberg's order and partitions of such
#   a column then differ from those of the numbers given. The same column without a repeat is right. And numbers for a
#   decimal are rounded at halves towards the larger one, so that an entry and its counter-entry do not add up to 0.
# Right: Parquet format, Encodings.md, "Dictionary Encoding": an encoding of the values, whose zeros are two; decimals
#   are not covered by a rule, but pyarrow casts either sign alike.
# Seen:
#   -0, 0, 0, 0, 1, 1: -0.0 -0.0 -0.0 -0.0 1.0 1.0
#   0, -0, -0, -0, 1, 1: 0.0 0.0 0.0 0.0 1.0 1.0
#   -0, 0, 0, 0, 1, 1 with plain pages: -0.0 0.0 0.0 0.0 1.0 1.0
#   0.125, -0.125, 2.5, -2.5 as decimal(9,2) and (9,0): 0.13 -0.12 3 -2
#   pyarrow casts the same numbers: 0.12 -0.12 2 -2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" hyparquet-writer@0.17.0
cd "$work"
cat >write.mjs <<'JAVASCRIPT'
import { parquetWriteBuffer } from 'hyparquet-writer';
import { writeFileSync } from 'node:fs';

const write = (name, options) => writeFileSync(name, Buffer.from(parquetWriteBuffer(options)));
const zeros = (data, encoding) => ({ columnData: [{ name: 'x', data, type: 'DOUBLE', encoding }] });
write('minus first', zeros([-0, 0, 0, 0, 1, 1]));
write('plus first', zeros([0, -0, -0, -0, 1, 1]));
write('plain', zeros([-0, 0, 0, 0, 1, 1], 'PLAIN'));
for (const [scale, data] of [[2, [0.125, -0.125]], [0, [2.5, -2.5]]]) {
  const column = { name: 'x', type: 'INT32', converted_type: 'DECIMAL', precision: 9, scale };
  write(`decimal ${scale}`, { columnData: [{ name: 'x', data }], schema: [{ name: 'root', num_children: 1 }, column] });
}
JAVASCRIPT
node write.mjs
"$work/venv/bin/python" - <<'PYTHON'
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def read(name):
    return " ".join(map(str, pq.read_table(name)["x"].to_pylist()))


def cast(numbers, scale):
    return " ".join(map(str, pa.array(numbers).cast(pa.decimal128(9, scale)).to_pylist()))


seen = {
    "-0, 0, 0, 0, 1, 1": read("minus first"),
    "0, -0, -0, -0, 1, 1": read("plus first"),
    "-0, 0, 0, 0, 1, 1 with plain pages": read("plain"),
    "0.125, -0.125, 2.5, -2.5 as decimal(9,2) and (9,0)": f"{read('decimal 2')} {read('decimal 0')}",
    "pyarrow casts the same numbers": f"{cast([0.125, -0.125], 2)} {cast([2.5, -2.5], 0)}",
}
expected = {
    "-0, 0, 0, 0, 1, 1": "-0.0 -0.0 -0.0 -0.0 1.0 1.0",
    "0, -0, -0, -0, 1, 1": "0.0 0.0 0.0 0.0 1.0 1.0",
    "-0, 0, 0, 0, 1, 1 with plain pages": "-0.0 0.0 0.0 0.0 1.0 1.0",
    "0.125, -0.125, 2.5, -2.5 as decimal(9,2) and (9,0)": "0.13 -0.12 3 -2",
    "pyarrow casts the same numbers": "0.12 -0.12 2 -2",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

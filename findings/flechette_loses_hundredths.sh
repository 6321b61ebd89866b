#!/usr/bin/env bash
# Software: @uwdata/flechette 2.6.0 (npm), pyarrow 26.0.1 as the reader of what it wrote and as the control. (2.7.0
#   needs @uwdata/wk-geojson, which npm did not have that day.)
# Guess: the number 0.29 written as a decimal with two digits behind the point is 0.29, and a decimal 1.14 is read as
#   the number 1.14, as nothing has to be rounded at two digits.
# Instead: it is written as 0.28: the number is multiplied by 100, which gives 28.999999999999996, and cut off; about
#   one in 17 of the values from 0.00 to 99.99 loses a hundredth. With a width of 32 bits it is multiplied by the scale
#   itself, by 2 and not by 100: 1 is written as 0.02 and 2.5 as 0.05. A decimal 1.14 of any writer is read as
#   1.1400000000000001, as the whole part and the rest are divided apart and then added. No error, no warning. Numbers
#   given as a BigInt are taken for unscaled integers, and these are written right.
# Right: Arrow columnar format, Schema.fbs, "Decimal": the value is the integer divided by ten to the power of the
#   scale, thus 29 for 0.29; a division of 114 by 100 gives the number 1.14.
# Seen:
#   decimal32(9,2) of 1, 2.5, 1.15, 0.29: 0.02 0.05 0.02 0.00
#   decimal64(18,2) of 1, 2.5, 1.15, 0.29: 1.00 2.50 1.14 0.28
#   decimal128(38,2) of 1, 2.5, 1.15, 0.29: 1.00 2.50 1.14 0.28
#   decimal256(60,2) of 1, 2.5, 1.15, 0.29: 1.00 2.50 1.14 0.28
#   0.00 to 99.99, written as another value: 573 of 10000
#   0.00 to 99.99, read as another number: 43 of 10000, 1.14 as 1.1400000000000001
#   pyarrow casts the same numbers: 1.00 2.50 1.15 0.29
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" @uwdata/flechette@2.6.0
cd "$work"
cat >numbers.mjs <<'JAVASCRIPT'
import { columnFromArray, decimal, tableFromColumns, tableFromIPC, tableToIPC } from '@uwdata/flechette';
import { readFileSync, writeFileSync } from 'node:fs';

const write = (name, numbers, type) =>
  writeFileSync(name, tableToIPC(tableFromColumns({ x: columnFromArray(numbers, type) })));
for (const [precision, bits] of [[9, 32], [18, 64], [38, 128], [60, 256]]) {
  write(`decimal${bits}(${precision},2)`, [1, 2.5, 1.15, 0.29], decimal(precision, 2, bits));
}
const hundredths = Array.from({ length: 10000 }, (_, at) => at / 100);
write('hundredths', hundredths, decimal(9, 2, 128));
const read = tableFromIPC(readFileSync('exact')).getChild('x').toArray();
const off = hundredths.filter((number, at) => read[at] !== number);
console.log(`${off.length} of 10000, ${off.find((number) => number === 1.14)} as ${read[114]}`);
JAVASCRIPT
"$work/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa

exact = [Decimal(value).scaleb(-2) for value in range(10000)]
with pa.OSFile("exact", "wb") as sink, pa.ipc.new_stream(sink, pa.schema([("x", pa.decimal128(9, 2))])) as writer:
    writer.write_batch(pa.record_batch([pa.array(exact, pa.decimal128(9, 2))], ["x"]))
read = subprocess.run(["node", "numbers.mjs"], check=True, capture_output=True, text=True).stdout.strip()


def written(name):
    return pa.ipc.open_stream(name).read_all()["x"].to_pylist()


names = ["decimal32(9,2)", "decimal64(18,2)", "decimal128(38,2)", "decimal256(60,2)"]
seen = {f"{name} of 1, 2.5, 1.15, 0.29": " ".join(map(str, written(name))) for name in names}
off = sum(value != right for value, right in zip(written("hundredths"), exact))
seen["0.00 to 99.99, written as another value"] = f"{off} of 10000"
seen["0.00 to 99.99, read as another number"] = read
control = pa.array([1, 2.5, 1.15, 0.29]).cast(pa.decimal128(38, 2))
seen["pyarrow casts the same numbers"] = " ".join(map(str, control.to_pylist()))
expected = {
    "decimal32(9,2) of 1, 2.5, 1.15, 0.29": "0.02 0.05 0.02 0.00",
    "decimal64(18,2) of 1, 2.5, 1.15, 0.29": "1.00 2.50 1.14 0.28",
    "decimal128(38,2) of 1, 2.5, 1.15, 0.29": "1.00 2.50 1.14 0.28",
    "decimal256(60,2) of 1, 2.5, 1.15, 0.29": "1.00 2.50 1.14 0.28",
    "0.00 to 99.99, written as another value": "573 of 10000",
    "0.00 to 99.99, read as another number": "43 of 10000, 1.14 as 1.1400000000000001",
    "pyarrow casts the same numbers": "1.00 2.50 1.15 0.29",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

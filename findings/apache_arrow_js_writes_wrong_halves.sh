#!/usr/bin/env bash
# Software: apache-arrow 21.2.0 and @uwdata/flechette 2.6.0 (npm) as writers of Arrow streams in JavaScript, pyarrow
#   26.0.1 as the reader and, as a writer of the same numbers, as the control.
# Guess: a number too large for a float16 is written as Infinity, one too small for it as 0.
# Instead: 1000000 is written as 3.814453125, 100000 as 3.05078125 and -200000 as -3.05078125, while 65520 and 100000.1
#   are Infinity: from 2 to the 16 on, a double whose lower 32 bits are zero, as those of each whole number up to 2 to
#   the 21 are, loses its exponent and keeps digits. 1e-8 and -1e-8 are both written as -Infinity and 1e-10 as 0.00005:
#   for numbers that small the number of bits to shift by is negative, which JavaScript takes modulo 32. Both libraries
#   have the same conversion, and their own readers show the same numbers; no error, no warning.
# Right: Arrow columnar format, Schema.fbs, "FloatingPoint", is IEEE 754, whose section 7.4 rounds an overflow to
#   infinity; what is nearer to 0 than to the smallest half is rounded to 0.
# Seen:
#   apache-arrow: 1.5 65504.0 inf 3.05078125 3.814453125 -3.05078125 inf -inf -inf 5.316734313964844e-05
#   flechette: 1.5 65504.0 inf 3.05078125 3.814453125 -3.05078125 inf -inf -inf 5.316734313964844e-05
#   pyarrow: 1.5 65504.0 inf inf inf -inf inf 0.0 -0.0 0.0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" apache-arrow@21.2.0 @uwdata/flechette@2.6.0
cd "$work"
cat >write.mjs <<'JAVASCRIPT'
import * as arrow from 'apache-arrow';
import * as flechette from '@uwdata/flechette';
import { writeFileSync } from 'node:fs';

const numbers = [1.5, 65504, 65520, 100000, 1000000, -200000, 100000.1, 1e-8, -1e-8, 1e-10];
const vector = arrow.vectorFromArray(numbers, new arrow.Float16());
writeFileSync('apache-arrow', arrow.tableToIPC(new arrow.Table({ x: vector })));
const column = flechette.columnFromArray(numbers, flechette.float16());
writeFileSync('flechette', flechette.tableToIPC(flechette.tableFromColumns({ x: column })));
JAVASCRIPT
node write.mjs
"$work/venv/bin/python" - <<'PYTHON'
import sys

import pyarrow as pa

numbers = [1.5, 65504, 65520, 100000, 1000000, -200000, 100000.1, 1e-8, -1e-8, 1e-10]
with pa.ipc.new_stream("pyarrow", pa.schema([("x", pa.float16())])) as writer:
    writer.write_batch(pa.record_batch([pa.array(numbers, pa.float16())], ["x"]))
seen = {}
for name in ("apache-arrow", "flechette", "pyarrow"):
    column = pa.ipc.open_stream(name).read_all()["x"]
    seen[name] = " ".join(str(float(value)) for value in column.to_pylist())
wrong = "1.5 65504.0 inf 3.05078125 3.814453125 -3.05078125 inf -inf -inf 5.316734313964844e-05"
expected = {
    "apache-arrow": wrong,
    "flechette": wrong,
    "pyarrow": "1.5 65504.0 inf inf inf -inf inf 0.0 -0.0 0.0",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

#!/usr/bin/env bash
# Software: nanoarrow 0.9.0 (Python), pyarrow 26.0.1 as the writer and as the control.
# Guess: a reader of the Arrow project gives -1.25 back as Decimal('-1.25'), as it does 1.25.
# Instead: its Python objects are made from the unscaled integer without its sign: each negative decimal128 or
#   decimal256 becomes a positive number of about 3.4e38 or 1.2e77 (times the scale), rounded to the type's
#   precision; -1.25 and -0.01 of a decimal(9,2) then are one and the same value. No error, no warning. The buffers
#   are sound: pyarrow takes the right values out of the same nanoarrow array. Positive values and nulls are right.
# Right: Arrow columnar format, Schema.fbs, "Decimal": the value is a signed two's complement integer.
# Seen:
#   decimal128(9,2) from a stream: 1.25 3.40282367E+36 3.40282367E+36 None
#   decimal128(38,2) from a stream: 1.25 3402823669209384634633746074317682113.3 3402823669209384634633746074317682114.6 None
#   decimal256(40,2) from a stream: 1.25 1.157920892373161954235709850086879078533E+75 1.157920892373161954235709850086879078533E+75 None
#   decimal128(9,2), its nanoarrow array read by pyarrow: 1.25 -1.25 -0.01 None
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check nanoarrow==0.9.0 pyarrow==26.0.1
"$work/venv/bin/python" - <<'PYTHON'
import io
import sys
from decimal import Decimal

import nanoarrow
import pyarrow as pa

values = [Decimal("1.25"), Decimal("-1.25"), Decimal("-0.01"), None]


def stream(kind):
    batch = pa.record_batch([pa.array(values, kind)], ["x"])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return io.BytesIO(sink.getvalue())


def by_nanoarrow(kind):
    rows = nanoarrow.ArrayStream.from_readable(stream(kind)).read_all().to_pylist()
    return " ".join(str(row["x"]) for row in rows)


kinds = {
    "decimal128(9,2)": pa.decimal128(9, 2),
    "decimal128(38,2)": pa.decimal128(38, 2),
    "decimal256(40,2)": pa.decimal256(40, 2),
}
seen = {f"{name} from a stream": by_nanoarrow(kind) for name, kind in kinds.items()}
handed_on = nanoarrow.Array(pa.array(values, pa.decimal128(9, 2)))
control = "decimal128(9,2), its nanoarrow array read by pyarrow"
seen[control] = " ".join(str(value) for value in pa.array(handed_on).to_pylist())
huge = "1.157920892373161954235709850086879078533E+75"
expected = {
    "decimal128(9,2) from a stream": "1.25 3.40282367E+36 3.40282367E+36 None",
    "decimal128(38,2) from a stream": (
        "1.25 3402823669209384634633746074317682113.3 3402823669209384634633746074317682114.6 None"
    ),
    "decimal256(40,2) from a stream": f"1.25 {huge} {huge} None",
    control: "1.25 -1.25 -0.01 None",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

#!/usr/bin/env bash
# Software: fastparquet 2026.9.0, pyarrow 26.0.1 as the writer and as the control.
# Guess: a column of 16 bytes, as UUIDs are stored, has values of 16 bytes, whatever they are.
# Instead: each value loses its zero bytes at the end: of the UUIDs about one in 256 comes back with 15 bytes, and
#   bytes of fixed length that are all zero come back empty. In NumPy a string of fixed length is filled up with
#   zeros, and they are taken for filling. Bytes of variable length are right. No error, no warning.
# Right: parquet-format, "Types": FIXED_LEN_BYTE_ARRAY is an array of exactly that many bytes; LogicalTypes.md,
#   "UUID".
# Seen (length of each value):
#   uuid: written 16 16 16, fastparquet 15 16 15, pyarrow 16 16 16
#   fixed 4: written 4 4 4, fastparquet 1 4 0, pyarrow 4 4 4
#   variable: written 2 0 1, fastparquet 2 0 1, pyarrow 2 0 1
#   of 65536 UUIDs, of another value: 256
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check fastparquet==2026.9.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import fastparquet
import pyarrow as pa
import pyarrow.parquet as pq

columns = {
    "uuid": pa.array([(256).to_bytes(16, "big"), (5).to_bytes(16, "big"), (512).to_bytes(16, "big")], pa.uuid()),
    "fixed 4": pa.array([b"a\0\0\0", b"abcd", b"\0\0\0\0"], pa.binary(4)),
    "variable": pa.array([b"a\0", b"", b"\0"], pa.binary()),
}
pq.write_table(pa.table(columns), "file.parquet")
read = fastparquet.ParquetFile("file.parquet").to_pandas()
again = pq.read_table("file.parquet")


def lengths(values):
    return " ".join(str(len(value)) for value in values)


def stored(array):
    return array.storage.to_pylist() if isinstance(array, pa.ExtensionArray) else array.to_pylist()


seen = {}
for name, array in columns.items():
    control = lengths(stored(again[name].combine_chunks()))
    seen[name] = f"written {lengths(stored(array))}, fastparquet {lengths(read[name])}, pyarrow {control}"
ids = [number.to_bytes(16, "big") for number in range(65536)]
pq.write_table(pa.table({"id": pa.array(ids, pa.uuid())}), "ids.parquet")
found = fastparquet.ParquetFile("ids.parquet").to_pandas()["id"]
seen["of 65536 UUIDs, of another value"] = str(sum(left != right for left, right in zip(ids, found, strict=True)))
expected = {
    "uuid": "written 16 16 16, fastparquet 15 16 15, pyarrow 16 16 16",
    "fixed 4": "written 4 4 4, fastparquet 1 4 0, pyarrow 4 4 4",
    "variable": "written 2 0 1, fastparquet 2 0 1, pyarrow 2 0 1",
    "of 65536 UUIDs, of another value": "256",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

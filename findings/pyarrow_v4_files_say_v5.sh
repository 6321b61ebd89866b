#!/usr/bin/env bash
# Software: pyarrow 26.0.1 as the writer; DataFusion 55.0.0 and arro3-io 0.9.1 (both arrow-rs) as readers, Polars 2.1.0
#   and pyarrow as controls.
# Guess: `IpcWriteOptions(metadata_version=V4)`, the option for older readers, writes a file that every reader of both
#   versions reads, as it reads the stream of the same option and a file of V5.
# Instead: the option reaches the messages but not the footer, which says V5 over batches of V4. Readers built on
#   arrow-rs compare the two and refuse the file, though they support both versions; Polars and pyarrow do not compare
#   them. The stream, which has no footer, is read by all.
# Right: Arrow columnar format, File.fbs and Message.fbs: a footer names the version of its file as a message does its
#   own; the writer should have written V4 in both.
# Seen:
#   V4 stream: DataFusion reads, arro3 reads, Polars reads, pyarrow reads
#   V4 file, footer of V5: DataFusion refuses, arro3 refuses, Polars reads, pyarrow reads
#   V5 stream: DataFusion reads, arro3 reads, Polars reads, pyarrow reads
#   V5 file, footer of V5: DataFusion reads, arro3 reads, Polars reads, pyarrow reads
#   error of V4 file: metadata versions mismatch
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    pyarrow==26.0.1 datafusion==55.0.0 arro3-core==0.9.1 arro3-io==0.9.1 polars==2.1.0
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import io
import struct
import sys

import arro3.io
import polars as pl
import pyarrow as pa
from datafusion import SessionContext

batch = pa.record_batch([pa.array([1, 2])], ["x"])
errors = []


def written(kind, version):
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion[version])
    sink = io.BytesIO()
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def footer_version(data):
    """Return field 0 of the footer, a flatbuffer before its length and the magic; V1 is 0."""
    (size,) = struct.unpack("<i", data[-10:-6])
    footer = data[-10 - size : -10]
    (root,) = struct.unpack_from("<I", footer)
    (back,) = struct.unpack_from("<i", footer, root)
    (at,) = struct.unpack_from("<H", footer, root - back + 4)
    return f"V{struct.unpack_from('<h', footer, root + at)[0] + 1}"


def by_datafusion(kind, data):
    path = f"{sys.argv[1]}/x.arrow"
    with open(path, "wb") as file:
        file.write(data)
    return pa.table(SessionContext().read_arrow(path))


readers = {
    "DataFusion": by_datafusion,
    "arro3": lambda kind, data: pa.table(
        (arro3.io.read_ipc if kind == "file" else arro3.io.read_ipc_stream)(io.BytesIO(data)).read_all()
    ),
    "Polars": lambda kind, data: (pl.read_ipc if kind == "file" else pl.read_ipc_stream)(io.BytesIO(data)),
    "pyarrow": lambda kind, data: (pa.ipc.open_file if kind == "file" else pa.ipc.open_stream)(data).read_all(),
}


def outcome(reader, kind, data):
    try:
        values = readers[reader](kind, data)["x"]
    except Exception as error:
        errors.append(str(error))
        return "refuses"
    return "reads" if [1, 2] == (values.to_list() if reader == "Polars" else values.to_pylist()) else "misreads"


seen = {}
for version in ("V4", "V5"):
    for kind in ("stream", "file"):
        data = written(kind, version)
        footer = f", footer of {footer_version(data)}" if kind == "file" else ""
        seen[f"{version} {kind}{footer}"] = ", ".join(f"{name} {outcome(name, kind, data)}" for name in readers)
mismatch = "metadata versions mismatch"
seen["error of V4 file"] = mismatch if all(mismatch in error for error in errors) else "; ".join(errors)
every = "DataFusion reads, arro3 reads, Polars reads, pyarrow reads"
expected = {
    "V4 stream": every,
    "V4 file, footer of V5": "DataFusion refuses, arro3 refuses, Polars reads, pyarrow reads",
    "V5 stream": every,
    "V5 file, footer of V5": every,
    "error of V4 file": mismatch,
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen.get(what) != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON

"""Check that a file is one readable Arrow IPC stream: the program of a sandboxed process.

The bytes are a client's, so the libraries that decode them do it behind the walls of ``strata.sandbox``.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
from collections.abc import Callable

import pyarrow as pa

from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import Bounds, raise_walls


class NotAStreamError(Exception):
    """The file is not one whole Arrow IPC stream; the message says why."""


def load() -> Callable[[socket.socket], None]:
    """Return what a forked process runs."""
    return main


def main(link: socket.socket) -> None:
    """Receive a job with one open file, raise the walls, check the file and send what was found."""
    job, [descriptor] = receive_job(link, 1)
    missing = raise_walls([], Bounds(job["memory_bytes"], 0, job["cpu_seconds"]))
    send(link, Kind.WALLS, [json.dumps(missing).encode()])
    try:
        schema, rows = check(descriptor)
    except NotAStreamError as error:
        send(link, Kind.FAILED, [json.dumps({"message": str(error)}).encode()])
    else:
        send(link, Kind.DONE, [json.dumps({"schema": schema, "rows": rows}).encode()])


def check(descriptor: int) -> tuple[str, int]:
    """Read a file of an Arrow IPC stream to its end; returns the schema as text and the number of rows.

    Raises:
        NotAStreamError: If it cannot be read, is cut, holds invalid values, or more bytes follow its end.
    """
    size = os.fstat(descriptor).st_size
    if not size:
        raise NotAStreamError("it is empty")
    mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    source, rows = pa.BufferReader(pa.py_buffer(mapped)), 0
    try:
        reader = pa.ipc.open_stream(source)
        while True:
            place = source.tell()
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                break
            batch.validate(full=True)
            rows += batch.num_rows
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise NotAStreamError(str(error).partition("\n")[0][:200]) from None
    if source.tell() == place:  # a reader takes the end of a file for the end of its stream
        raise NotAStreamError("it has no end-of-stream marker")
    if source.tell() != size:
        raise NotAStreamError("more bytes follow its end-of-stream marker")
    return str(reader.schema), rows

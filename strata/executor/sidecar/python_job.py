"""Run one registered Python function: the program of a sandboxed process, which ends after it.

Installed packages register functions as entry points of the group ``strata.transforms``, whose names are
references such as ``double@v1``. A function gets the inputs as Arrow tables by name, and the parameters; it
returns a table, a record batch, a reader of batches, or an iterable of batches.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import Bounds, raise_walls
from strata.transforms.sql_job import ArrowSink, table_of

GROUP: Final = "strata.transforms"
"""The group of the entry points."""

MOST_INPUTS: Final = 64
"""Most inputs of a function."""

MESSAGE_CHARACTERS: Final = 2000
"""Most characters of an error's message; the rest is cut."""

PRINTED_CHARACTERS: Final = 16 * 1024
"""Characters that are kept of what a function prints: the newest."""

SYSTEM: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
)
"""Directories of the system that libraries read when they are loaded."""

Function = Callable[[Mapping[str, pa.Table], Mapping[str, Any]], Any]


def registered() -> dict[str, Any]:
    """Return the entry points by reference; of two with one name, the first."""
    found: dict[str, Any] = {}
    for one in entry_points(group=GROUP):
        found.setdefault(one.name, one)
    return found


def load() -> Callable[[socket.socket], None]:
    """Load the functions before any process is forked; one that cannot be loaded fails when it is run."""
    functions: dict[str, Function | Exception] = {}
    for ref, one in registered().items():
        try:
            functions[ref] = one.load()
        except Exception as error:  # noqa: BLE001  # the answer to each of its builds
            functions[ref] = error
    return partial(main, functions)


def main(functions: Mapping[str, Function | Exception], link: socket.socket) -> None:
    """Receive a job, raise the walls, run the function and send its result."""
    job, files = receive_job(link, MOST_INPUTS + 1)
    directory, *inputs = files
    os.fchdir(directory)
    bounds = Bounds(job["memory_bytes"], job["spill_bytes"], job["cpu_seconds"])
    readable = [os.open(one, os.O_RDONLY) for one in _libraries()]
    missing = raise_walls([directory], bounds, readable=readable)
    send(link, Kind.WALLS, [json.dumps(missing).encode()])
    printed = io.StringIO()
    sys.stdout = sys.stderr = printed
    try:
        function = _loaded(functions, job["ref"])
        tables = {name: table_of(one) for name, one in zip(job["inputs"], inputs, strict=True)}
        batches, schema = _batches(function(tables, job["params"]))
        _send_log(link, printed)
        _send_rows(link, batches, schema)
    except BaseException as error:  # noqa: BLE001  # whatever the function raises is its caller's answer
        _send_log(link, printed)
        facts = {"code": type(error).__name__, "message": str(error)[:MESSAGE_CHARACTERS]}
        send(link, Kind.FAILED, [json.dumps(facts).encode()])


def _loaded(functions: Mapping[str, Function | Exception], ref: str) -> Function:
    found = functions[ref]
    if isinstance(found, Exception):
        raise found
    return found


def _libraries() -> list[str]:
    """Return what a function may read: the interpreter's modules, and the system's libraries."""
    found = dict.fromkeys((sys.prefix, sys.base_prefix, *sys.path, *SYSTEM))
    return [one for one in found if Path(one).is_dir()]


def _send_log(link: socket.socket, printed: io.StringIO) -> None:
    text = printed.getvalue()[-PRINTED_CHARACTERS:]
    printed.seek(0)
    printed.truncate()
    if text:
        send(link, Kind.LOG, [text.encode("utf-8", "replace")])


def _batches(result: Any) -> tuple[Iterable[pa.RecordBatch], pa.Schema]:
    """Return what a function returned as batches with their schema.

    Raises:
        TypeError: If it is no rows.
    """
    if isinstance(result, pa.RecordBatch):
        return [result], result.schema
    if isinstance(result, pa.Table):
        return result.to_batches(), result.schema
    if isinstance(result, pa.RecordBatchReader):
        return result, result.schema
    if isinstance(result, Iterable):
        batches = iter(result)
        first = next(batches, None)
        if isinstance(first, pa.RecordBatch):
            return _chained(first, batches), first.schema
    raise TypeError("a transform returns a table, a record batch, a reader or an iterable of batches")


def _chained(first: pa.RecordBatch, others: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from others


def _send_rows(link: socket.socket, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    sink = ArrowSink(link)
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            sink.flush_rows(batch.num_rows)
    sink.flush_rows(0)
    send(link, Kind.DONE, [json.dumps({"schema": str(schema)}).encode()])

"""Run one query on Daft: the program of a process of its own, which ends after it.

On a Ray cluster it is one job with a namespace of its own. Tables are read on the workers, by their snapshot.
The process has no walls to the network or to files, which Ray and the tables need; what bounds a query is
:mod:`strata.executor.cluster.sql_subset`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import NICE, Bounds, die_with_parent, limits
from strata.transforms.sql_job import ArrowSink, table_of

REF: Final = "sql@v1"
"""The transform."""

NOT_EXACT: Final = "TableNotExact"
"""Code of the refusal of a table, after which a server sends its rows instead."""

MOST_INPUTS: Final = 64
"""Most inputs of a query."""

HEADROOM_BYTES: Final = 1024 * 1024 * 1024
"""Bytes that the process may allocate besides the memory of the query: Daft itself, its threads' stacks."""

MESSAGE_CHARACTERS: Final = 2000
"""Most characters of an error's message; the rest is cut."""


class _JobError(Exception):
    """Why a query is not run."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def load() -> Callable[[socket.socket], None]:
    """Return what a forked process runs. Daft is imported there: its threads do not survive a fork."""
    return main


def main(link: socket.socket) -> None:
    """Receive a job, run the query and send its result."""
    job, files = receive_job(link, MOST_INPUTS + 1)
    directory, *inputs = files
    os.fchdir(directory)
    missing = bound(job)
    send(link, Kind.WALLS, [json.dumps(missing).encode()])
    os.environ |= {"DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "true", "DAFT_ANALYTICS_ENABLED": "0"}
    os.environ |= {"HOME": str(Path.cwd()), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  # until the process ends
    try:
        _run(link, job, inputs)
    except BaseException as error:  # noqa: BLE001  # whatever the engine raises is the build's failure
        code = error.code if isinstance(error, _JobError) else type(error).__name__
        facts = {"code": code, "message": str(error)[:MESSAGE_CHARACTERS]}
        send(link, Kind.FAILED, [json.dumps(facts).encode()])


def bound(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Bound this process as a job asks for it; returns the names of the walls that are missing.

    On a Ray cluster the work is done by Ray's processes, whose limits are Ray's.
    """
    missing = () if die_with_parent() else ("die_with_parent",)
    if job["ray"] is not None:
        os.nice(NICE)
        return missing
    bounds = Bounds(job["memory_bytes"] + HEADROOM_BYTES, job["spill_bytes"], job["cpu_seconds"])
    return missing if limits(bounds) else (*missing, "limits")


def _run(link: socket.socket, job: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    from strata.executor.cluster.sql_subset import SubsetError, rewrite  # noqa: PLC0415  # the extra's packages

    _begin(job)
    frames, schemas = _inputs(job, descriptors)
    named = {f"input{index}": index for index in range(len(frames))}
    named |= {name: index for index, name in enumerate(job["names"])}
    try:
        sql = rewrite(job["sql"], {name: schemas[index] for name, index in named.items()})
    except SubsetError as error:
        raise _JobError("UnsupportedQuery", f"{error}.") from None
    import daft  # noqa: PLC0415  # the extra's package

    result = daft.sql(sql, register_globals=False, **{name: frames[index] for name, index in named.items()})
    schema = _plain(result.schema().to_pyarrow_schema())
    sink = ArrowSink(link)
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in _batches(result):
            writer.write_batch(batch.cast(schema))
            sink.flush_rows(batch.num_rows)
    sink.flush_rows(0)
    send(link, Kind.DONE, [json.dumps({"schema": str(schema)}).encode()])


def _batches(result: Any) -> Iterator[pa.RecordBatch]:
    for part in result.to_arrow_iter():
        yield from part.to_batches() if isinstance(part, pa.Table) else [part]


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a result with types that every reader knows: a count is no unsigned number."""
    changed = {pa.uint64(): pa.int64(), pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    fields = [pa.field(field.name, changed.get(field.type, field.type)) for field in schema]
    twice = {name for name in schema.names if schema.names.count(name) > 1}
    if twice:
        raise _JobError("DuplicateColumnException", f"Two columns are named {min(twice)}; name each by AS.")
    return pa.schema(fields)


def _begin(job: Mapping[str, Any]) -> None:
    """Choose where Daft runs: a Ray job in a namespace of its own, or this process."""
    import daft  # noqa: PLC0415  # the extra's package

    address = job["ray"]
    if address is None:
        daft.set_runner_native(num_threads=job["threads"])
        return
    from strata.executor.cluster.ray_address import environment_for  # noqa: PLC0415  # of clusters only

    os.environ |= environment_for(address)  # before Ray is imported, which reads it then
    import ray  # noqa: PLC0415  # the extra's package

    ray.init(
        address=address,
        namespace=f"strata-{job['build_id']}",
        log_to_driver=False,
        logging_level="ERROR",
    )
    daft.set_runner_ray(noop_if_initialized=True)


def _inputs(job: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[list[Any], list[pa.Schema]]:
    """Return each input as Daft reads it, and its columns."""
    import daft  # noqa: PLC0415  # the extra's package

    from strata.executor.cluster.tables import NotExactError, open_exact  # noqa: PLC0415  # the extra's packages

    waiting, frames, schemas = iter(descriptors), [], []
    for index, table in enumerate(job["tables"]):
        if table is None:
            rows = table_of(next(waiting))
            frames.append(daft.from_arrow(rows))
            schemas.append(rows.schema)
            continue
        try:
            where = table["metadata_location"], table["snapshot_id"]
            opened = open_exact(*where, job["properties"], table.get("root"))
        except NotExactError as error:
            raise _JobError(NOT_EXACT, f"input{index} is not read by reference: {error}.") from None
        frames.append(daft.read_iceberg(opened, snapshot_id=table["snapshot_id"]))
        schemas.append(frames[-1].schema().to_pyarrow_schema())
    return frames, schemas

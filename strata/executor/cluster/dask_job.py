"""Run one registered function on a Dask cluster: the program of a process of its own, which ends after it.

The function is called in this process, with the parts of its inputs on the cluster's workers, and says what
they compute; the workers do it. When this process ends, however it ends, the scheduler forgets all of it.
The process has no walls to the network or to files, which Dask needs; the functions are the operator's own.
"""

from __future__ import annotations

import json
import operator
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import Bounds, die_with_parent, limits
from strata.transforms.sql_job import ArrowSink, table_of

GROUP: Final = "strata.dask"
"""The group of the entry points."""

MOST_INPUTS: Final = 64
"""Most inputs of a function."""

PART_ROWS: Final = 1 << 18
"""Most rows of a part of an input."""

CONNECT_SECONDS: Final = 10
"""Seconds to wait for the scheduler, and as many for its first worker."""

HEADROOM_BYTES: Final = 1024 * 1024 * 1024
"""Bytes that the process may allocate besides the memory of a build: Dask itself, its threads' stacks."""

MESSAGE_CHARACTERS: Final = 2000
"""Most characters of an error's message; the rest is cut."""

UNREACHABLE: Final = "ClusterUnreachable"
"""Code of a build for which no scheduler or no worker was found."""

OTHER_PYTHON: Final = "OtherPython"
"""Code of a build on a cluster whose Python cannot read this one's functions."""

WORKER_ENDED: Final = "WorkerEnded"
"""Code of a build whose task ended one worker after the other."""

CODES: Final = frozenset({UNREACHABLE, OTHER_PYTHON, WORKER_ENDED})
"""The codes that are this module's own, and no class that a function has made up."""


class JobError(Exception):
    """Why a function is not run, or has not ended.

    Attributes:
        code: One of :data:`CODES`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def registered() -> dict[str, Any]:
    """Return the entry points by name; of two with one name, the first."""
    found: dict[str, Any] = {}
    for one in entry_points(group=GROUP):
        found.setdefault(one.name, one)
    return found


def load() -> Callable[[socket.socket], None]:
    """Return what a forked process runs. Dask is imported there: its threads do not survive a fork."""
    return main


def main(link: socket.socket) -> None:
    """Receive a job, run the function and send its result."""
    job, files = receive_job(link, MOST_INPUTS + 1)
    directory, *inputs = files
    os.fchdir(directory)
    missing = () if die_with_parent() else ("die_with_parent",)
    bounds = Bounds(job["memory_bytes"] + HEADROOM_BYTES, job["spill_bytes"], job["cpu_seconds"])
    missing = missing if limits(bounds) else (*missing, "limits")
    send(link, Kind.WALLS, [json.dumps(missing).encode()])
    os.environ["HOME"] = str(Path.cwd())
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  # until the process ends
    try:
        _run(link, job, inputs)
    except BaseException as error:  # noqa: BLE001  # whatever the function raises is its caller's answer
        code = error.code if isinstance(error, JobError) else type(error).__name__
        facts = {"code": code, "message": str(error)[:MESSAGE_CHARACTERS]}
        send(link, Kind.FAILED, [json.dumps(facts).encode()])


def _run(link: socket.socket, job: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    client = _connected(job)
    from distributed.scheduler import KilledWorker  # noqa: PLC0415  # the extra's package

    function = registered()[job["function"]].load()
    named = zip(job["inputs"], descriptors, strict=True)
    inputs = {name: _scattered(client, table_of(one)) for name, one in named}
    try:
        _send_rows(link, client, _parts(function(inputs, job["params"])))
    except KilledWorker as error:
        ended = f"A task ended every worker that ran it ({error.allowed_failures + 1})"
        raise JobError(WORKER_ENDED, f"{ended}: it may need more memory than a worker has.") from None


def _connected(job: Mapping[str, Any]) -> Any:
    """Join the cluster.

    Raises:
        JobError: If there is none, or its Python is another one.
    """
    from distributed import Client  # noqa: PLC0415  # the extra's package

    try:
        client = Client(
            job["scheduler"],
            name=f"strata-{job['build_id']}",
            timeout=CONNECT_SECONDS,
            direct_to_workers=True,
        )
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        versions = client.get_versions()
    except OSError:
        raise JobError(UNREACHABLE, "The Dask scheduler of this executor does not answer.") from None
    check_nodes(versions)
    return client


def check_nodes(versions: Mapping[str, Any]) -> None:
    """Check that a cluster has workers, and this process's Python.

    Args:
        versions: What the nodes have, as ``distributed.Client.get_versions`` returns it.

    Raises:
        JobError: If it has not.
    """
    workers = versions["workers"].values()
    if not workers:
        raise JobError(UNREACHABLE, "The Dask cluster of this executor has no worker.")
    own = _python(versions["client"])
    for one in (versions["scheduler"], *workers):
        if _python(one) != own:
            detail = f"A node of the Dask cluster has Python {_python(one)}, and the executor {own}."
            raise JobError(OTHER_PYTHON, detail)


def _python(versions: Mapping[str, Any]) -> str:
    """Return the minor version of a node's Python: another one's functions may end the process."""
    return ".".join(str(dict(versions["host"])["python"]).split(".")[:2])


def _scattered(client: Any, table: pa.Table) -> list[Any]:
    """Hand the parts of a table to the workers in turn; returns each as a Dask object, in their order."""
    from dask import delayed  # noqa: PLC0415  # the extra's package

    starts = range(0, max(1, table.num_rows), PART_ROWS)
    # Without a hash of the rows: equal rows of two builds would be one object, which one of them may lose.
    placed = client.scatter([table.slice(one, PART_ROWS) for one in starts], hash=False)
    return [delayed(one) for one in placed]


def _parts(result: object) -> list[Any]:
    """Return what a function returned as a list of Dask objects or rows.

    Raises:
        TypeError: If it is neither.
    """
    from dask.base import is_dask_collection  # noqa: PLC0415  # the extra's package

    parts = list(result) if isinstance(result, list | tuple) else [result]
    if parts and all(is_dask_collection(one) or _is_rows(one) for one in parts):
        return parts
    raise TypeError("a function returns a Dask object, a table, or a list of them")


def _is_rows(found: object) -> bool:
    return isinstance(found, pa.Table | pa.RecordBatch)


def _send_rows(link: socket.socket, client: Any, parts: list[Any]) -> None:
    """Send the rows of all parts in their order, once all are there: until then an error is an answer."""
    waiting = client.compute(parts)
    schema = _common_schema(client, waiting)
    sink = ArrowSink(link)
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        while waiting:
            rows = client.gather(waiting.pop(0))  # and the worker lets go of them
            for batch in rows.to_batches() if isinstance(rows, pa.Table) else [rows]:
                writer.write_batch(batch)
                sink.flush_rows(batch.num_rows)
    sink.flush_rows(0)
    send(link, Kind.DONE, [json.dumps({"schema": str(schema)}).encode()])


def _common_schema(client: Any, parts: Sequence[Any]) -> pa.Schema:
    """Wait until all parts are there, and return their schema.

    Raises:
        TypeError: If one is no table, or two differ in it.
    """
    # Both are Python's own: workers need not have this package.
    for kind in client.gather(client.map(type, parts)):
        if not issubclass(kind, pa.Table | pa.RecordBatch):
            raise TypeError(f"a part of the result is a {kind.__name__}, and no table")
    schemas = client.gather(client.map(operator.attrgetter("schema"), parts))
    if any(not one.equals(schemas[0]) for one in schemas):
        raise TypeError("the parts of the result have different columns")
    return schemas[0]

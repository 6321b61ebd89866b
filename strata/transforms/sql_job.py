"""Run one SQL query: the program of a sandboxed process (``strata.sandbox``), which ends after it.

Inputs are mapped files of Arrow IPC streams. The result is sent as an Arrow IPC stream, as DuckDB produces
its rows.
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import mmap
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import attrs
import duckdb
import pyarrow as pa

from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import Bounds, raise_walls, rehearse
from strata.transforms.sql_columns import touched_columns
from strata.transforms.sql_errors import PREPARE, explain
from strata.transforms.sql_filters import pushed_filters
from strata.transforms.sql_order import is_ordered
from strata.transforms.sql_params import MOST_INPUTS
from strata.transforms.sql_settings import ORDERED, RESULT_SETTINGS

FRAME_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of a frame of the result."""

HEADROOM_BYTES: Final = 384 * 1024 * 1024
"""Bytes that the process may allocate besides the memory of the query: stacks, buffers, the allocator."""

ANALYSIS_BYTES: Final = 64 * 1024 * 1024
"""Bytes of memory of a query that is looked at and not run."""

REHEARSAL: Final = "SELECT n + 1 AS m FROM input0 WHERE n > 0 ORDER BY m"
"""The query of :meth:`SqlProgram.rehearse`."""

ONE_SELECT: Final = "A query is one SELECT statement; nothing else can be run, and nothing after it."

FIXED_SETTINGS: Final[Mapping[str, object]] = {
    "home_directory": "",
    "extension_directory": "",
    "secret_directory": "",
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "errors_as_json": True,
    **RESULT_SETTINGS,
}
"""Settings of every query."""


class ArrowSink(io.RawIOBase):
    """Collects the bytes of an Arrow stream and sends them as frames."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Keep bytes until :meth:`flush_rows`."""
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush_rows(self, rows: int) -> None:
        """Send what was written, with the number of its rows."""
        data = memoryview(b"".join(self._parts))
        self._parts.clear()
        for offset in range(0, len(data), FRAME_BYTES):
            last = offset + FRAME_BYTES >= len(data)
            send(self._link, Kind.DATA, [data[offset : offset + FRAME_BYTES]], rows if last else 0)


class _QueryError(Exception):
    """What is wrong with the query, for its author."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _NotInstalled:
    """Makes the import of what DuckDB looks for, and is not needed, fail: it takes half a second."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise for a module that is not needed; see :class:`importlib.abc.MetaPathFinder`."""
        del path, target
        if name.partition(".")[0] in {"pandas", "polars", "torch", "tensorflow"}:
            raise ModuleNotFoundError(name)


@attrs.frozen
class SqlProgram:
    """What a forked process runs.

    Attributes:
        connection: A database without tables.
    """

    connection: duckdb.DuckDBPyConnection

    def __call__(self, link: socket.socket) -> None:
        """Run the job that the link brings."""
        main(self.connection, link)

    def rehearse(self) -> None:
        """Run a query of one row: the first query of the process then need not copy the pages that it uses.

        Afterwards the database is as before, but for a limit of memory, which each job sets.
        """
        rehearse()
        _set(self.connection, {"threads": 1, "memory_limit": f"{ANALYSIS_BYTES}B"})
        table = pa.table({"n": [1]})
        self.connection.register("input0", table)
        self.connection.execute(PREPARE + REHEARSAL).fetchall()
        is_ordered(self.connection, REHEARSAL)
        (statement,) = self.connection.extract_statements(REHEARSAL)
        reader = self.connection.sql(statement).to_arrow_reader(1)
        with pa.ipc.new_stream(pa.PythonFile(io.BytesIO(), "w"), reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        self.connection.execute("DEALLOCATE query")
        self.connection.unregister("input0")


def load() -> SqlProgram:
    """Open a database before any process is forked; returns what a forked process runs.

    A database that is opened later reads files that are behind the walls, and a fork of several threads has
    one. So this one has no thread of its own until the query begins.
    """
    sys.meta_path.insert(0, cast("Any", _NotInstalled()))
    importlib.import_module("pyarrow.dataset")  # DuckDB imports it at its first table
    connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0})
    _set(connection, FIXED_SETTINGS)
    connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()  # what the first call prepares
    return SqlProgram(connection)


def main(connection: duckdb.DuckDBPyConnection, link: socket.socket) -> None:
    """Receive a job, raise the walls, run the query and send its result."""
    job, files = receive_job(link, MOST_INPUTS + 1)
    if job.get("probe"):
        missing = raise_walls([], Bounds(1 << 30, 1 << 20, 10))
        send(link, Kind.WALLS, [json.dumps(missing).encode()])
        return
    if "schemas" in job:
        _analyse(connection, link, job)
        return
    directory, *inputs = files
    os.fchdir(directory)
    bounds = Bounds(job["memory_bytes"] + HEADROOM_BYTES, job["spill_bytes"], job["cpu_seconds"])
    missing = raise_walls([directory], bounds, job.get("without", ()))
    send(link, Kind.WALLS, [json.dumps(missing).encode()])
    try:
        configure(connection, job, directory)
        _run(connection, link, job, [table_of(descriptor) for descriptor in inputs])
    except duckdb.Error as error:
        _fail(link, *explain(error, job["sql"]))
    except _QueryError as error:
        _fail(link, error.code, str(error))
    except MemoryError:
        _fail(link, "OutOfMemoryException", "The query needs more memory than this tenant may use.")


def _analyse(connection: duckdb.DuckDBPyConnection, link: socket.socket, job: Mapping[str, Any]) -> None:
    """Say which columns a query can touch, and which conditions scans can test.

    It sees the schemas of its inputs only, and is not run.
    """
    missing = raise_walls([], Bounds(ANALYSIS_BYTES + HEADROOM_BYTES, 1 << 20, 10), job.get("without", ()))
    send(link, Kind.WALLS, [json.dumps(missing).encode()])
    limits = {"memory_limit": f"{ANALYSIS_BYTES}B", "enable_external_access": False}
    _set(connection, {**limits, "lock_configuration": True})
    schemas = [pa.ipc.read_schema(pa.py_buffer(base64.b64decode(one))) for one in job["schemas"]]
    asked = connection, job["sql"], schemas, job["names"]
    columns = touched_columns(*asked)
    filters = None if columns is None else pushed_filters(*asked)
    send(link, Kind.DONE, [json.dumps({"columns": columns, "filters": filters}).encode()])


def _fail(link: socket.socket, code: str, message: str) -> None:
    send(link, Kind.FAILED, [json.dumps({"code": code, "message": message}).encode()])


def table_of(descriptor: int) -> pa.Table:
    """Return a file of an Arrow IPC stream as a table whose columns are the mapped file."""
    mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    os.close(descriptor)
    return pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))).read_all()


def configure(connection: duckdb.DuckDBPyConnection, job: Mapping[str, Any], directory: int) -> None:
    """Let a database reach nothing but a directory to spill into, and lock its settings.

    Args:
        connection: The database.
        job: The job, with its limits.
        directory: Descriptor of the directory; by its number the query cannot learn where it is.
    """
    settings = {
        "threads": job["threads"],
        "memory_limit": f"{job['memory_bytes']}B",
        "temp_directory": f"/proc/self/fd/{directory}",
        "max_temp_directory_size": f"{job['spill_bytes']}B",
        "enable_external_access": False,
        "lock_configuration": True,
    }
    _set(connection, settings)


def _set(connection: duckdb.DuckDBPyConnection, settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        shown = str(value).lower() if isinstance(value, bool) else f"'{value}'"
        connection.execute(f"SET {name} = {shown}")


def _run(
    connection: duckdb.DuckDBPyConnection,
    link: socket.socket,
    job: Mapping[str, Any],
    tables: Sequence[pa.Table],
) -> None:
    sql: str = job["sql"]
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise _QueryError("StatementException", ONE_SELECT)
    for index, table in enumerate(tables):
        for name in {f"input{index}", *job["names"][index : index + 1]}:
            connection.register(name, table)
    # Only here errors have their place in the query; and a result that is open permits no other statement.
    try:
        connection.execute(PREPARE + sql).fetchall()
    except duckdb.Error as error:
        raise _QueryError(*explain(error, sql, prepared=True)) from None
    ordered = is_ordered(connection, sql)
    relation = connection.sql(statements[0])
    _check_names(relation.columns)
    reader = relation.to_arrow_reader(job["batch_rows"])
    schema = reader.schema.with_metadata({ORDERED: str(ordered).lower()})
    sink = ArrowSink(link)
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), schema) as writer:
        for batch in reader:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
            sink.flush_rows(batch.num_rows)
    sink.flush_rows(0)
    send(link, Kind.DONE, [json.dumps({"schema": str(schema)}).encode()])


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        shown = ", ".join(f'"{name}"' for name in twice)
        raise _QueryError(
            "DuplicateColumnException", f"The result has two columns named {shown}; name each by AS."
        )

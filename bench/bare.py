"""Baselines: the same work done by the libraries alone, without a server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def decode_and_encode(
    paths: Sequence[Path],
    threads: int,
    columns: Sequence[str] | None = None,
    above: tuple[str, float] | None = None,
) -> float:
    """Return the seconds it takes to decode every row group of ``paths`` and encode it as Arrow IPC.

    Args:
        paths: Parquet files.
        threads: Threads that do it.
        columns: The columns; None: all.
        above: A column and a number: only rows with more in that column are encoded.
    """

    def one(task: tuple[Path, int]) -> int:
        path, row_group = task
        rows = pq.ParquetFile(path).read_row_group(row_group, columns=columns, use_threads=False)
        return _encode(rows if above is None else rows.filter(pc.greater(rows[above[0]], above[1])))

    began = time.perf_counter()
    tasks = [(path, number) for path in paths for number in range(pq.read_metadata(path).num_row_groups)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, tasks):
            pass
    return time.perf_counter() - began


def first_row_group(path: Path) -> float:
    """Return the seconds it takes to open ``path``, decode its first row group and encode it."""
    began = time.perf_counter()
    _encode(pq.ParquetFile(path).read_row_group(0, use_threads=False))
    return time.perf_counter() - began


def _encode(table: pa.Table) -> int:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().size


def copy_seconds(size: int) -> float:
    """Return how long a copy of so many bytes takes, between places in memory that were used before."""
    source, target = bytearray(b"\1") * size, bytearray(b"\2") * size
    began = time.perf_counter()
    target[:] = memoryview(source)
    return time.perf_counter() - began

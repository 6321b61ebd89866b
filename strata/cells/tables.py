"""What ``strata`` is inside of a cell: it reads tables through the server, as the cell's runner."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

Ask = Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[int]]]
"""Asks the host; returns its answer, and the files that belong to it."""


class StrataError(Exception):
    """The server refused what a cell asked for; the message is its reason."""


class Tables:
    """Reads tables of the warehouses: the rows and columns that the principal who runs the cell may read."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def __repr__(self) -> str:
        return "<strata: fetch(table, columns=…, filters=…)>"

    def fetch(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filters: Sequence[tuple[str, str, Any]] = (),
        snapshot_id: int | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """Return rows of a table.

        Args:
            table: Its URI, such as ``demo:nyc.flights``.
            columns: Names of columns; all that may be read by default.
            filters: Conditions that all hold: column, operator and value.
            snapshot_id: Snapshot to read; the current one by default.
            limit: Most rows.

        Raises:
            StrataError: If the server refuses; the message is its reason.
        """
        params: dict[str, Any] = {}
        if columns is not None:
            params["columns"] = list(columns)
        if filters:
            params["filters"] = [{"column": one, "op": op, "value": value} for one, op, value in filters]
        if snapshot_id is not None:
            params["snapshot_id"] = snapshot_id
        if limit is not None:
            params["limit"] = limit
        answer, files = self._ask({"ask": "fetch", "table": table, "params": params})
        if "error" in answer:
            raise StrataError(answer["error"])
        (descriptor,) = files
        try:
            mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        return pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))).read_all()

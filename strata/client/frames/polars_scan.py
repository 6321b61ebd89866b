"""A scan as a Polars ``LazyFrame``: columns, a number of rows and exact filters go to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from strata.client.errors import BadAnswerError
from strata.client.frames.conversions import library
from strata.client.frames.polars_filters import pushed_filters
from strata.client.scans import ScanOptions

Opened = Callable[[ScanOptions], AbstractContextManager[Iterator[pa.RecordBatch]]]
"""Opens the result of the scan with these options."""


def lazy_frame(name: str, schema: pa.Schema, options: ScanOptions, opened: Opened) -> Any:
    """Return a ``LazyFrame`` that reads the scan when it is collected, and again each time.

    Args:
        name: Name of the table in ``explain()``.
        schema: The scan's schema; a result with other columns or types is an error.
        options: Options of the scan.
        opened: Opens a result.
    """
    polars = library("polars")
    plugins = library("polars.io.plugins")
    types: Mapping[str, Any] = polars.from_arrow(schema.empty_table()).schema

    def source(
        with_columns: list[str] | None, predicate: Any, n_rows: int | None, _batch_size: int | None
    ) -> Iterator[Any]:
        chosen = ScanOptions(**options)
        chosen["columns"] = columns = list(types) if with_columns is None else with_columns
        limit = options.get("limit")
        if n_rows is not None:  # the first rows of the scan, of which Polars keeps those of the predicate
            chosen["limit"] = n_rows if limit is None else min(limit, n_rows)
        elif limit is None and predicate is not None:
            chosen["filters"] = [*options.get("filters", ()), *pushed_filters(predicate, schema)]
        with opened(chosen) as batches:
            for batch in batches:
                frame = polars.from_arrow(batch)
                if dict(frame.schema) != {column: types[column] for column in columns}:
                    raise BadAnswerError(f"The columns of {name} are others than when it was scanned.")
                yield frame if predicate is None else frame.filter(predicate)

    return plugins.register_io_source(source, schema=types, validate_schema=True)

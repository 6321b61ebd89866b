"""Whole results as frames of other libraries, which must be installed; the rows are in memory already."""

from __future__ import annotations

import importlib
from typing import Any

import pyarrow as pa


def library(name: str) -> Any:
    """Return a library.

    Raises:
        ImportError: If it is not installed; says what to do.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed here: install it, or use fetch().") from error


def as_pandas(table: pa.Table) -> Any:
    """Return a table as a pandas DataFrame; integers with nulls keep their type (Arrow's own)."""
    pandas = library("pandas")
    return table.to_pandas(types_mapper=pandas.ArrowDtype)


def as_polars(table: pa.Table) -> Any:
    """Return a table as a Polars DataFrame."""
    return library("polars").from_arrow(table)


def as_duckdb(table: pa.Table) -> Any:
    """Return a table as a DuckDB relation."""
    return library("duckdb").from_arrow(table)


def as_datafusion(table: pa.Table, context: Any, name: str | None) -> Any:
    """Return a table as a DataFusion DataFrame, registered by ``name`` in ``context``."""
    context = context or library("datafusion").SessionContext()
    return context.from_arrow(table, name)

"""Methods about tables that both clients have, blocking and awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, TypeVar, Unpack

import pyarrow as pa

from strata.client import operations, tables
from strata.client.display.html import Listing
from strata.client.display.progress import ProgressOption
from strata.client.frames.conversions import as_datafusion, as_duckdb, as_pandas, as_polars
from strata.client.operations import ClientEnvironment, Operation, Reply
from strata.client.scans import Scan, ScanOptions
from strata.client.tables import (
    Catalog,
    Column,
    Description,
    NamedResult,
    Ref,
    Snapshot,
    Table,
    VersionOptions,
    Why,
)

T = TypeVar("T")


def _whole_table(options: ScanOptions) -> VersionOptions | None:
    """Return which version a scan reads; None if it has a filter or a limit."""
    if options.get("limit") is not None or options.get("filters", ()) not in ((), []):
        return None
    return {
        "snapshot_id": options.get("snapshot_id"),
        "ref": options.get("ref"),
        "as_of": options.get("as_of"),
    }


def _opening(env: ClientEnvironment, inputs: str | Iterable[str], options: ScanOptions) -> Operation[Reply]:
    return operations.open_scan(env, Scan(inputs, **options), refresh=False)


class TableMethods(ABC):
    """Blocking methods about tables."""

    _env: ClientEnvironment

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...

    @abstractmethod
    def _table(self, opening: Operation[Reply], progress: ProgressOption) -> pa.Table: ...

    def catalogs(self) -> Listing[Catalog]:
        """Return the catalogs of which the caller may read a table."""
        return self._run(tables.catalogs(self._env))

    def tables(
        self, catalog: str | None = None, namespace: str | None = None, *, text: str | None = None
    ) -> Listing[Table]:
        """Return the tables and views that the caller may read, by catalog, namespace and name.

        Args:
            catalog: Only those of this catalog.
            namespace: Only those of this namespace, its levels joined by dots.
            text: Only those whose names contain this text, in any case.

        Raises:
            StrataError: If there is no such catalog for the caller, or the server does not answer.
        """
        return self._run(tables.tables(self._env, catalog, namespace, text))

    def describe(self, uri: str, **version: Unpack[VersionOptions]) -> Description:
        """Return columns, partitioning, order, properties and size of a table, as the caller may read it.

        Args:
            uri: The table's URI.
            **version: ``snapshot_id``, ``ref`` or ``as_of``; default: the current version.

        Raises:
            StrataError: If there is no such table for the caller, or the server does not answer.
        """
        return self._run(tables.describe(self._env, uri, version))

    def schema(self, uri: str, **version: Unpack[VersionOptions]) -> Listing[Column]:
        """Return the columns of a table that the caller may read, as :meth:`describe` has them."""
        return self.describe(uri, **version).columns

    def snapshots(self, uri: str) -> Listing[Snapshot]:
        """Return the snapshots of a table, the newest first; errors of :meth:`describe`."""
        return self._run(tables.snapshots(self._env, uri))

    def refs(self, uri: str) -> Listing[Ref]:
        """Return the branches and tags of a table, by name; errors of :meth:`describe`."""
        return self._run(tables.refs(self._env, uri))

    def names(self) -> Listing[NamedResult]:
        """Return the names of the tenant's results, in order."""
        return self._run(tables.names(self._env))

    def why(self, uri: str) -> Why:
        """Return whether the caller may read a table, in a sentence.

        Raises:
            StrataError: If the server does not answer.
        """
        return self._run(tables.why(self._env, uri))

    def head(self, inputs: str, rows: int = 10, **options: Unpack[ScanOptions]) -> pa.Table:
        """Return the first rows of a scan; arguments and errors of ``fetch``."""
        return self._table(_opening(self._env, inputs, {**options, "limit": rows}), None)

    def count(self, inputs: str, **options: Unpack[ScanOptions]) -> int:
        """Return the exact number of rows of a scan: from metadata where that is exact, else by reading.

        Arguments and errors are those of ``fetch``.
        """
        version = _whole_table(options)
        rows = None if version is None else self.describe(inputs, **version).rows
        if rows is not None:
            return rows
        return int(self._table(_opening(self._env, inputs, {**options, "columns": ()}), None).num_rows)

    def to_pandas(
        self,
        inputs: str | Iterable[str],
        *,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a pandas DataFrame of Arrow's types.

        Arguments and errors are those of ``fetch``.

        Raises:
            ImportError: If pandas is not installed.
        """
        return as_pandas(self._table(_opening(self._env, inputs, options), progress))

    def to_polars(
        self,
        inputs: str | Iterable[str],
        *,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a Polars DataFrame; see :meth:`to_pandas`."""
        return as_polars(self._table(_opening(self._env, inputs, options), progress))

    def to_duckdb(
        self,
        inputs: str | Iterable[str],
        *,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a DuckDB relation; see :meth:`to_pandas`."""
        return as_duckdb(self._table(_opening(self._env, inputs, options), progress))

    def to_datafusion(
        self,
        inputs: str | Iterable[str],
        *,
        context: Any = None,
        table_name: str | None = None,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a DataFusion DataFrame; see :meth:`to_pandas`.

        Args:
            inputs: As for ``fetch``.
            context: The ``SessionContext`` to register it in; default: one of its own.
            table_name: Its name there.
            progress: As for ``fetch``.
            **options: As for ``fetch``.
        """
        found = self._table(_opening(self._env, inputs, options), progress)
        return as_datafusion(found, context, table_name)


class AsyncTableMethods(ABC):
    """Methods about tables to be awaited; arguments, answers and errors are those of ``StrataClient``."""

    _env: ClientEnvironment

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T: ...

    @abstractmethod
    async def _table(self, opening: Operation[Reply], progress: ProgressOption) -> pa.Table: ...

    async def catalogs(self) -> Listing[Catalog]:
        """Return the catalogs of which the caller may read a table."""
        return await self._run(tables.catalogs(self._env))

    async def tables(
        self, catalog: str | None = None, namespace: str | None = None, *, text: str | None = None
    ) -> Listing[Table]:
        """Return the tables and views that the caller may read, by catalog, namespace and name."""
        return await self._run(tables.tables(self._env, catalog, namespace, text))

    async def describe(self, uri: str, **version: Unpack[VersionOptions]) -> Description:
        """Return columns, partitioning, order, properties and size of a table, as the caller may read it."""
        return await self._run(tables.describe(self._env, uri, version))

    async def schema(self, uri: str, **version: Unpack[VersionOptions]) -> Listing[Column]:
        """Return the columns of a table that the caller may read."""
        return (await self.describe(uri, **version)).columns

    async def snapshots(self, uri: str) -> Listing[Snapshot]:
        """Return the snapshots of a table, the newest first."""
        return await self._run(tables.snapshots(self._env, uri))

    async def refs(self, uri: str) -> Listing[Ref]:
        """Return the branches and tags of a table, by name."""
        return await self._run(tables.refs(self._env, uri))

    async def names(self) -> Listing[NamedResult]:
        """Return the names of the tenant's results, in order."""
        return await self._run(tables.names(self._env))

    async def why(self, uri: str) -> Why:
        """Return whether the caller may read a table, in a sentence."""
        return await self._run(tables.why(self._env, uri))

    async def head(self, inputs: str, rows: int = 10, **options: Unpack[ScanOptions]) -> pa.Table:
        """Return the first rows of a scan."""
        return await self._table(_opening(self._env, inputs, {**options, "limit": rows}), None)

    async def count(self, inputs: str, **options: Unpack[ScanOptions]) -> int:
        """Return the exact number of rows of a scan."""
        version = _whole_table(options)
        rows = None if version is None else (await self.describe(inputs, **version)).rows
        if rows is not None:
            return rows
        found = await self._table(_opening(self._env, inputs, {**options, "columns": ()}), None)
        return int(found.num_rows)

    async def to_pandas(
        self,
        inputs: str | Iterable[str],
        *,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a pandas DataFrame of Arrow's types."""
        return as_pandas(await self._table(_opening(self._env, inputs, options), progress))

    async def to_polars(
        self,
        inputs: str | Iterable[str],
        *,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a Polars DataFrame."""
        return as_polars(await self._table(_opening(self._env, inputs, options), progress))

    async def to_duckdb(
        self,
        inputs: str | Iterable[str],
        *,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a DuckDB relation."""
        return as_duckdb(await self._table(_opening(self._env, inputs, options), progress))

    async def to_datafusion(
        self,
        inputs: str | Iterable[str],
        *,
        context: Any = None,
        table_name: str | None = None,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> Any:
        """Return the result of a scan as a DataFusion DataFrame."""
        found = await self._table(_opening(self._env, inputs, options), progress)
        return as_datafusion(found, context, table_name)

"""Parquet footers, parsed once and shared by the row groups of a file and by later scans."""

from __future__ import annotations

from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO, pyarrow_to_schema
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.errors import Reading, file_name
from strata.tables.files.confined import ConfinedFileIO
from strata.tables.files.lru import WeightedLru

NAME_MAPPING = "schema.name-mapping.default"
"""Table property that gives field ids to the columns of files without (Iceberg, "Column Projection")."""

_BUDGET_BYTES = 128 << 20
"""Bytes of parsed footers that are cached; beyond, the least recently used go."""

_COLUMNS_BYTES = 8 << 20
"""Bytes of column layouts that are cached; beyond, the least recently used go."""


# Memory of a parsed footer per serialized byte; measured: 4 to 6, with 4 row groups of 10 columns.
_PARSED_FACTOR = 6


# Memory of a column layout per byte of the serialized schema, its key included; measured: 5 to 9.
_COLUMNS_FACTOR = 10

_FIRST_VERSION_WITH_NANOS = 3


@attrs.frozen(eq=False)
class Footer:
    """The footer of one data file, read for one table.

    Attributes:
        metadata: Row groups, column chunks and their statistics.
        schema: The file's columns as an Iceberg schema, by field id (or the table's name mapping).
        leaves: For each top-level column of ``schema``, in order, the indices of its Parquet leaf columns.
    """

    metadata: pq.FileMetaData
    schema: Schema
    leaves: tuple[range, ...]


@attrs.frozen(eq=False)
class _Columns:
    """Column layout of a file, derived from its Arrow schema; fields as in :class:`Footer`."""

    schema: Schema
    leaves: tuple[range, ...]


class FooterCache:
    """Footers by file, bounded by bytes. Thread-safe.

    Column layouts are cached separately: most files of a table share theirs, and working one out takes ten
    times as long as reading a footer.

    Args:
        budget: Bytes of parsed footers to keep; beyond, the least recently used go.
    """

    def __init__(self) -> None:
        self._footers: WeightedLru[tuple[object, ...], Footer] = WeightedLru(_BUDGET_BYTES)
        self._columns: WeightedLru[tuple[object, ...], _Columns] = WeightedLru(_COLUMNS_BYTES)

    def __repr__(self) -> str:
        return f"<FooterCache {self._footers!r}>"

    def get(
        self,
        key: tuple[object, ...],
        io: FileIO,
        path: str,
        metadata: TableMetadata,
        *,
        what: str = "data file",
    ) -> Footer:
        """Return the footer of the file at ``path``; blocking when it is not cached.

        Args:
            key: Identity of the file in this table.
            io: Opens the file.
            path: The file's location.
            metadata: The table's metadata, whose name mapping gives ids to files without.
            what: The kind of file, for a refusal.

        Raises:
            RefusalError: DATA_UNREADABLE if the file is missing, damaged or has columns without ids.
        """
        footer = self._footers.get(key)
        if footer is None:
            with Reading(what, path):
                footer = self._read(io, path, metadata, what)
            self._footers.put(key, footer, footer.metadata.serialized_size * _PARSED_FACTOR + 1024)
        return footer

    def _read(self, io: FileIO, path: str, table: TableMetadata, what: str) -> Footer:
        with open_source(io, path) as source, pq.ParquetFile(source) as file:
            metadata = file.metadata
            arrow_schema = file.schema_arrow
        serialized = arrow_schema.remove_metadata().serialize().to_pybytes()
        key = (serialized, table.properties.get(NAME_MAPPING), table.format_version)
        columns = self._columns.get(key)
        if columns is None:
            columns = _columns_of(arrow_schema, table, path, what)
            self._columns.put(key, columns, len(serialized) * _COLUMNS_FACTOR)
        if sum(map(len, columns.leaves)) != metadata.num_columns:
            raise ValueError("the Arrow and Parquet schemas of the file disagree")
        return Footer(metadata, columns.schema, columns.leaves)


def open_source(io: FileIO, path: str) -> Any:
    """Open a file for random access; the caller closes it.

    Local files are read with ``pread``: a memory map of a file that was truncated meanwhile would kill the
    process instead of failing the read.
    """
    if isinstance(io, ConfinedFileIO):
        return pa.OSFile(io.local_path(path), "rb")
    if isinstance(io, PyArrowFileIO):
        scheme, _, local = PyArrowFileIO.parse_location(path, io.properties)
        if scheme == "file":
            return pa.OSFile(local, "rb")
    return io.new_input(path).open()


def is_local(io: FileIO, path: str) -> bool:
    """Test whether ``path`` is a local file, read without network round trips."""
    if isinstance(io, ConfinedFileIO):
        return True  # opens no other files
    return isinstance(io, PyArrowFileIO) and PyArrowFileIO.parse_location(path, io.properties)[0] == "file"


def _columns_of(arrow_schema: pa.Schema, table: TableMetadata, path: str, what: str) -> _Columns:
    try:
        schema = pyarrow_to_schema(
            arrow_schema,
            table.name_mapping(),
            downcast_ns_timestamp_to_us=table.format_version < _FIRST_VERSION_WITH_NANOS,
            format_version=table.format_version,
        )
    except Exception as cause:
        detail = f"The columns of {what} {file_name(path)} cannot be matched with the table's by field id"
        raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="data_unreadable")) from cause
    return _Columns(schema, _leaf_ranges(arrow_schema))


def _leaf_ranges(schema: pa.Schema) -> tuple[range, ...]:
    """Number the Parquet leaf columns under each top-level column (leaves are stored depth first).

    Columns are read by these numbers, not by name: ``a.b`` may be a column or a field of ``a``, and names may
    repeat.
    """
    ranges = []
    start = 0
    for field in schema:
        stop = start + _count_leaves(field.type)
        ranges.append(range(start, stop))
        start = stop
    return tuple(ranges)


def _count_leaves(kind: Any) -> int:
    if pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return 1
    if pa.types.is_map(kind):
        return _count_leaves(kind.key_type) + _count_leaves(kind.item_type)
    if pa.types.is_struct(kind):
        return sum(_count_leaves(kind.field(index).type) for index in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _count_leaves(kind.value_type)
    return 1

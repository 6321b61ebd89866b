"""Parquet footers, parsed once and shared by the row groups of a file and by later scans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.errors import EncryptedError, Reading, contradicted, file_name
from strata.tables.files.confined import LocalFileIO
from strata.tables.files.file_schema import (
    NAME_MAPPING,
    FileSchemaError,
    file_fields,
    is_plain,
    leaf_ranges,
)
from strata.tables.files.footer_check import FOOTER_CHECK
from strata.tables.files.lru import WeightedLru

# Memory of a parsed footer per serialized byte; measured: 4 to 6, with 4 row groups of 10 columns.
_PARSED_FACTOR = 6


# Memory of a column layout per byte of the serialized schema, its key included; measured: 5 to 9.
_COLUMNS_FACTOR = 10

_HINT = b"ARROW:schema"
"""Key of a footer's metadata with the Arrow types that the writer had, which Arrow's reader gives again."""

_NO_HINT = b"ARROW:unread"
"""A key as long that Arrow does not read."""

_MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
"""The magic number of a file with an encrypted footer (Parquet format, "Parquet Modular Encryption")."""

_LENGTH = 4
"""Bytes of a footer's length, which stands before the magic number (Parquet format, "File format")."""

TAIL_BYTES = 64 << 10
"""Bytes read first from the end of a file; a longer footer takes another read."""


@attrs.frozen(eq=False)
class Footer:
    """The footer of one data file, read for one table.

    Attributes:
        metadata: Row groups, column chunks and their statistics.
        fields: The file's columns, by field id (or the table's name mapping); others have negative ids.
        field_ids: The ids of the table among those of all fields.
        leaves: For each of ``fields``, in order, the indices of its Parquet leaf columns.
    """

    metadata: pq.FileMetaData
    fields: tuple[NestedField, ...]
    field_ids: frozenset[int]
    leaves: tuple[range, ...]


@attrs.frozen(eq=False)
class _Columns:
    """Column layout of a file, derived from its Arrow schema; fields as in :class:`Footer`.

    Attributes:
        plain: Whether the Arrow types are those of Parquet's own.
    """

    fields: tuple[NestedField, ...]
    field_ids: frozenset[int]
    leaves: tuple[range, ...]
    plain: bool


class FooterCache:
    """Footers by file, bounded by bytes. Thread-safe.

    Column layouts are cached separately: most files of a table share theirs, and working one out takes ten
    times as long as reading a footer.

    Args:
        nbytes: Bytes of parsed footers to keep; beyond, the least recently used go.
        column_bytes: Bytes of column layouts to keep.
    """

    def __init__(self, nbytes: int = 1 << 20, column_bytes: int = 1 << 20) -> None:
        self._footers: WeightedLru[tuple[object, ...], Footer] = WeightedLru(nbytes)
        self._columns: WeightedLru[tuple[object, ...], _Columns] = WeightedLru(column_bytes)

    def __repr__(self) -> str:
        return f"<FooterCache {self._footers!r}>"

    def resize(self, nbytes: int, column_bytes: int) -> None:
        """Change how much is kept, in bytes."""
        self._footers.resize(nbytes)
        self._columns.resize(column_bytes)

    def get(
        self,
        key: tuple[object, ...],
        io: FileIO,
        path: str,
        size: int,
        metadata: TableMetadata,
        *,
        what: str = "data file",
    ) -> Footer:
        """Return the footer of the file at ``path``; blocking when it is not cached.

        Args:
            key: Identity of the file in this table.
            io: Opens the file.
            path: The file's location.
            size: Its bytes, as the manifest says; a file of another size is not the one that was committed.
            metadata: The table's metadata, whose name mapping gives ids to files without.
            what: The kind of file, for a refusal.

        Raises:
            RefusalError: DATA_UNREADABLE if the file is missing, damaged or of another size; UNSUPPORTED if
                its columns cannot be matched with the table's.
        """
        footer = self._footers.get(key)
        if footer is None:
            with Reading(what, path):
                footer = self._read(io, path, size, metadata, what)
            self._footers.put(key, footer, footer.metadata.serialized_size * _PARSED_FACTOR + 1024)
        return footer

    def _read(self, io: FileIO, path: str, size: int, table: TableMetadata, what: str) -> Footer:
        with open_source(io, path) as source:
            check_size(source, size, what, path)
            tail = read_tail(source)
        with FOOTER_CHECK.checking(tail):
            try:
                metadata, columns = self._parse(tail, table, path, what)
                hinted = not columns.plain and _HINT in (metadata.metadata or {})
            except pa.ArrowInvalid:  # perhaps of a damaged hint, without which the file may be sound
                hinted = _HINT in tail
                if not hinted:
                    raise
            if hinted:
                metadata, columns = self._parse(_without_hint(tail), table, path, what)
        if sum(map(len, columns.leaves)) != metadata.num_columns:
            raise ValueError("the Arrow and Parquet schemas of the file disagree")
        return Footer(metadata, columns.fields, columns.field_ids, columns.leaves)

    def _parse(
        self, tail: bytes, table: TableMetadata, path: str, what: str
    ) -> tuple[pq.FileMetaData, _Columns]:
        with parquet_file(pa.BufferReader(tail)) as file:
            return file.metadata, self._columns_in(file.schema_arrow, table, path, what)

    def _columns_in(self, arrow_schema: pa.Schema, table: TableMetadata, path: str, what: str) -> _Columns:
        serialized = arrow_schema.remove_metadata().serialize().to_pybytes()
        key = (serialized, table.properties.get(NAME_MAPPING), table.format_version)
        columns = self._columns.get(key)
        if columns is None:
            columns = _columns_of(arrow_schema, table, path, what)
            self._columns.put(key, columns, len(serialized) * _COLUMNS_FACTOR)
        return columns


def parquet_file(source: Any, metadata: pq.FileMetaData | None = None, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file so that its INT96 timestamps are microseconds, exact in all of Iceberg's years.

    As nanoseconds, which is Arrow's own choice, they wrap around silently before 1677 and after 2262.

    Args:
        source: The open file.
        metadata: Its footer, if it is parsed already.
        options: Those of :class:`pyarrow.parquet.ParquetFile`.
    """
    return pq.ParquetFile(
        source,
        metadata=metadata,
        coerce_int96_timestamp_unit="us",
        page_checksum_verification=True,  # else Arrow passes over the checksums of pages
        **options,
    )


def _without_hint(tail: bytes) -> bytes:
    """Hide the Arrow types from Arrow: values are what their Parquet types say, other readers pass them over.

    The key is the last one of this name: statistics, which may hold any text, stand before the metadata.
    """
    before, _, after = tail.rpartition(_HINT)
    return before + _NO_HINT + after


@contextmanager
def open_parquet(source: Any, *, buffer_size: int = 0) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file whose footer is checked in another process; the body may touch its column chunks.

    Args:
        source: The open file.
        buffer_size: Bytes of a column chunk read at a time; 0: all of it.

    Raises:
        ValueError: If reading its footer's fields would end the process.
        Exception: As pyarrow's, if it is damaged otherwise.
    """
    tail = read_tail(source)
    with FOOTER_CHECK.checking(tail):
        metadata = pq.read_metadata(pa.BufferReader(tail))
        file = parquet_file(source, metadata, buffer_size=buffer_size)
    with file:
        yield file


def read_tail(source: Any) -> bytes:
    """Return a Parquet file from its footer on.

    Raises:
        EncryptedError: If its footer is encrypted.
        ValueError: If it does not end as a Parquet file does.
    """
    size = source.size()
    wanted = min(size, TAIL_BYTES)
    source.seek(size - wanted)
    end: bytes = source.read(wanted)
    if end.endswith(_ENCRYPTED):
        raise EncryptedError
    if len(end) < len(_MAGIC) + _LENGTH or not end.endswith(_MAGIC):
        raise ValueError("the file does not end with the magic number of Parquet")
    length = int.from_bytes(end[-len(_MAGIC) - _LENGTH : -len(_MAGIC)], "little") + _LENGTH + len(_MAGIC)
    if length > size:
        raise ValueError("its footer is longer than the file")
    if length > wanted:
        source.seek(size - length)
        end = source.read(length)
    return end[-length:]


def open_source(io: FileIO, path: str) -> Any:
    """Open a file for random access; the caller closes it.

    Local files are read with ``pread``: a memory map of a file that was truncated meanwhile would kill the
    process instead of failing the read.
    """
    return io.new_input(path).open()


def check_size(source: Any, size: int, what: str, path: str) -> None:
    """Refuse an open file that has not the bytes its manifest says: it is not the one that was committed.

    Raises:
        RefusalError: DATA_UNREADABLE, naming the file and both sizes.
    """
    found = source.size()
    if found != size:
        raise RefusalError(contradicted(what, path, f"{found} bytes", f"{size}"))


def is_local(io: FileIO, path: str) -> bool:
    """Test whether ``path`` is a local file, read without network round trips."""
    return isinstance(io, LocalFileIO) and io.is_local(path)


def _columns_of(arrow_schema: pa.Schema, table: TableMetadata, path: str, what: str) -> _Columns:
    mapping = table.properties.get(NAME_MAPPING)
    try:
        fields, field_ids = file_fields(arrow_schema, mapping, table.format_version)
    except FileSchemaError as cause:
        detail = f"The columns of {what} {file_name(path)} cannot be matched with the table's: {cause}"
        raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature")) from cause
    return _Columns(fields, field_ids, leaf_ranges(arrow_schema), is_plain(arrow_schema))

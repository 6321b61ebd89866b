"""Write record batches as Arrow, Parquet, CSV or JSON lines. Blocking, for threads of the work pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from strata.http.formats.exact_text import FormatError, check_type, csv_column, json_values

MOST_NESTED_BYTES: Final = 1 << 20
MOST_ROW_BYTES: Final = 16 << 20
"""Most bytes of lists, maps and structs in a row that is written as text, and of all of a row: Python does
nothing else while it makes one text of them."""


class Writer(Protocol):
    """Writes one result.

    Attributes:
        slice_bytes: About how many bytes of rows are written at a time.
        slice_values: How many values at most.
    """

    slice_bytes: int
    slice_values: int

    def begin(self, schema: pa.Schema) -> bytes:
        """Return the first bytes.

        Raises:
            FormatError: If the format cannot hold such columns exactly.
        """

    def write(self, batch: pa.RecordBatch) -> bytes:
        """Return the bytes of some rows.

        Raises:
            FormatError: If it cannot hold these values exactly.
        """

    def end(self) -> bytes:
        """Return the last bytes."""


class _Sink:
    """Collects what a writer of Arrow writes."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._written += len(part)
        return len(part)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Do nothing: what is written is here."""

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def take(self) -> bytes:
        """Return what was written since the last time."""
        found, self._parts = b"".join(self._parts), []
        return found


class ArrowWriter:
    """An Arrow IPC stream, with compressed buffers if a codec is named."""

    slice_bytes = 4 << 20
    slice_values = 1 << 62

    def __init__(self, codec: str | None) -> None:
        self._options = pa.ipc.IpcWriteOptions(
            metadata_version=pa.ipc.MetadataVersion.V5, use_threads=False, compression=codec
        )
        self._sink = _Sink()
        self._writer: Any = None

    def begin(self, schema: pa.Schema) -> bytes:
        """Return the schema message."""
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), schema, options=self._options)
        return self._sink.take()

    def write(self, batch: pa.RecordBatch) -> bytes:
        """Return a record batch message."""
        self._writer.write_batch(batch)
        return self._sink.take()

    def end(self) -> bytes:
        """Return the end-of-stream marker."""
        self._writer.close()
        return self._sink.take()


class ParquetWriter:
    """A Parquet file, row group by row group; the Arrow schema is stored in it."""

    slice_bytes = 8 << 20
    slice_values = 1 << 62

    def __init__(self) -> None:
        self._sink = _Sink()
        self._writer: Any = None

    def begin(self, schema: pa.Schema) -> bytes:
        """Return the magic number.

        Raises:
            FormatError: If there is no column, two have one name, or Parquet has no such type.
        """
        if not len(schema):
            raise FormatError("a Parquet file without columns holds no rows")
        _refuse_twins(schema)
        for field in schema:
            _refuse_second_units(field.type, field.name)
        try:
            self._writer = pq.ParquetWriter(
                pa.PythonFile(self._sink, mode="w"), schema, compression="zstd", version="2.6"
            )
        except pa.ArrowException as error:
            raise FormatError(_first_line(error)) from None
        return self._sink.take()

    def write(self, batch: pa.RecordBatch) -> bytes:
        """Return a row group."""
        try:
            self._writer.write_table(pa.Table.from_batches([batch]), row_group_size=max(1, batch.num_rows))
        except pa.ArrowException as error:
            raise FormatError(_first_line(error)) from None
        return self._sink.take()

    def end(self) -> bytes:
        """Return the footer."""
        self._writer.close()
        return self._sink.take()


def _refuse_second_units(kind: pa.DataType, column: str) -> None:
    """Refuse what Parquet would hold as another type: times in seconds, days in milliseconds."""
    types = pa.types
    if types.is_date64(kind) or ((types.is_timestamp(kind) or types.is_time32(kind)) and kind.unit == "s"):
        raise FormatError(f"column {column} is of type {kind}, which Parquet does not have")
    for place in range(kind.num_fields):
        _refuse_second_units(kind.field(place).type, column)


class CsvWriter:
    """RFC 4180 with a header line: a null is nothing, an empty text is ``""``."""

    slice_bytes = 256 << 10
    slice_values = 20_000

    def __init__(self) -> None:
        self._names: list[str] = []

    def begin(self, schema: pa.Schema) -> bytes:
        """Return the header line.

        Raises:
            FormatError: If there is no column, or values of one have no exact text.
        """
        if not len(schema):
            raise FormatError("CSV without columns holds no rows")
        for field in schema:
            check_type(field.type, field.name)
        self._names = schema.names
        return ",".join('"' + name.replace('"', '""') + '"' for name in self._names).encode() + b"\n"

    def write(self, batch: pa.RecordBatch) -> bytes:
        """Return some lines.

        Raises:
            FormatError: If a value has no exact text; a null alone in its line has none, for readers skip
                empty lines.
        """
        _refuse_large_rows(batch)
        if len(self._names) == 1 and batch.column(0).null_count:
            raise FormatError("a null is alone in its line; ask for a second column, or for JSON lines")
        columns = [csv_column(column) for column in batch.columns]
        names = [str(place) for place in range(len(columns))]
        sink = pa.BufferOutputStream()
        options = pcsv.WriteOptions(include_header=False)
        pcsv.write_csv(pa.RecordBatch.from_arrays(columns, names), sink, options)
        return bytes(sink.getvalue())

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class JsonLinesWriter:
    """One JSON object a row and a line."""

    slice_bytes = 256 << 10
    slice_values = 20_000

    def __init__(self) -> None:
        self._names: list[str] = []
        self._encoder = msgspec.json.Encoder()

    def begin(self, schema: pa.Schema) -> bytes:
        """Return nothing, after a look at the columns.

        Raises:
            FormatError: If two columns have one name, or values of one have no exact text.
        """
        _refuse_twins(schema)
        for field in schema:
            check_type(field.type, field.name)
        self._names = schema.names
        return b""

    def write(self, batch: pa.RecordBatch) -> bytes:
        """Return some lines.

        Raises:
            FormatError: If a value has no exact text.
        """
        _refuse_large_rows(batch)
        if not self._names:
            return b"{}\n" * int(batch.num_rows)
        columns = [json_values(column) for column in batch.columns]
        names = self._names
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        return bytes(self._encoder.encode_lines(rows))

    def end(self) -> bytes:
        """Return nothing."""
        return b""


def _refuse_twins(schema: pa.Schema) -> None:
    if len(set(schema.names)) < len(schema.names):
        raise FormatError("two columns have one name")


def _refuse_large_rows(batch: pa.RecordBatch) -> None:
    if batch.num_rows != 1:  # several are together no larger than a slice
        return
    nested = sum(column.nbytes for column in batch.columns if pa.types.is_nested(column.type))
    if nested > MOST_NESTED_BYTES or batch.nbytes > MOST_ROW_BYTES:
        raise FormatError("a row is too large for a line of text")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


WRITERS: Final[Mapping[str, Callable[[], Writer]]] = {
    "parquet": ParquetWriter,
    "csv": CsvWriter,
    "jsonl": JsonLinesWriter,
}
"""Writers of the formats other than Arrow."""

"""Read the deleted row positions of a data file from position delete files and deletion vectors.

:mod:`strata.tables.read.row_group` drops the rows.

Positions are kept as roaring bitmaps, at most a bit for each row of the data file. A delete file is read a
few thousand rows at a time, whatever its size, and in steps between which other work gets the thread.
"""

from __future__ import annotations

import array
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table.deletion_vector import PROPERTY_REFERENCED_DATA_FILE
from pyiceberg.table.puffin import PuffinFile
from pyroaring import BitMap64

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.errors import Reading, file_name
from strata.tables.files.file_schema import leaf_ranges
from strata.tables.files.footers import check_size, open_parquet, open_source
from strata.tables.plan.deletes import DeleteFile
from strata.tables.plan.manifests import PATH_FIELD_ID

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A reading in steps: yields between them, and returns its result."""

BATCH_ROWS = 32 * 1024
"""Rows of a delete file that are decoded at a time: with paths of 200 bytes, 7 MB."""

STEP_ROWS = 8 * BATCH_ROWS
"""Rows of a delete file that are read in one step: about 20 ms."""

READ_BYTES = 1024 * 1024
"""Bytes of one read from a column chunk of a delete file."""

PUFFIN_BYTES = 64 * 1024 * 1024
"""Bytes of the largest Puffin file whose deletion vector has no offset, so that all of it is read."""

LEAST_BYTES = 1024 * 1024
"""Bytes of positions that are always held, however small the memory budget."""

_POSITION_FIELD_ID = 2147483545
_FIELD_ID = b"PARQUET:field_id"
_VECTOR_MAGIC = b"\xd1\xd3\x39\x64"
_WORD = 4
_POSITION_BYTES = 8


def deleted_positions(
    table: LoadedTable, path: str, rows: int, deletes: Iterable[DeleteFile]
) -> Steps[BitMap64]:
    """Return the deleted positions of a data file, counted from its first row; blocking, in steps.

    Args:
        table: Opens the delete files, and caches them for the file's next row group.
        path: The data file, exactly as the metadata spells it.
        rows: Rows of the data file; positions beyond are dropped.
        deletes: The delete files of the data file; equality deletes are skipped (see
            :mod:`strata.tables.read.equality_deletes`).

    Returns:
        The positions, not to be changed: they may be in the cache.

    Raises:
        RefusalError: DATA_UNREADABLE, naming the delete file that is missing or damaged; TOO_LARGE, naming
            the data file, if its positions take more memory than there is for the deletes of all tables.
    """
    positions, most = BitMap64(), max(LEAST_BYTES, table.caches.deletes.budget)
    for delete in deletes:
        if delete.equality_ids:
            continue
        key = ("positions", table.ref.source, table.uuid, path, delete)
        own = table.caches.deletes.get(key)
        if own is None:
            with Reading("delete file", delete.path):
                if delete.file_format == "PUFFIN":
                    own = _read_vector(table.io, path, rows, delete)
                else:
                    own = yield from _read_positions(table.io, path, rows, delete, most)
            table.caches.deletes.put(key, own, _weight(own))
        positions = positions | own if positions else own
        _check_memory(positions, most, path)
    return positions


def kept_rows(positions: BitMap64, first_row: int, rows: int) -> Any | None:
    """Return the indices of the rows to keep of ``[first_row, first_row + rows)``, from 0; ``None``: all."""
    every = BitMap64(range(first_row, first_row + rows))
    if not positions.intersection_cardinality(every):
        return None
    kept = (every - positions).shift(-first_row).to_array()
    return pa.Array.from_buffers(pa.uint64(), len(kept), [None, pa.py_buffer(kept)])


def _check_memory(positions: BitMap64, most: int, path: str) -> None:
    if _weight(positions) > most:
        detail = (
            f"The deleted positions of data file {file_name(path)} take more than {most} bytes, the part of "
            "memory_budget_bytes for them. Compact the table, or raise the setting."
        )
        raise RefusalError(Refused(Reason.TOO_LARGE, detail, "deletes_too_large"))


@contextmanager
def _open_delete(io: FileIO, delete: DeleteFile) -> Iterator[Any]:
    with open_source(io, delete.path) as source:
        check_size(source, delete.size, "delete file", delete.path)
        yield source


def _read_positions(io: FileIO, path: str, rows: int, delete: DeleteFile, most: int) -> Steps[BitMap64]:
    found, every, read = BitMap64(), BitMap64(range(rows)), 0
    with _open_delete(io, delete) as source, open_parquet(source, buffer_size=READ_BYTES) as file:
        schema = file.schema_arrow
        path_leaf, path_name = _column(schema, PATH_FIELD_ID, "file_path")
        position_leaf, position_name = _column(schema, _POSITION_FIELD_ID, "pos")
        metadata = file.metadata
        groups = [
            index
            for index in range(metadata.num_row_groups)
            if _may_hold(metadata.row_group(index).column(path_leaf), path)
        ]
        columns = [path_leaf, position_leaf]
        wanted = pa.scalar(path.encode(), pa.large_binary())
        for batch in file.reader.iter_batches(
            BATCH_ROWS, row_groups=groups, column_indices=columns, use_threads=False
        ):
            paths = batch.column(path_name).cast(pa.large_binary())
            mine = batch.column(position_name).filter(pc.equal(paths, wanted))
            found |= _bitmap(mine) & every  # of positions far apart each takes as much as a thousand
            read += batch.num_rows
            if read >= STEP_ROWS:
                read = 0
                _check_memory(found, most, path)
                yield
    return found


def _bitmap(positions: Any) -> BitMap64:
    """Return positions as a bitmap.

    Raises:
        ValueError: If a position is null or negative.
    """
    if positions.null_count or (len(positions) and pc.min(positions).as_py() < 0):
        raise ValueError("a position is null or negative")
    values = positions.cast(pa.int64())
    raw = memoryview(values.buffers()[1] or b"")
    start = values.offset * _POSITION_BYTES
    return BitMap64(array.array("Q", raw[start : start + len(values) * _POSITION_BYTES].tobytes()))


def _weight(positions: BitMap64) -> int:
    """Return the bytes of memory of a bitmap."""
    found = positions.get_statistics()
    arrays, runs = found["n_bytes_array_containers"], found["n_bytes_run_containers"]
    return int(arrays + runs + found["n_bytes_bitset_containers"]) + 64 * int(found["n_containers"]) + 512


def _column(schema: pa.Schema, field_id: int, name: str) -> tuple[int, str]:
    """Return Parquet column and name of a column, by id, else by name; a struct has several columns."""
    leaves = leaf_ranges(schema)
    for index, field in enumerate(schema):
        if (field.metadata or {}).get(_FIELD_ID) == str(field_id).encode():
            return leaves[index].start, field.name
    index = int(schema.get_field_index(name))
    if index < 0:
        raise LookupError(f"the delete file has no column {name}")
    return leaves[index].start, name


def _may_hold(chunk: pq.ColumnChunkMetaData, path: str) -> bool:
    statistics = chunk.statistics if chunk.is_stats_set else None
    if statistics is None or not statistics.has_min_max:
        return True
    least, most = statistics.min, statistics.max
    wanted = path if isinstance(least, str) else path.encode()
    return bool(least <= wanted <= most)


def _read_vector(io: FileIO, path: str, rows: int, delete: DeleteFile) -> BitMap64:
    every = BitMap64(range(rows))
    with _open_delete(io, delete) as source:
        if delete.content_offset is not None and delete.content_size is not None:
            if delete.content_size > _most_bytes(rows):
                raise ValueError("the deletion vector is larger than the rows of its data file allow")
            source.seek(delete.content_offset)
            return _decode_vector(source.read(delete.content_size)) & every
        puffin_bytes = source.read(PUFFIN_BYTES + 1)
        if len(puffin_bytes) > PUFFIN_BYTES:
            raise ValueError("the Puffin file is too large for a deletion vector without an offset")
    puffin = PuffinFile(puffin_bytes)
    found = BitMap64()
    for blob in puffin.footer.blobs:
        if blob.properties.get(PROPERTY_REFERENCED_DATA_FILE) == path:
            found |= _decode_vector(puffin.get_blob_payload(blob)) & every
    return found


def _most_bytes(rows: int) -> int:
    """Return the most bytes of a deletion vector: 16 times a bit for each row, and its frame.

    A container of 65,536 rows is a set of bits or less where a writer chooses well, and at most 32,768 runs
    of four bytes each.
    """
    return 2 * (rows + 64 * 1024) + 1024


def _decode_vector(blob: bytes) -> BitMap64:
    """Decode a ``deletion-vector-v1`` blob (Puffin specification): length, magic, 64-bit roaring, CRC-32."""
    length = int.from_bytes(blob[:_WORD], "big")
    body, check = blob[_WORD : _WORD + length], blob[_WORD + length : 2 * _WORD + length]
    if len(body) != length or body[:_WORD] != _VECTOR_MAGIC:
        raise ValueError("not a deletion vector")
    if zlib.crc32(body) != int.from_bytes(check, "big"):
        raise ValueError("the deletion vector's checksum does not match")
    return BitMap64.deserialize(body[_WORD:])

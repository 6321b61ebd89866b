"""Read the deleted row positions of a data file from position delete files and deletion vectors."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table.deletion_vector import PROPERTY_REFERENCED_DATA_FILE
from pyiceberg.table.puffin import PuffinFile
from pyroaring import BitMap64

from strata.tables.catalogs.loading import LoadedTable
from strata.tables.errors import Reading
from strata.tables.files.footers import open_source
from strata.tables.plan.deletes import DeleteFile
from strata.tables.plan.manifests import PATH_FIELD_ID

_POSITION_FIELD_ID = 2147483545
_FIELD_ID = b"PARQUET:field_id"
_VECTOR_MAGIC = b"\xd1\xd3\x39\x64"
_WORD = 4


def deleted_positions(table: LoadedTable, path: str, deletes: Iterable[DeleteFile]) -> BitMap64:
    """Return the deleted positions of a data file, counted from its first row; blocking.

    Args:
        table: Opens the delete files, and caches them for the file's next row group.
        path: The data file, exactly as the metadata spells it.
        deletes: The delete files of the data file; equality deletes are skipped (see
            :mod:`strata.tables.read.equality_deletes`).

    Raises:
        RefusalError: DATA_UNREADABLE, naming the delete file that is missing or damaged.
    """
    positions = BitMap64()
    for delete in deletes:
        if delete.equality_ids:
            continue
        key = ("positions", table.ref.catalog, table.uuid, path, delete)
        own = table.caches.deletes.get(key)
        if own is None:
            with Reading("delete file", delete.path):
                read = _read_vector if delete.file_format == "PUFFIN" else _read_positions
                own = read(table.io, path, delete)
            table.caches.deletes.put(key, own, len(own.serialize()) + 256)
        positions |= own
    return positions


def keep_mask(positions: BitMap64, first_row: int, rows: int) -> Any | None:
    """Return a BooleanArray of the rows to keep of ``[first_row, first_row + rows)``; ``None``: all."""
    deleted = positions & BitMap64(range(first_row, first_row + rows)) if positions else positions
    if not deleted:
        return None
    bits = bytearray(b"\xff") * ((rows + 7) // 8)
    for position in deleted:
        offset = position - first_row
        bits[offset >> 3] &= ~(1 << (offset & 7))
    return pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(bytes(bits))])


def _read_positions(io: FileIO, path: str, delete: DeleteFile) -> BitMap64:
    found = BitMap64()
    with open_source(io, delete.path) as source, pq.ParquetFile(source) as file:
        schema = file.schema_arrow
        path_index = _column(schema, PATH_FIELD_ID, "file_path")
        position_index = _column(schema, _POSITION_FIELD_ID, "pos")
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            if not _may_hold(group.column(path_index), path):
                continue
            table = file.reader.read_row_group(
                index, column_indices=[path_index, position_index], use_threads=False
            )
            paths, rows = (
                table.column(int(path_index > position_index)),
                table.column(int(path_index < position_index)),
            )
            mine = rows.filter(pc.equal(paths, pa.scalar(path, type=paths.type)))
            found |= BitMap64(mine.to_pylist())
    return found


def _column(schema: pa.Schema, field_id: int, name: str) -> int:
    for index, field in enumerate(schema):
        if (field.metadata or {}).get(_FIELD_ID) == str(field_id).encode():
            return index
    index = schema.get_field_index(name)
    if index < 0:
        raise LookupError(f"the delete file has no column {name}")
    return int(index)


def _may_hold(chunk: pq.ColumnChunkMetaData, path: str) -> bool:
    statistics = chunk.statistics if chunk.is_stats_set else None
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(statistics.min <= path <= statistics.max)


def _read_vector(io: FileIO, path: str, delete: DeleteFile) -> BitMap64:
    with open_source(io, delete.path) as source:
        if delete.content_offset is not None and delete.content_size is not None:
            source.seek(delete.content_offset)
            return _decode_vector(source.read(delete.content_size))
        puffin = PuffinFile(source.read())
    found = BitMap64()
    for blob in puffin.footer.blobs:
        if blob.properties.get(PROPERTY_REFERENCED_DATA_FILE) == path:
            found |= _decode_vector(puffin.get_blob_payload(blob))
    return found


def _decode_vector(blob: bytes) -> BitMap64:
    """Decode a ``deletion-vector-v1`` blob (Puffin specification): length, magic, 64-bit roaring, CRC-32."""
    length = int.from_bytes(blob[:_WORD], "big")
    body, check = blob[_WORD : _WORD + length], blob[_WORD + length : 2 * _WORD + length]
    if len(body) != length or body[:_WORD] != _VECTOR_MAGIC:
        raise ValueError("not a deletion vector")
    if zlib.crc32(body) != int.from_bytes(check, "big"):
        raise ValueError("the deletion vector's checksum does not match")
    return BitMap64.deserialize(body[_WORD:])

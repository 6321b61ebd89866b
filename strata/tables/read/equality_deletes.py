"""Apply equality deletes: remove the rows whose key columns equal a row of a delete file.

Nulls equal nulls and NaN equals NaN (Iceberg specification, "Equality Delete Files"). Keys are compared in
the types of the table's schema, so a file written before a column was widened or renamed matches, too. A key
column absent from a data file has its default there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.errors import Reading, file_name
from strata.tables.files.footers import Footer, open_source
from strata.tables.plan.deletes import DeleteFile
from strata.tables.read.project import Rows, project_field
from strata.tables.scan.nested import leaf_of, struct_path


@attrs.frozen(eq=False)
class KeyColumn:
    """A column that equality deletes compare.

    Attributes:
        root: The top-level column, pruned to the key column.
        kind: Arrow type of ``root``.
        path: Names from ``root`` down to the key column.
    """

    root: NestedField
    kind: Any
    path: tuple[str, ...]


def key_columns(table: LoadedTable, schema: Schema, deletes: Sequence[DeleteFile]) -> dict[int, KeyColumn]:
    """Return the key columns of the equality deletes among ``deletes``, by field id.

    Args:
        table: The table.
        schema: The scan's schema; keys dropped since are looked up in the table's older schemas.
        deletes: The delete files of a data file.

    Raises:
        RefusalError: UNSUPPORTED, naming the delete file, if a key is in no schema or inside a list or map.
    """
    found: dict[int, KeyColumn] = {}
    for delete in deletes:
        for field_id in delete.equality_ids:
            if field_id not in found:
                found[field_id] = _key_column(table.metadata, schema, field_id, delete)
    return found


def equality_mask(
    table: LoadedTable, deletes: Sequence[DeleteFile], keys: Mapping[int, KeyColumn], data: Mapping[int, Any]
) -> Any | None:
    """Return a BooleanArray of the rows to keep; ``None`` if no equality delete applies. Blocking.

    Args:
        table: The table.
        deletes: The delete files of the data file.
        keys: The key columns of ``deletes`` by field id.
        data: The values of each key column in the data, by field id.

    Raises:
        RefusalError: DATA_UNREADABLE, naming the delete file that is missing or damaged.
    """
    mask = None
    for delete in deletes:
        if not delete.equality_ids:
            continue
        with Reading("delete file", delete.path):
            gone = _read_keys(table, delete, keys)
            own = _differs([data[field_id] for field_id in delete.equality_ids], gone) if gone else None
        if own is None:
            continue
        mask = own if mask is None else pc.and_(mask, own)
    return mask


def key_values(key: KeyColumn, array: Any | None, have: NestedField | None, rows: Rows) -> Any:
    """Return a key column's values, given the file's array of its root (``None`` if the file lacks it)."""
    leaf = leaf_of(project_field(array, have, key.root, key.kind, rows), key.path)
    return leaf.storage if isinstance(leaf, pa.ExtensionArray) else leaf


def _key_column(metadata: TableMetadata, schema: Schema, field_id: int, delete: DeleteFile) -> KeyColumn:
    newest_first = sorted(metadata.schemas, key=lambda one: one.schema_id, reverse=True)
    for one in (schema, *newest_first):
        path = struct_path(one.fields, field_id)
        if path is None:
            continue
        root = prune_columns(one, {field_id}, select_full_types=True).fields[0]
        return KeyColumn(root, schema_to_pyarrow(Schema(root), include_field_ids=False).field(0).type, path)
    detail = (
        f"The table cannot be read exactly: the keys of {file_name(delete.path)} are in none of its schemas"
    )
    raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))


def _read_keys(table: LoadedTable, delete: DeleteFile, keys: Mapping[int, KeyColumn]) -> list[Any]:
    cache_key = ("equality", table.ref.catalog, table.uuid, delete)
    kept: list[Any] | None = table.caches.deletes.get(cache_key)
    if kept is None:
        footer_key = (table.ref.catalog, table.uuid, delete.path, delete.size)
        footer = table.caches.footers.get(
            footer_key, table.io, delete.path, table.metadata, what="delete file"
        )
        groups = _read_groups(table, delete, footer, [keys[field_id] for field_id in delete.equality_ids])
        kept = [pa.concat_arrays(column) for column in zip(*groups, strict=True)]
        table.caches.deletes.put(cache_key, kept, sum(column.nbytes for column in kept) + 256)
    return kept


def _read_groups(
    table: LoadedTable, delete: DeleteFile, footer: Footer, keys: Sequence[KeyColumn]
) -> list[list[Any]]:
    have = {field.field_id: (at, field) for at, field in enumerate(footer.schema.fields)}
    groups = []
    with (
        open_source(table.io, delete.path) as source,
        pq.ParquetFile(source, metadata=footer.metadata) as file,
    ):
        for index in range(footer.metadata.num_row_groups):
            columns = []
            for key in keys:
                # A delete file without one of its own key columns is damaged.
                at, old = have[key.root.field_id]
                raw = file.reader.read_row_group(
                    index, column_indices=list(footer.leaves[at]), use_threads=False
                ).column(0)
                array = raw.combine_chunks()
                columns.append(key_values(key, array, old, Rows(len(array))))
            groups.append(columns)
    return groups


def _differs(data: Sequence[Any], gone: Sequence[Any]) -> Any:
    """Return a BooleanArray: true for the rows of ``data`` that equal no row of ``gone``."""
    rows = len(data[0])
    codes: Any = None
    for own, other in zip(data, gone, strict=True):
        # Dictionary codes: equal values get equal codes, nulls and NaN included; two columns' codes form one.
        numbers = _number(pa.concat_arrays([own, other]))
        if codes is not None:
            width = pa.scalar((pc.max(numbers).as_py() or 0) + 1, pa.int64())
            numbers = _number(pc.add(pc.multiply(codes, width), numbers))
        codes = numbers
    return pc.invert(pc.is_in(codes.slice(0, rows), value_set=codes.slice(rows)))


def _number(values: Any) -> Any:
    return values.dictionary_encode(null_encoding="encode").indices.cast(pa.int64())

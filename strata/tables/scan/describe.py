"""Describe a table from its metadata: columns, partitioning, order and properties, as its caller may read it.

Columns, partition fields and sort fields are written as Iceberg's own JSON (the specification's appendix C).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortOrder
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from strata.tables.catalogs.loading import LoadedTable
from strata.tables.catalogs.refs import TableRef
from strata.tables.errors import refusable
from strata.tables.scan.cell_grants import CellGrants
from strata.tables.scan.params import ScanSpec
from strata.tables.scan.resolve import readable_part
from strata.tables.scan.schema_index import index_of

SETTINGS = ("format-version", "commit.", "gc.enabled", "history.expire.", "read.", "write.")
"""Beginnings of the properties that are Iceberg's own settings of a table ("Configuration")."""

TEXTS = frozenset({"comment", "description", "owner"})
"""Further properties that are shown; any other one may be a secret that its writer put there."""

LONGEST_PROPERTY = 1024
"""Most characters of a property that is shown; a longer one is left out."""

_OF_COLUMNS = (
    *("write.metadata.metrics.column.", "write.parquet.bloom-filter-", "write.parquet.stats-enabled."),
    *(
        "write.object-storage.",
        "write.data.",
        "write.metadata.path",
        "write.folder-storage.",
        "write.location-",
    ),
)
"""Beginnings of settings that name columns, or locations in the store."""


@attrs.frozen
class TableDescription:
    """A table as a caller may read it.

    Attributes:
        ref: Its name.
        uuid: Its UUID; a table that was dropped and made again has another.
        format_version: Version of the table format.
        snapshot_id: The snapshot that is described; ``None`` for a table without snapshots.
        snapshot_ms: When it was made, in milliseconds since the epoch.
        updated_ms: When the table was last changed, in milliseconds since the epoch.
        schema: The columns that the caller may read.
        partition_spec: The partition fields made of them.
        sort_order: The sort fields made of them.
        properties: Iceberg's settings of the table, and texts for people.
        restricted: Whether the caller may not read all cells.
    """

    ref: TableRef
    uuid: str
    format_version: int
    snapshot_id: int | None
    snapshot_ms: int | None
    updated_ms: int
    schema: dict[str, Any]
    partition_spec: list[dict[str, Any]]
    sort_order: list[dict[str, Any]]
    properties: dict[str, str]
    restricted: bool


@refusable
def describe_table(table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None) -> TableDescription:
    """Describe a table at the snapshot that a scan with ``spec`` would read.

    Args:
        table: The table.
        spec: Says which snapshot.
        cell_grants: The caller's cell grants; ``None``: the whole table.

    Returns a refusal (NOT_FOUND) for a snapshot, branch or tag that does not exist.
    """
    metadata = table.metadata
    snapshot, base, fields = readable_part(table, spec, cell_grants)
    shown = {one for field in fields for one in _ids(field)}
    restricted = cell_grants is not None or table.restrictions is not None
    return TableDescription(
        ref=table.ref,
        uuid=table.uuid,
        format_version=metadata.format_version,
        snapshot_id=None if snapshot is None else snapshot.snapshot_id,
        snapshot_ms=None if snapshot is None else snapshot.timestamp_ms,
        updated_ms=metadata.last_updated_ms,
        schema=_schema(base, fields, shown),
        partition_spec=list(_partition_fields(metadata.spec(), shown)),
        sort_order=list(_sort_fields(metadata.sort_order(), shown)),
        properties=dict(_properties(metadata, whole=not restricted)),
        restricted=restricted,
    )


def _ids(field: NestedField) -> set[int]:
    return set(index_of(Schema(field)).inside(field.field_id))


def _schema(base: Schema, fields: tuple[NestedField, ...], shown: set[int]) -> dict[str, Any]:
    keys = [one for one in base.identifier_field_ids if one in shown]
    found = {"type": "struct", "schema-id": base.schema_id, "fields": [_field(field) for field in fields]}
    return {**found, "identifier-field-ids": keys} if keys else found


def _field(field: NestedField) -> dict[str, Any]:
    found = {
        "id": field.field_id,
        "name": field.name,
        "required": field.required,
        "type": _type(field.field_type),
    }
    if field.doc is not None:
        found["doc"] = field.doc
    if field.initial_default is not None:
        found["initial-default"] = field.model_dump(mode="json", by_alias=True)["initial-default"]
    return found


def _type(kind: IcebergType) -> Any:
    match kind:
        case StructType():
            return {"type": "struct", "fields": [_field(field) for field in kind.fields]}
        case ListType():
            return {
                "type": "list",
                "element-id": kind.element_id,
                "element": _type(kind.element_type),
                "element-required": kind.element_required,
            }
        case MapType():
            return {
                "type": "map",
                "key-id": kind.key_id,
                "key": _type(kind.key_type),
                "value-id": kind.value_id,
                "value": _type(kind.value_type),
                "value-required": kind.value_required,
            }
    return str(kind)


def _partition_fields(spec: PartitionSpec, shown: set[int]) -> Iterator[dict[str, Any]]:
    for field in spec.fields:
        if field.source_id in shown:
            yield {
                "field-id": field.field_id,
                "name": field.name,
                "source-id": field.source_id,
                "transform": str(field.transform),
            }


def _sort_fields(order: SortOrder | None, shown: set[int]) -> Iterator[dict[str, Any]]:
    for field in () if order is None else order.fields:
        if field.source_id in shown:
            yield {
                "source-id": field.source_id,
                "transform": str(field.transform),
                "direction": field.direction.value,
                "null-order": field.null_order.value,
            }


def _properties(metadata: TableMetadata, *, whole: bool) -> Iterator[tuple[str, str]]:
    """Yield the properties that are shown; a caller of some cells sees none that people wrote."""
    for key, value in sorted(metadata.properties.items()):
        is_setting = key.startswith(SETTINGS) and not key.startswith(_OF_COLUMNS)
        if (is_setting or (whole and key in TEXTS)) and len(value) <= LONGEST_PROPERTY:
            yield key, value

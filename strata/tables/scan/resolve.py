"""Resolve scan parameters against a loaded table: snapshot, columns and typed predicates.

Cheap and without I/O; every error of the request is found here, before a file is opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from typing import NoReturn

import attrs
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IcebergType, NestedField

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.errors import refusable
from strata.tables.files.footers import NAME_MAPPING
from strata.tables.scan.cell_grants import (
    VIEW,
    Alternatives,
    BoundGrants,
    CellGrants,
    bind,
    leaf_ids,
    signature,
)
from strata.tables.scan.literals import Literal, LiteralTypeError, literals_of
from strata.tables.scan.nested import struct_path
from strata.tables.scan.params import Filter, ScanSpec
from strata.tables.scan.predicates import Predicate, normal_predicate
from strata.tables.scan.values import Timestamp

_LOC = ("body", "transform", "params")
_NANOS_PER_MILLI = 1_000_000
_SCAN_BYTES = 4096


@attrs.frozen(eq=False)
class ResolvedScan:
    """A scan with all names, values and versions resolved.

    Attributes:
        table: The table.
        spec: The request.
        snapshot_id: The snapshot to read; ``None`` for a table without snapshots.
        table_schema: The schema in which names were looked up: the snapshot's if the request names one, else
            the table's current one.
        schema: The columns of the result, in request order.
        arrow_schema: The Arrow schema of the result: that of pyiceberg's batch reader (``large_string``,
            ``large_binary``, ``large_list``), without field-id metadata; independent of the files.
        read_schema: ``schema``, then the columns that only predicates need; a struct that both need has the
            fields of both.
        read_arrow_schema: Arrow schema of ``read_schema``.
        predicates: AND-ed typed predicates, of the request and of the cell grants.
        clauses: Further clauses of the cell grants; of each, at least one alternative must hold.
        version: The input version for provenance. Equal versions give equal rows for equal parameters.
        plan_key: Equal keys have equal file lists, whatever the columns; see :meth:`ScanPlan.for_scan`.
    """

    table: LoadedTable
    spec: ScanSpec
    snapshot_id: int | None
    table_schema: Schema = attrs.field(repr=False)
    schema: Schema = attrs.field(repr=False)
    arrow_schema: pa.Schema = attrs.field(repr=False)
    read_schema: Schema = attrs.field(repr=False)
    read_arrow_schema: pa.Schema = attrs.field(repr=False)
    predicates: tuple[Predicate, ...]
    clauses: tuple[Alternatives, ...]
    version: str
    plan_key: Hashable

    @property
    def view(self) -> str:
        """The part of ``version`` that identifies the cells read under cell grants; empty: all cells."""
        _, marker, view = self.version.partition(VIEW)
        return marker + view

    @property
    def filtered(self) -> bool:
        """Whether predicates or clauses may remove rows."""
        return bool(self.predicates or self.clauses)


@refusable
def resolve_scan(table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None = None) -> ResolvedScan:
    """Resolve ``spec`` against the table's metadata; cached by the representation of its arguments.

    Args:
        table: The table.
        spec: The request.
        cell_grants: The caller's cell grants; ``None``: the whole table. A column that is not granted counts
            as missing; without a projection, the columns are the granted ones.

    Returns a refusal for an unknown snapshot, branch or tag (NOT_FOUND), and for an unknown or repeated
    column or a filter value that is not of its column's type (BAD_REQUEST).
    """
    # Equal specs may differ (1 == True == 1.0), their representations do not.
    key = repr(spec) if cell_grants is None else repr((spec, cell_grants))
    known = table.scans.get(key)
    if isinstance(known, ResolvedScan):
        return known
    scan = _resolve(table, spec, cell_grants)
    table.scans.put(key, scan, len(key) + _SCAN_BYTES)
    return scan


def _resolve(table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None) -> ResolvedScan:
    metadata = table.metadata
    snapshot, explicit = _choose_snapshot(metadata, spec)
    base = _schema_of(metadata, snapshot) if explicit else metadata.schema()
    bound = None if cell_grants is None else bind(cell_grants, metadata.schema(), base, table.ref.resource)
    fields = _project(base, spec.columns, bound)
    predicates, filter_ids = _bind_filters(base, spec.filters, bound)
    clauses: tuple[Alternatives, ...] = ()
    view = ""
    if bound is not None:
        used = {leaf for field in fields for leaf in leaf_ids(field)}
        used |= {leaf for field_id in filter_ids for leaf in bound.leaves_of(field_id)}
        clauses = bound.rows(used)
        view = VIEW + signature(used, clauses)
        # A clause with one alternative prunes like any predicate.
        forced = [one for clause in clauses if len(clause) == 1 for one in clause[0]]
        predicates += tuple(one for one in dict.fromkeys(forced) if one not in predicates)
        clauses = tuple(clause for clause in clauses if len(clause) != 1)
        filter_ids |= {one.field_id for one in predicates}
        filter_ids |= {one.field_id for clause in clauses for option in clause for one in option}
    read_fields = _read_fields(base, fields, filter_ids)
    schema = Schema(*fields, schema_id=base.schema_id)
    read_schema = schema if read_fields == fields else Schema(*read_fields, schema_id=base.schema_id)
    snapshot_id = None if snapshot is None else snapshot.snapshot_id
    version = f"{table.uuid}:{snapshot_id}:{base.schema_id}{mapping_digest(metadata)}{view}"
    arrow_schema = schema_to_pyarrow(schema, include_field_ids=False)
    return ResolvedScan(
        table=table,
        spec=spec,
        snapshot_id=snapshot_id,
        table_schema=base,
        schema=schema,
        arrow_schema=arrow_schema,
        read_schema=read_schema,
        read_arrow_schema=(
            arrow_schema if read_schema is schema else schema_to_pyarrow(read_schema, include_field_ids=False)
        ),
        predicates=predicates,
        clauses=clauses,
        version=version,
        plan_key=(version, predicates, clauses),
    )


def mapping_digest(metadata: TableMetadata) -> str:
    """Return a digest of the table's name mapping, which decides what files without field ids hold."""
    mapping = metadata.properties.get(NAME_MAPPING)
    return "" if not mapping else ":" + hashlib.sha256(mapping.encode()).hexdigest()[:16]


def _choose_snapshot(metadata: TableMetadata, spec: ScanSpec) -> tuple[Snapshot | None, bool]:
    if spec.snapshot_id is not None:
        snapshot = metadata.snapshot_by_id(spec.snapshot_id)
        return snapshot or _missing("The table has no such snapshot", "snapshot_id"), True
    if spec.ref is not None:
        snapshot = metadata.snapshot_by_name(spec.ref)
        return snapshot or _missing("The table has no such branch or tag", "ref"), True
    if spec.as_of is not None:
        at = Timestamp.from_datetime(spec.as_of).nanos // _NANOS_PER_MILLI
        for entry in reversed(metadata.snapshot_log):
            if entry.timestamp_ms <= at:
                snapshot = metadata.snapshot_by_id(entry.snapshot_id)
                return snapshot or _missing("The snapshot of that time has expired", "as_of"), True
        _missing("The table had no snapshot at that time", "as_of")
    return metadata.current_snapshot(), False


def _schema_of(metadata: TableMetadata, snapshot: Snapshot | None) -> Schema:
    if snapshot is None or snapshot.schema_id is None:
        return metadata.schema()
    for schema in metadata.schemas:
        if schema.schema_id == snapshot.schema_id:
            return schema
    return metadata.schema()


def _project(
    base: Schema, columns: Sequence[str] | None, bound: BoundGrants | None
) -> tuple[NestedField, ...]:
    """Return the columns in request order; ``a.b`` and ``a.c`` become one column ``a`` with two fields."""
    if columns is None:
        return base.fields if bound is None else tuple(_granted(base, bound))
    roots: dict[int, set[int]] = {}
    root_of = _roots(base)
    for index, name in enumerate(columns):
        field = _find(base, name, bound, "columns", index)
        chosen = roots.setdefault(root_of[field.field_id].field_id, set())
        covered = _descendants(field)
        if chosen & covered or any(
            field.field_id in _descendants(base.find_field(other)) for other in chosen
        ):
            _refuse(f"column {name!r} is named twice", "columns", index)
        chosen.add(field.field_id)
    return tuple(_select(root_of[root], ids) for root, ids in roots.items())


def _read_fields(
    base: Schema, fields: tuple[NestedField, ...], filter_ids: frozenset[int]
) -> tuple[NestedField, ...]:
    if not filter_ids:
        return fields
    root_of = _roots(base)
    wanted: dict[int, set[int]] = {}
    for field in fields:
        wanted[field.field_id] = leaf_ids(field)
    for field_id in sorted(filter_ids):
        wanted.setdefault(root_of[field_id].field_id, set()).add(field_id)
    projected = {field.field_id: field for field in fields}
    read = []
    for root, ids in wanted.items():
        own = projected.get(root)
        # Only a predicate on a struct's field outside the projection widens a projected column.
        if own is not None and ids <= leaf_ids(own) | _descendants(own):
            read.append(own)
        else:
            read.append(_select(root_of[root], ids))
    return tuple(read)


def _bind_filters(
    base: Schema, filters: Sequence[Filter], bound: BoundGrants | None
) -> tuple[tuple[Predicate, ...], frozenset[int]]:
    predicates = []
    for index, condition in enumerate(filters):
        field = _find(base, condition.column, bound, "filters", index, "column")
        path = struct_path(base.fields, field.field_id)
        if path is None:
            _refuse("a filter cannot reach inside a list or map", "filters", index, "column")
        literals = _literals(field.field_type, condition, index)
        predicates.append(normal_predicate(field.field_id, path, field.field_type, condition.op, literals))
    return tuple(predicates), frozenset(predicate.field_id for predicate in predicates)


def _literals(kind: IcebergType, condition: Filter, index: int) -> tuple[Literal, ...]:
    try:
        return literals_of(kind, condition.op, condition.value)
    except LiteralTypeError as error:
        _refuse(f"column {condition.column!r}: {error}", "filters", index, "value")


def _find(base: Schema, name: str, bound: BoundGrants | None, *loc: str | int) -> NestedField:
    try:
        field = base.find_field(name, case_sensitive=True)
    except ValueError:
        field = None
    if field is None or (bound is not None and not bound.includes(field.field_id)):
        _refuse(f"unknown column {name[:128]!r}", *loc)
    return field


def _granted(base: Schema, bound: BoundGrants) -> Iterator[NestedField]:
    """Yield the columns with at least one granted leaf, pruned to the granted leaves."""
    for field in base.fields:
        leaves = leaf_ids(field)
        granted = leaves & bound.leaves
        if granted == leaves:
            yield field
        elif granted:
            yield _select(field, granted)


def _roots(base: Schema) -> dict[int, NestedField]:
    return {field_id: field for field in base.fields for field_id in _descendants(field)}


def _descendants(field: NestedField) -> set[int]:
    """Return the ids of a field and of all fields inside it."""
    if field.field_type.is_primitive:
        return {field.field_id}  # shortcut: an index of a one-field schema takes 50 times as long
    return set(Schema(field).field_ids)


def _select(root: NestedField, ids: set[int]) -> NestedField:
    if ids == {root.field_id}:
        return root
    return prune_columns(Schema(root), ids, select_full_types=True).fields[0]


def _missing(detail: str, key: str) -> NoReturn:
    raise RefusalError(Refused(Reason.NOT_FOUND, detail, loc=(*_LOC, key)))


def _refuse(why: str, *loc: str | int) -> NoReturn:
    raise RefusalError(Refused(Reason.BAD_REQUEST, f"Bad scan parameter: {why}", loc=(*_LOC, *loc)))

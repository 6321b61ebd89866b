"""Resolve scan parameters against a loaded table: snapshot, columns and typed predicates.

Cheap and without I/O; every error of the request is found here, before a file is opened.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Hashable, Iterator, Sequence
from typing import NoReturn

import attrs
import pyarrow as pa
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IcebergType, NestedField

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.catalogs.unsupported import refuse_unsupported
from strata.tables.errors import refusable
from strata.tables.files.file_schema import NAME_MAPPING
from strata.tables.files.footers import is_local
from strata.tables.scan.cell_grants import (
    CALLER,
    READ,
    VIEW,
    Alternatives,
    BoundGrants,
    CellGrants,
    bind,
    input_version,
    keyed_digest,
    leaf_ids,
    signature,
    view_of,
)
from strata.tables.scan.literals import Literal, LiteralTypeError, literals_of
from strata.tables.scan.near_names import LONGEST_NAME, near_names
from strata.tables.scan.nested import struct_fields
from strata.tables.scan.params import WIDE, Filter, ScanSpec
from strata.tables.scan.predicates import Predicate, normal_predicate
from strata.tables.scan.read_restrictions import BoundRestrictions, Masking, bind_restrictions
from strata.tables.scan.schema_index import Columns, SchemaIndex, index_of
from strata.tables.scan.values import Timestamp

_LOC = ("body", "transform", "params")
_NANOS_PER_MILLI = 1_000_000
_SCAN_BYTES = 8192
_COLUMN_BYTES = 512
"""Memory of a column of a resolved scan: of its Iceberg and Arrow fields and their indices; measured: 380."""


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
        forced: Those of ``predicates`` that the cell grants demand.
        clauses: Further clauses of the cell grants and of the catalog's read restrictions; of each, at least
            one alternative must hold.
        masking: The masks that the read restrictions demand; None: none.
        afterwards: The request's predicates on masked columns, which test the masked values.
        leaves: Leaf columns of its Arrow schemas.
        version: The input version for provenance. Equal versions give equal rows for equal parameters.
        plan_key: Equal keys have equal file lists, whatever the columns; see :meth:`ScanPlan.for_scan`.
    """

    table: LoadedTable
    spec: ScanSpec
    snapshot_id: int | None
    table_schema: Schema = attrs.field(repr=False)
    schema: Columns = attrs.field(repr=False)
    arrow_schema: pa.Schema = attrs.field(repr=False)
    read_schema: Columns = attrs.field(repr=False)
    read_arrow_schema: pa.Schema = attrs.field(repr=False)
    predicates: tuple[Predicate, ...]
    forced: tuple[Predicate, ...]
    clauses: tuple[Alternatives, ...]
    version: str
    plan_key: Hashable
    masking: Masking | None = attrs.field(default=None, kw_only=True)
    afterwards: tuple[Predicate, ...] = attrs.field(default=(), kw_only=True)
    leaves: int = attrs.field(kw_only=True)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without its table."""
        return _SCAN_BYTES + self.leaves * _COLUMN_BYTES + self.literal_bytes

    @property
    def view(self) -> str:
        """The part of ``version`` that identifies the cells read, and their masks; empty: all as they are."""
        return view_of(self.version)

    @property
    def literal_bytes(self) -> int:
        """Bytes of memory of the predicates and their values."""
        options = (one for clause in self.clauses for option in clause for one in option)
        return sum(one.nbytes for one in (*self.predicates, *self.afterwards, *options))

    @property
    def restricted(self) -> bool:
        """Whether the scan is under cell grants or restrictions: cells of its files may be hidden."""
        return READ in self.version or VIEW in self.version

    @property
    def row_limited(self) -> bool:
        """Whether the cell grants may hide rows."""
        return bool(self.forced or self.clauses)

    @property
    def pruning(self) -> tuple[Predicate, ...]:
        """Predicates that may rule out any file: with hidden rows, those that the request did not choose."""
        return self.forced if self.row_limited else self.predicates

    @property
    def cautious(self) -> tuple[Predicate, ...]:
        """Predicates that may rule out wholly visible files only."""
        return tuple(one for one in self.predicates if one not in self.forced) if self.row_limited else ()

    @property
    def remote(self) -> bool:
        """Whether the table's files are read from a remote store."""
        return not is_local(self.table.io, self.table.metadata_location)

    @property
    def filtered(self) -> bool:
        """Whether predicates or clauses may remove rows."""
        return bool(self.predicates or self.clauses or self.afterwards)

    @property
    def enough_rows(self) -> int | None:
        """Rows that are enough, so that no file behind them is read; None: the files do not tell."""
        return None if self.filtered else self.spec.limit


@refusable
def resolve_scan(table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None = None) -> ResolvedScan:
    """Resolve ``spec`` against the table's metadata; cached by the representation of its arguments.

    Args:
        table: The table.
        spec: The request.
        cell_grants: The caller's cell grants; ``None``: the whole table. A column that is not granted counts
            as missing; without a projection, the columns are the granted ones.

    Returns a refusal for an unknown snapshot, branch or tag (NOT_FOUND), for an unknown or repeated column or
    a filter value that is not of its column's type (BAD_REQUEST), and for a column of a type that cannot be
    read (UNSUPPORTED).
    """
    key = _key(spec, cell_grants)
    known = table.scans.get(key)
    if isinstance(known, ResolvedScan):
        return known
    scan = _resolve(table, spec, cell_grants)
    table.scans.put(key, scan, scan.nbytes + len(key))
    return scan


def resolves_at_once(table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None = None) -> bool:
    """Test whether :func:`resolve_scan` takes no longer than the event loop may.

    It does for a table with more than :data:`WIDE` fields, unless the scan is remembered.
    """
    return table.metadata.last_column_id <= WIDE or table.scans.get(_key(spec, cell_grants)) is not None


def readable_part(
    table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None
) -> tuple[Snapshot | None, Schema, tuple[NestedField, ...]]:
    """Return the snapshot that ``spec`` names, its schema, and the columns of it that are granted.

    Raises:
        RefusalError: NOT_FOUND for an unknown snapshot, branch or tag.
    """
    metadata = table.metadata
    snapshot, explicit = _choose_snapshot(metadata, spec)
    base = _schema_of(metadata, snapshot) if explicit else metadata.schema()
    bound = None if cell_grants is None else bind(cell_grants, metadata.schema(), base, table.ref.resource)
    return snapshot, base, _project(index_of(base), None, bound)


def _key(spec: ScanSpec, cell_grants: CellGrants | None) -> str:
    # Equal specs may differ (1 == True == 1.0), their representations do not.
    return repr(spec) if cell_grants is None else repr((spec, cell_grants))


def _resolve(table: LoadedTable, spec: ScanSpec, cell_grants: CellGrants | None) -> ResolvedScan:
    metadata = table.metadata
    snapshot, explicit = _choose_snapshot(metadata, spec)
    base = _schema_of(metadata, snapshot) if explicit else metadata.schema()
    bound = None if cell_grants is None else bind(cell_grants, metadata.schema(), base, table.ref.resource)
    index = index_of(base)
    fields = _project(index, spec.columns, bound)
    predicates, filter_ids = _bind_filters(index, spec.filters, bound)
    forced: tuple[Predicate, ...] = ()
    clauses: tuple[Alternatives, ...] = ()
    view = ""
    restrictions = table.restrictions
    demanded = BoundRestrictions()
    masking: Masking | None = None
    afterwards: tuple[Predicate, ...] = ()
    if restrictions is not None:
        demanded = bind_restrictions(restrictions.json, metadata, base)
        view = READ + restrictions.digest
        if demanded.masks:
            masking = Masking.of(demanded.masks)
            view += masking.mark
        afterwards = tuple(one for one in predicates if demanded.is_masked(_down(base, one.field_id)))
        predicates = tuple(one for one in predicates if one not in afterwards)
    if cell_grants is not None and bound is not None:
        used = {leaf for field in fields for leaf in leaf_ids(field)}
        used |= {leaf for field_id in filter_ids for leaf in index.leaves_of(field_id)}
        clauses = bound.rows(used)
        view += VIEW + signature(used, clauses, cell_grants.secret, table.ref.resource)
    clauses = tuple(dict.fromkeys((*clauses, *demanded.clauses)))
    if clauses:
        # A clause with one alternative prunes like any predicate.
        forced = tuple(dict.fromkeys(one for clause in clauses if len(clause) == 1 for one in clause[0]))
        own = set(predicates)
        predicates += tuple(one for one in forced if one not in own)
        clauses = tuple(clause for clause in clauses if len(clause) != 1)
        filter_ids |= {one.field_id for one in predicates}
        filter_ids |= {one.field_id for clause in clauses for option in clause for one in option}
    read_fields = _read_fields(index, fields, filter_ids)
    if not index.supported:
        refuse_unsupported(read_fields)
    schema = Columns(fields)
    read_schema = schema if read_fields is fields else Columns(read_fields)
    snapshot_id = None if snapshot is None else snapshot.snapshot_id
    mapping = mapping_digest(metadata, None if cell_grants is None else cell_grants.secret)
    if table.ref.caller is not None:
        view = CALLER + table.ref.caller.digest + view
    version = input_version(str(table.uuid), snapshot_id, base.schema_id, mapping, view)
    arrow_schema, leaves = _arrow_schema(index, fields)
    read_arrow_schema = arrow_schema
    if read_schema is not schema:
        read_arrow_schema, more = _arrow_schema(index, read_fields)
        leaves += more
    return ResolvedScan(
        table=table,
        spec=spec,
        snapshot_id=snapshot_id,
        table_schema=base,
        schema=schema,
        arrow_schema=arrow_schema,
        read_schema=read_schema,
        read_arrow_schema=read_arrow_schema,
        predicates=predicates,
        forced=forced,
        clauses=clauses,
        version=version,
        plan_key=(version, predicates, forced, clauses),
        masking=masking,
        afterwards=afterwards,
        leaves=leaves,
    )


def _arrow_schema(index: SchemaIndex, fields: Sequence[NestedField]) -> tuple[pa.Schema, int]:
    """Return the Arrow schema of columns, and how many leaf columns it has."""
    columns = index.arrow(fields)
    return pa.schema([one.field for one in columns], metadata={}), sum(one.leaves for one in columns)


def _down(base: Schema, field_id: int) -> tuple[NestedField, ...]:
    return struct_fields(base.fields, field_id) or ()


def mapping_digest(metadata: TableMetadata, secret: bytes | None = None) -> str:
    """Return a digest of the table's name mapping, which decides what files without field ids hold.

    With a secret it is keyed: the mapping names columns that may be hidden.
    """
    mapping = metadata.properties.get(NAME_MAPPING)
    if not mapping:
        return ""
    if secret is not None:
        return ":" + keyed_digest(secret, mapping)
    return ":" + hashlib.sha256(mapping.encode()).hexdigest()[:16]


def _choose_snapshot(metadata: TableMetadata, spec: ScanSpec) -> tuple[Snapshot | None, bool]:
    if spec.snapshot_id is not None:
        snapshot = metadata.snapshot_by_id(spec.snapshot_id)
        return snapshot or _missing("The table has no such snapshot", "snapshot_id"), True
    if spec.ref is not None:
        snapshot = metadata.snapshot_by_name(spec.ref)
        known = metadata.refs.get(spec.ref)
        # A branch is read with the table's schema, as in Iceberg's libraries; it may be written to.
        is_branch = known is not None and known.snapshot_ref_type is SnapshotRefType.BRANCH
        return snapshot or _missing("The table has no such branch or tag", "ref"), not is_branch
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
    index: SchemaIndex, columns: Sequence[str] | None, bound: BoundGrants | None
) -> tuple[NestedField, ...]:
    """Return the columns in request order; ``a.b`` and ``a.c`` become one column ``a`` with two fields."""
    if columns is None:
        return index.schema.fields if bound is None else tuple(_granted(index, bound))
    simple = map(index.simple.get, columns)
    granted = index.leaves if bound is None else bound.leaves
    found = tuple(one for one in simple if one is not None and one.field_id in granted)
    if len(found) == len(set(columns)) == len(columns):
        return found
    chosen: dict[int, set[int]] = {}
    covered: set[int] = set()  # what is chosen, and everything inside it
    for at, name in enumerate(columns):
        field = _find(index, name, bound, "columns", at)
        own = chosen.setdefault(index.column_of(field.field_id).field_id, set())
        inside = index.inside(field.field_id)
        if field.field_id in covered or own & inside:
            _refuse(f"column {name!r} is named twice", "columns", at)
        covered |= inside
        own.add(field.field_id)
    return tuple(_select(index.column_of(root), ids) for root, ids in chosen.items())


def _read_fields(
    index: SchemaIndex, fields: tuple[NestedField, ...], filter_ids: frozenset[int]
) -> tuple[NestedField, ...]:
    if not filter_ids:
        return fields
    filtered: dict[int, set[int]] = {}
    for field_id in sorted(filter_ids):
        filtered.setdefault(index.column_of(field_id).field_id, set()).add(field_id)
    read = []
    for own in fields:
        ids = filtered.pop(own.field_id, None)
        # Only a predicate on a struct's field outside the projection widens a projected column.
        if ids is None or ids <= leaf_ids(own) | _descendants(own):
            read.append(own)
        else:
            read.append(_select(index.column_of(own.field_id), leaf_ids(own) | ids))
    read += [_select(index.column_of(root), ids) for root, ids in filtered.items()]
    changed = len(read) != len(fields) or any(map(operator.is_not, read, fields))
    return tuple(read) if changed else fields


def _bind_filters(
    index: SchemaIndex, filters: Sequence[Filter], bound: BoundGrants | None
) -> tuple[tuple[Predicate, ...], frozenset[int]]:
    predicates = []
    for at, condition in enumerate(filters):
        field = _find(index, condition.column, bound, "filters", at, "column")
        path = index.path(field.field_id)
        if path is None:
            _refuse("a filter cannot reach inside a list or map", "filters", at, "column")
        literals = _literals(field.field_type, condition, at)
        predicates.append(normal_predicate(field.field_id, path, field.field_type, condition.op, literals))
    return tuple(predicates), frozenset(predicate.field_id for predicate in predicates)


def _literals(kind: IcebergType, condition: Filter, index: int) -> tuple[Literal, ...]:
    try:
        return literals_of(kind, condition.op, condition.value)
    except LiteralTypeError as error:
        _refuse(f"column {condition.column!r}: {error}", "filters", index, "value")


def _find(index: SchemaIndex, name: str, bound: BoundGrants | None, *loc: str | int) -> NestedField:
    try:
        field = index.schema.find_field(name, case_sensitive=True)
    except ValueError:
        field = None
    if field is None or (bound is not None and not bound.includes(field.field_id)):
        near = near_names(name, index, None if bound is None else bound.includes)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        _refuse(f"unknown column {name[:LONGEST_NAME]!r}{hint}", *loc)
    return field


def _granted(index: SchemaIndex, bound: BoundGrants) -> Iterator[NestedField]:
    """Yield the columns with at least one granted leaf, pruned to the granted leaves."""
    for field in index.schema.fields:
        leaves = index.leaves_of(field.field_id)
        granted = leaves & bound.leaves
        if granted == leaves:
            yield field
        elif granted:
            yield _select(field, set(granted))


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

"""Restrict a scan to the cells of a table that its caller is granted.

Granted cells are a union of (columns x rows) blocks. A scan returns the rows of which *every* column it
names, in its projection or in a filter, is granted: no cell needs to be blanked out, and no filter can test a
cell that is not granted.

Grants name columns of the table's *current* schema and follow them by field id into older snapshots: a column
that had a granted column's name in an older snapshot stays hidden there.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import attrs
import structlog
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField, StructType

from strata.tables.callers.identity import Caller
from strata.tables.scan.literals import LiteralTypeError, literals_of
from strata.tables.scan.params import Filter
from strata.tables.scan.predicates import Predicate, normal_predicate
from strata.tables.scan.schema_index import SchemaIndex, index_of

log = structlog.get_logger(__name__)

VIEW = ":view="
"""Separates, in an input's version, the snapshot from the signature of the cells a result was made from."""

CALLER = ":caller="
"""Separates, in an input's version, the snapshot from the digest of the caller whose catalog it came from;
before the other two."""

READ = ":read="
"""Separates, in an input's version, the snapshot from the digest of the read restrictions of its catalog."""

_SCHEMA_PART = 2
"""Position of the schema's id among the parts of an input's version."""

Alternatives: TypeAlias = "tuple[tuple[Predicate, ...], ...]"
"""A clause: at least one of the alternatives must hold, with all its predicates."""


@attrs.frozen
class Grant:
    """A block of cells: columns x rows.

    Attributes:
        columns: Names of the granted columns; ``None``: all.
        filters: AND-ed conditions on the granted rows; none: all rows. A null satisfies no comparison,
            ``!=`` and ``not in`` included.
    """

    columns: frozenset[str] | None
    filters: tuple[Filter, ...] = ()


@attrs.frozen
class CellGrants:
    """All cells of a table that a caller is granted.

    Attributes:
        grants: The blocks of cells, as a union.
        secret: Key of the digests in an input's version, which callers see: without it, the value of a
            condition on a hidden column is found by trying values.
    """

    grants: tuple[Grant, ...]
    secret: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class _Block:
    """A grant bound to one schema.

    Attributes:
        leaves: Field ids of the granted leaf columns; ``None``: all.
        predicates: AND-ed predicates on the granted rows.
    """

    leaves: frozenset[int] | None
    predicates: tuple[Predicate, ...]


@attrs.frozen(eq=False)
class BoundGrants:
    """Cell grants bound to the schema of a scan.

    Attributes:
        blocks: The grants that fit the table.
        fields: The fields of the schema.
        leaves: Field ids of the leaf columns that are granted for some row.
    """

    blocks: tuple[_Block, ...]
    fields: SchemaIndex
    leaves: frozenset[int] = attrs.field(init=False)

    @leaves.default
    def _granted(self) -> frozenset[int]:
        if any(block.leaves is None for block in self.blocks):
            return self.fields.leaves
        return frozenset[int]().union(*(block.leaves or () for block in self.blocks))

    def includes(self, field_id: int) -> bool:
        """Test whether a column, or a field of one, is granted completely for some row."""
        return self.fields.leaves_of(field_id) <= self.leaves

    def rows(self, used: Iterable[int]) -> tuple[Alternatives, ...]:
        """Return the clauses that hold for exactly the rows of which all leaves ``used`` are granted.

        A scan that uses no column counts rows: those of which any cell is granted.
        """
        needed = {
            frozenset(
                at for at, block in enumerate(self.blocks) if block.leaves is None or leaf in block.leaves
            )
            for leaf in used
        } or {frozenset(range(len(self.blocks)))}
        clauses = set()
        for blocks in needed:
            alternatives = {self.blocks[at].predicates for at in blocks}
            if () not in alternatives:
                clauses.add(tuple(sorted(alternatives, key=repr)))
        return tuple(sorted(clauses, key=repr))


def bind(cell_grants: CellGrants, current: Schema, base: Schema, table: str) -> BoundGrants:
    """Bind cell grants to a schema. A grant that does not fit the table grants nothing and is logged.

    Args:
        cell_grants: The grants, with names of the current schema.
        current: The table's current schema.
        base: The schema of the snapshot that is read.
        table: Name of the table, for the log.
    """
    blocks = []
    now, then = index_of(current), index_of(base)
    for grant in cell_grants.grants:
        try:
            predicates = tuple(_predicates(grant.filters, now, then))
        except (ValueError, LookupError, LiteralTypeError) as error:
            log.warning("an access rule does not fit the table", table=table, error=str(error))
            continue
        blocks.append(_Block(_leaves(grant, now, then), predicates))
    return BoundGrants(tuple(blocks), then)


def keyed_digest(secret: bytes, text: str) -> str:
    """Return 16 hex digits that identify a text, and that cannot be computed without the secret."""
    return hmac.digest(secret, text.encode(), "sha256").hex()[:16]


def signature(used: Iterable[int], rows: tuple[Alternatives, ...], secret: bytes, table: str) -> str:
    """Return a text that differs for different views of a snapshot: leaves used, and clauses on rows.

    Args:
        used: Field ids of the leaves.
        rows: The clauses, of which the text has a keyed digest.
        secret: Key of the digest.
        table: Resource name of the table: equal clauses of two tables have different digests.
    """
    # By field id, so that a rename or a type promotion does not change the signature.
    forms = sorted(
        sorted(
            repr(sorted((one.field_id, one.op, repr(one.literals)) for one in option)) for option in clause
        )
        for clause in rows
    )
    digest = keyed_digest(secret, repr((table, forms))) if rows else "all"
    return f"{'.'.join(map(str, sorted(used)))}-{digest}"


def input_version(uuid: str, snapshot_id: int | None, schema_id: int, mapping: str, view: str) -> str:
    """Return the version of an input: table, snapshot, schema, name mapping and the view of its cells."""
    return f"{uuid}:{snapshot_id}:{schema_id}{mapping}{view}"


def view_of(version: str) -> str:
    """Return the part of an input's version that identifies the cells read; empty: all as they are.

    It begins with the caller, where the catalog was queried as the caller: results are that one's own.
    """
    marker = next((one for one in (CALLER, READ) if one in version), VIEW)
    _, found, view = version.partition(marker)
    return found + view


def snapshot_of(version: str) -> str | None:
    """Return the snapshot that an input's version names; None if it names none."""
    parts = version.split(":")
    return parts[1] if len(parts) > _SCHEMA_PART and parts[1] != str(None) else None


def may_see(version: str, cell_grants: CellGrants, metadata: TableMetadata, table: str) -> bool:
    """Test whether a caller with these cell grants on an input may read a result made from that input.

    Args:
        version: The input's version that the result was made from (:attr:`ResolvedScan.version`).
        cell_grants: The caller's grants now.
        metadata: The input's current metadata.
        table: Resource name of the input.

    Returns:
        Whether the result used only granted leaves, under exactly the clauses that hold now. False for a
        result made without cell grants: its version does not tell which columns were used.
    """
    head, marker, view = version.partition(VIEW)
    used_text, _, _ = view.rpartition("-")
    # The grants of that schema: a condition on a column that it lacks grants nothing there, and did not then.
    base = _schema_of(head, metadata)
    if not marker or base is None:
        return False
    bound = bind(cell_grants, metadata.schema(), base, table)
    used = {int(leaf) for leaf in used_text.split(".") if leaf}
    granted = all(
        any(block.leaves is None or leaf in block.leaves for block in bound.blocks) for leaf in used
    )
    return granted and view == signature(used, bound.rows(used), cell_grants.secret, table)


def read_alike(version: str, digest: str | None, caller: Caller | None = None) -> bool:
    """Test whether a result was made for a caller, under the read restrictions that the catalog demands now.

    Args:
        version: The input's version that the result was made from.
        digest: The digest of the restrictions of this moment; None: there are none.
        caller: The caller on whose behalf the catalog is queried; None: it is queried on the server's.
    """
    head, _, _ = version.partition(VIEW)
    head, marker, made_under = head.partition(READ)
    _, marked, made_for = head.partition(CALLER)
    if (made_for if marked else None) != (None if caller is None else caller.digest):
        return False
    return (made_under.partition(".")[0] if marker else None) == digest


def _schema_of(head: str, metadata: TableMetadata) -> Schema | None:
    """Return the schema that an input's version names; None if the table no longer has it."""
    named = head.partition(READ)[0].split(":")[_SCHEMA_PART : _SCHEMA_PART + 1]
    return next((schema for schema in metadata.schemas if [str(schema.schema_id)] == named), None)


def leaf_ids(field: NestedField) -> set[int]:
    """Return the leaf ids that select exactly this field, pruned or not, out of the full column."""
    if not isinstance(field.field_type, StructType):
        return {field.field_id}
    return {leaf for child in field.field_type.fields for leaf in leaf_ids(child)} or {field.field_id}


def _leaves(grant: Grant, current: SchemaIndex, base: SchemaIndex) -> frozenset[int] | None:
    if grant.columns is None:
        return None
    ids: set[int] = set()
    for name in grant.columns:
        try:
            ids |= current.inside(current.schema.find_field(name, case_sensitive=True).field_id)
        except ValueError:
            continue  # the table has no such column
    return base.leaves & ids


def _predicates(filters: Iterable[Filter], current: SchemaIndex, base: SchemaIndex) -> Iterator[Predicate]:
    for condition in filters:
        field_id = current.schema.find_field(condition.column, case_sensitive=True).field_id
        field = base.schema.find_field(field_id)
        path = base.path(field_id)
        if path is None:
            raise LookupError("a condition cannot reach inside a list or map")
        literals = literals_of(field.field_type, condition.op, condition.value)
        yield normal_predicate(field_id, path, field.field_type, condition.op, literals)
        if condition.op in {"!=", "not in"}:
            yield normal_predicate(field_id, path, field.field_type, "is not null", ())

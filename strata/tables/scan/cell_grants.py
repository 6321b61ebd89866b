"""Restrict a scan to the cells of a table that its caller is granted.

Granted cells are a union of (columns x rows) blocks. A scan returns the rows of which *every* column it
names, in its projection or in a filter, is granted: no cell needs to be blanked out, and no filter can test a
cell that is not granted.

Grants name columns of the table's *current* schema and follow them by field id into older snapshots: a column
that had a granted column's name in an older snapshot stays hidden there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import attrs
import structlog
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StructType

from strata.tables.scan.literals import LiteralTypeError, literals_of
from strata.tables.scan.nested import struct_path
from strata.tables.scan.params import Filter
from strata.tables.scan.predicates import Predicate, normal_predicate

log = structlog.get_logger(__name__)

VIEW = ":view="
"""Separates, in an input's version, the snapshot from the signature of the cells a result was made from."""

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
    """

    grants: tuple[Grant, ...]


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
        base: The schema.
    """

    blocks: tuple[_Block, ...]
    base: Schema

    def includes(self, field_id: int) -> bool:
        """Test whether a column, or a field of one, is granted completely for some row."""
        return self.leaves_of(field_id) <= self.leaves

    def leaves_of(self, field_id: int) -> set[int]:
        """Return the leaves inside a field, or of the list or map that contains it.

        Raises:
            LookupError: If the schema has no such field.
        """
        for field in self.base.fields:
            if field_id in Schema(field).field_ids:
                return _leaves_of(field, field_id)
        raise LookupError("the schema has no such field")

    @property
    def leaves(self) -> set[int]:
        """Field ids of the leaf columns that are granted for some row."""
        found: set[int] = set()
        for block in self.blocks:
            found |= self._all_leaves if block.leaves is None else block.leaves
        return found

    @property
    def _all_leaves(self) -> set[int]:
        return {leaf for field in self.base.fields for leaf in leaf_ids(field)}

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
    for grant in cell_grants.grants:
        try:
            predicates = tuple(_predicates(grant.filters, current, base))
        except (ValueError, LookupError, LiteralTypeError) as error:
            log.warning("an access rule does not fit the table", table=table, error=str(error))
            continue
        blocks.append(_Block(_leaves(grant, current, base), predicates))
    return BoundGrants(tuple(blocks), base)


def signature(used: Iterable[int], rows: tuple[Alternatives, ...]) -> str:
    """Return a text that differs for different views of a snapshot: leaves used, and clauses on rows."""
    # By field id, so that a rename or a type promotion does not change the signature.
    forms = sorted(
        sorted(
            repr(sorted((one.field_id, one.op, repr(one.literals)) for one in option)) for option in clause
        )
        for clause in rows
    )
    digest = hashlib.sha256(repr(forms).encode()).hexdigest()[:16] if rows else "all"
    return f"{'.'.join(map(str, sorted(used)))}-{digest}"


def may_see(version: str, cell_grants: CellGrants, current: Schema, table: str) -> bool:
    """Test whether a caller with these cell grants on an input may read a result made from that input.

    Args:
        version: The input's version that the result was made from (:attr:`ResolvedScan.version`).
        cell_grants: The caller's grants now.
        current: The input's current schema.
        table: Name of the input, for the log.

    Returns:
        Whether the result used only granted leaves, under exactly the clauses that hold now. False for a
        result made without cell grants: its version does not tell which columns were used.
    """
    _, marker, view = version.partition(VIEW)
    used_text, _, _ = view.rpartition("-")
    if not marker:
        return False
    bound = bind(cell_grants, current, current, table)
    used = {int(leaf) for leaf in used_text.split(".") if leaf}
    granted = all(
        any(block.leaves is None or leaf in block.leaves for block in bound.blocks) for leaf in used
    )
    return granted and view == signature(used, bound.rows(used))


def leaf_ids(field: NestedField) -> set[int]:
    """Return the leaf ids that select exactly this field, pruned or not, out of the full column."""
    if not isinstance(field.field_type, StructType):
        return {field.field_id}
    return {leaf for child in field.field_type.fields for leaf in leaf_ids(child)} or {field.field_id}


def _leaves_of(field: NestedField, field_id: int) -> set[int]:
    if field.field_id != field_id and isinstance(field.field_type, StructType):
        for child in field.field_type.fields:
            if field_id in Schema(child).field_ids:
                return _leaves_of(child, field_id)
    return leaf_ids(field)


def _leaves(grant: Grant, current: Schema, base: Schema) -> frozenset[int] | None:
    if grant.columns is None:
        return None
    ids: set[int] = set()
    for name in grant.columns:
        try:
            ids |= set(Schema(current.find_field(name, case_sensitive=True)).field_ids)
        except ValueError:
            continue  # the table has no such column
    return frozenset(ids & {leaf for field in base.fields for leaf in leaf_ids(field)})


def _predicates(filters: Iterable[Filter], current: Schema, base: Schema) -> Iterator[Predicate]:
    for condition in filters:
        field_id = current.find_field(condition.column, case_sensitive=True).field_id
        field = base.find_field(field_id)
        path = struct_path(base.fields, field_id)
        if path is None:
            raise LookupError("a condition cannot reach inside a list or map")
        literals = literals_of(field.field_type, condition.op, condition.value)
        yield normal_predicate(field_id, path, field.field_type, condition.op, literals)
        if condition.op in {"!=", "not in"}:
            yield normal_predicate(field_id, path, field.field_type, "is not null", ())

"""The part of a table that a caller may see: some of its columns, some of its rows.

What is granted is a set of cells, a union of (columns x rows) blocks. A scan is answered with the rows of
which *every* column it names, in its projection or in a condition, is granted: so no cell has to be blanked
out, and no condition can ask about a cell that is not granted.

Names in a grant are those of the table's *current* schema and are followed by field id into older snapshots:
a hidden column that had a granted one's name is hidden there, too.
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
"""Begins the part of an input's version that says which view of it a result was made from."""

Alternatives: TypeAlias = "tuple[tuple[Predicate, ...], ...]"
"""Of which one must hold, with all its conditions."""


@attrs.frozen
class Grant:
    """A block of cells.

    Attributes:
        columns: Names of columns; ``None``: all.
        filters: AND-ed conditions, none for all rows; a null satisfies no comparison, ``!=`` and ``not in``
            included.
    """

    columns: frozenset[str] | None
    filters: tuple[Filter, ...] = ()


@attrs.frozen
class CellGrants:
    """Everything that is granted of a table.

    Attributes:
        grants: The blocks.
    """

    grants: tuple[Grant, ...]


@attrs.frozen
class _Block:
    """A grant, bound to one schema."""

    leaves: frozenset[int] | None
    predicates: tuple[Predicate, ...]


@attrs.frozen(eq=False)
class Seen:
    """What is granted, bound to the schema of a scan.

    Attributes:
        blocks: The grants that fit the table.
        base: The schema.
    """

    blocks: tuple[_Block, ...]
    base: Schema

    def shows(self, field_id: int) -> bool:
        """Whether a column, or a part of one, is granted with everything inside it for some row."""
        return self.covering(field_id) <= self.leaves

    def covering(self, field_id: int) -> set[int]:
        """Return the leaves a field consists of, or the one it lies in (a list or map is a whole)."""
        for field in self.base.fields:
            if field_id in Schema(field).field_ids:
                return _covering(field, field_id)
        raise LookupError("the schema has no such field")

    @property
    def leaves(self) -> set[int]:
        """Ids of the columns that are granted for some row: of a struct those of its fields."""
        found: set[int] = set()
        for block in self.blocks:
            found |= self._every if block.leaves is None else block.leaves
        return found

    @property
    def _every(self) -> set[int]:
        return {leaf for field in self.base.fields for leaf in leaf_ids(field)}

    def rows(self, used: Iterable[int]) -> tuple[Alternatives, ...]:
        """Return what must hold for a row so that all the leaves ``used`` of it are granted.

        Each of the alternatives returned must have one that holds. A scan that uses no column counts rows:
        those of which any cell is granted.
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


def bind(visible: CellGrants, current: Schema, base: Schema, table: str) -> Seen:
    """Bind grants to a schema. One that does not fit the table grants nothing, and the operator is told.

    Args:
        visible: What is granted, by names of the current schema.
        current: The table's current schema.
        base: The schema of the snapshot that is read.
        table: The table, for the log.
    """
    blocks = []
    for grant in visible.grants:
        try:
            predicates = tuple(_predicates(grant.filters, current, base))
        except (ValueError, LookupError, LiteralTypeError) as error:
            log.warning("an access rule does not fit the table", table=table, error=str(error))
            continue
        blocks.append(_Block(_leaves(grant, current, base), predicates))
    return Seen(tuple(blocks), base)


def signature(used: Iterable[int], rows: tuple[Alternatives, ...]) -> str:
    """Return what tells two views of one snapshot apart: the leaves used, and the conditions on rows."""
    # By field id, so that it outlives a rename and a promotion.
    forms = sorted(
        sorted(
            repr(sorted((one.field_id, one.op, repr(one.literals)) for one in option)) for option in clause
        )
        for clause in rows
    )
    digest = hashlib.sha256(repr(forms).encode()).hexdigest()[:16] if rows else "all"
    return f"{'.'.join(map(str, sorted(used)))}-{digest}"


def may_see(version: str, visible: CellGrants, current: Schema, table: str) -> bool:
    """Whether a result may be read by a caller to whom only this is granted of its input.

    Args:
        version: The version of the input that the result was made from, :attr:`ResolvedScan.version`.
        visible: What is granted now.
        current: The input's current schema.
        table: The input, for the log.

    Returns:
        Whether the result was made of leaves that are granted, under the very conditions that hold now. One
        that was made by somebody to whom everything is granted is not seen: what it used is not noted.
    """
    _, marker, view = version.partition(VIEW)
    used_text, _, _ = view.rpartition("-")
    if not marker:
        return False
    seen = bind(visible, current, current, table)
    used = {int(leaf) for leaf in used_text.split(".") if leaf}
    granted = all(any(block.leaves is None or leaf in block.leaves for block in seen.blocks) for leaf in used)
    return granted and view == signature(used, seen.rows(used))


def leaf_ids(field: NestedField) -> set[int]:
    """Return ids that select exactly this (possibly pruned) field out of its full one."""
    if not isinstance(field.field_type, StructType):
        return {field.field_id}
    return {leaf for child in field.field_type.fields for leaf in leaf_ids(child)} or {field.field_id}


def _covering(field: NestedField, field_id: int) -> set[int]:
    if field.field_id != field_id and isinstance(field.field_type, StructType):
        for child in field.field_type.fields:
            if field_id in Schema(child).field_ids:
                return _covering(child, field_id)
    return leaf_ids(field)


def _leaves(grant: Grant, current: Schema, base: Schema) -> frozenset[int] | None:
    if grant.columns is None:
        return None
    ids: set[int] = set()
    for name in grant.columns:
        try:
            ids |= set(Schema(current.find_field(name, case_sensitive=True)).field_ids)
        except ValueError:
            continue  # no column, nothing granted
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

"""Expand a planned data file to its row groups, by the file's footer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs
import pyarrow.parquet as pq
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from strata.outcomes import RefusalError
from strata.tables.errors import Reading, contradicted, refusable
from strata.tables.files.file_schema import UnreadableType
from strata.tables.files.footers import Footer
from strata.tables.plan.model import FileTask, ScanPlan
from strata.tables.plan.prune_by_statistics import (
    has_old_decimal_bounds,
    row_group_might_match,
    row_group_must_match,
)
from strata.tables.plan.sizes import fixed_bits
from strata.tables.scan.cell_grants import Alternatives
from strata.tables.scan.constants import absent_leaf_value
from strata.tables.scan.nested import struct_fields
from strata.tables.scan.predicates import Predicate, matches_constant

_BITS = 8

GroupPlace: TypeAlias = tuple[int, int, int, int]
"""Index of a row group, position of its first row, rows, estimated bytes: as of :class:`RowGroupTask`."""


@attrs.frozen(eq=False)
class RowGroupTask:
    """One row group to read: the quantum of a scan and the unit of the cache.

    Attributes:
        file: The data file.
        index: Index of the row group in the file.
        first_row: Position in the file of the row group's first row, as position deletes count.
        num_rows: Rows, deleted ones included.
        nbytes: Estimated Arrow bytes of the columns read.
        predicates: Predicates to test row by row; those on columns absent from the file are already decided.
        clauses: Clauses to test row by row, reduced in the same way; of each, one alternative must hold.
        ranges: Byte ranges that reading it takes, besides the footer, where its file is fetched for a reader.
    """

    file: FileTask
    index: int
    first_row: int
    num_rows: int
    nbytes: int
    predicates: tuple[Predicate, ...] = ()
    clauses: tuple[Alternatives, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()


@refusable
def expand_file(plan: ScanPlan, file: FileTask) -> tuple[RowGroupTask, ...]:
    """Return the row groups that may hold rows of the result, in file order; blocking (reads the footer).

    Returns a refusal (DATA_UNREADABLE) if the file is missing, damaged or not as its manifest describes it,
    whether or not a filter would leave its rows out.
    """
    groups, field_ids = row_groups_of(plan, file)
    return tasks_of(plan, file, groups, field_ids)


def tasks_of(
    plan: ScanPlan, file: FileTask, groups: Iterable[GroupPlace], field_ids: frozenset[int]
) -> tuple[RowGroupTask, ...]:
    """Return the tasks that read given row groups.

    Args:
        plan: The scan's plan.
        file: The file.
        groups: The row groups.
        field_ids: Ids of the file's columns, nested ones included.
    """
    reduced = _reduced(plan, file, field_ids)
    if reduced is None:
        return ()
    remaining = reduced.pruning + reduced.cautious
    return tuple(RowGroupTask(file, *group, remaining, reduced.clauses) for group in groups)


def row_groups_of(plan: ScanPlan, file: FileTask) -> tuple[list[GroupPlace], frozenset[int]]:
    """Return the row groups that may hold rows of the result, and the ids of the file's columns; blocking.

    Raises:
        RefusalError: As :func:`expand_file` returns.
    """
    footer = footer_of(plan, file)
    with Reading("data file", file.path):
        rows = footer.metadata.num_rows
        if rows != file.record_count:
            raise RefusalError(contradicted("data file", file.path, f"{rows} rows", f"{file.record_count}"))
        reduced = _reduced(plan, file, footer.field_ids)
        if reduced is None:
            return [], footer.field_ids
        pruning, clauses = reduced.pruning, reduced.clauses
        located, located_cautious = _locate(pruning, footer), _locate(reduced.cautious, footer)
        wanted = _wanted_columns(plan, footer)
        old_decimals = has_old_decimal_bounds(footer.metadata.created_by)
        found = []
        first_row = 0
        for index in range(footer.metadata.num_row_groups):
            group = footer.metadata.row_group(index)
            if (
                group.num_rows
                and row_group_might_match(group, located, old_decimals=old_decimals)
                and (
                    row_group_might_match(group, located_cautious, old_decimals=old_decimals)
                    or (file.has_hidden_rows and not _proves_visible(group, pruning, clauses, footer))
                )
            ):
                nbytes = 0
                for leaves, bits in wanted:
                    if bits is not None:
                        nbytes += group.num_rows * bits // _BITS
                    else:
                        nbytes += sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
                found.append((index, first_row, group.num_rows, nbytes))
            first_row += group.num_rows
        if first_row != rows:
            raise ValueError("the rows of its row groups are not those of its footer")
        return found, footer.field_ids


@attrs.frozen
class _Reduced:
    """A scan's conditions without those that absent columns decide, as of :class:`ResolvedScan`."""

    pruning: tuple[Predicate, ...]
    cautious: tuple[Predicate, ...]
    clauses: tuple[Alternatives, ...]


def _reduced(plan: ScanPlan, file: FileTask, present: frozenset[int]) -> _Reduced | None:
    """Decide the conditions on columns that a file does not have; ``None`` if no row can match."""
    scan = plan.scan
    pruning = _decide_absent(plan, file, present, scan.pruning)
    clauses = _decide_clauses(plan, file, present)
    cautious = _decide_absent(plan, file, present, scan.cautious)
    if cautious is None and file.has_hidden_rows:
        cautious = scan.cautious  # decided row by row, which takes the same work for any hidden row
    if pruning is None or clauses is None or cautious is None:
        return None
    return _Reduced(pruning, cautious, clauses)


def _proves_visible(
    group: pq.RowGroupMetaData,
    forced: Sequence[Predicate],
    clauses: Sequence[Alternatives],
    footer: Footer,
) -> bool:
    """Test whether the grants' conditions, reduced to the file's columns, hold for every row of a group."""
    old_decimals = has_old_decimal_bounds(footer.metadata.created_by)

    def all_hold(predicates: Sequence[Predicate]) -> bool:
        located = _locate(predicates, footer)
        return len(located) == len(predicates) and all(
            row_group_must_match(group, *one, old_decimals=old_decimals) for one in located
        )

    return all_hold(forced) and all(any(all_hold(option) for option in clause) for clause in clauses)


def footer_of(plan: ScanPlan, file: FileTask) -> Footer:
    """Return the footer of a planned file from the footer cache or from the file; blocking.

    Raises:
        RefusalError: DATA_UNREADABLE if the file is missing or damaged.
    """
    table = plan.scan.table
    # The file's key covers the table and its name mapping; the alias tells whose storage the path is in.
    key = (table.ref.source, table.metadata.format_version, file.file_key)
    return table.caches.footers.get(key, table.io, file.path, file.file_size, table.metadata)


def _decide_absent(
    plan: ScanPlan, file: FileTask, present: frozenset[int], predicates: Iterable[Predicate]
) -> tuple[Predicate, ...] | None:
    """Decide the predicates on absent columns, which have one value in the whole file.

    A field that is absent from a struct of the file has two: null where the struct is, else its default.

    Returns:
        The remaining predicates; ``None`` if no row can match.
    """
    remaining = []
    for predicate in predicates:
        down = struct_fields(plan.scan.table_schema.fields, predicate.field_id) or ()
        if any(field.field_id in present for field in down):
            remaining.append(predicate)
        elif not matches_constant(predicate, absent_leaf_value(down, file.partition_values)):
            return None
    return tuple(remaining)


def _decide_clauses(
    plan: ScanPlan, file: FileTask, present: frozenset[int]
) -> tuple[Alternatives, ...] | None:
    """Decide the alternatives on absent columns.

    Returns:
        The remaining clauses; ``None`` if a clause has no alternative left, so that no row can match.
    """
    remaining = []
    for clause in plan.scan.clauses:
        options = [_decide_absent(plan, file, present, option) for option in clause]
        left = tuple(option for option in options if option is not None)
        if not left:
            return None
        if () not in left:
            remaining.append(left)
    return tuple(remaining)


def _locate(predicates: Sequence[Predicate], footer: Footer) -> list[tuple[Predicate, IcebergType, int]]:
    """Find the Parquet leaf of each predicate; left out are structs, lists, maps and INT96 timestamps.

    The statistics of INT96 have no defined order (Parquet format, "ColumnOrder").
    """
    by_id: dict[int, tuple[IcebergType, int]] = {}
    for field, leaves in zip(footer.fields, footer.leaves, strict=True):
        _number_leaves(field, leaves.start, by_id)
    located = [
        (predicate, *by_id[predicate.field_id]) for predicate in predicates if predicate.field_id in by_id
    ]
    schema = footer.metadata.schema
    return [one for one in located if schema.column(one[-1]).physical_type != "INT96"]


def _number_leaves(field: NestedField, start: int, found: dict[int, tuple[IcebergType, int]]) -> int:
    """Number the primitive leaves reachable through structs; return the count of all leaves of ``field``."""
    kind = field.field_type
    if kind.is_primitive:
        found[field.field_id] = (kind, start)
        return 1
    if isinstance(kind, UnreadableType):
        return kind.leaves
    if isinstance(kind, StructType):
        stop = start
        for child in kind.fields:
            stop += _number_leaves(child, stop, found)
        return stop - start
    return sum(_number_leaves(child, start, {}) for child in _elements(kind))


def _elements(kind: IcebergType) -> tuple[NestedField, ...]:
    match kind:
        case ListType():
            return (kind.element_field,)
        case MapType():
            return (kind.key_field, kind.value_field)
        case _:
            raise TypeError("no nested type")


def _wanted_columns(plan: ScanPlan, footer: Footer) -> list[tuple[range, int | None]]:
    position = {field.field_id: at for at, field in enumerate(footer.fields)}
    return [
        (footer.leaves[position[field.field_id]], fixed_bits(arrow.type))
        for field, arrow in zip(plan.scan.read_schema.fields, plan.scan.read_arrow_schema, strict=True)
        if field.field_id in position
    ]

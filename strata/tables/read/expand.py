"""Expand a planned data file to its row groups, by the file's footer."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from strata.tables.errors import Reading, refusable
from strata.tables.files.footers import Footer
from strata.tables.plan.model import FileTask, ScanPlan
from strata.tables.plan.prune_by_statistics import row_group_might_match
from strata.tables.plan.sizes import fixed_bits
from strata.tables.scan.cell_grants import Alternatives
from strata.tables.scan.constants import absent_value
from strata.tables.scan.predicates import Predicate, matches_constant

_BITS = 8


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
    """

    file: FileTask
    index: int
    first_row: int
    num_rows: int
    nbytes: int
    predicates: tuple[Predicate, ...] = ()
    clauses: tuple[Alternatives, ...] = ()


@refusable
def expand_file(plan: ScanPlan, file: FileTask) -> tuple[RowGroupTask, ...]:
    """Return the row groups that may hold rows of the result, in file order; blocking (reads the footer).

    Returns a refusal (DATA_UNREADABLE) if the file is missing or damaged.
    """
    footer = footer_of(plan, file)
    with Reading("data file", file.path):
        remaining = _decide_absent(plan, file, footer, plan.scan.predicates)
        clauses = _decide_clauses(plan, file, footer)
        if remaining is None or clauses is None:
            return ()
        located = _locate(remaining, footer)
        wanted = _wanted_columns(plan, footer)
        tasks = []
        first_row = 0
        for index in range(footer.metadata.num_row_groups):
            group = footer.metadata.row_group(index)
            if group.num_rows and row_group_might_match(group, located):
                nbytes = 0
                for leaves, bits in wanted:
                    if bits is not None:
                        nbytes += group.num_rows * bits // _BITS
                    else:
                        nbytes += sum(group.column(leaf).total_uncompressed_size for leaf in leaves)
                tasks.append(RowGroupTask(file, index, first_row, group.num_rows, nbytes, remaining, clauses))
            first_row += group.num_rows
        return tuple(tasks)


def footer_of(plan: ScanPlan, file: FileTask) -> Footer:
    """Return the footer of a planned file from the footer cache or from the file; blocking.

    Raises:
        RefusalError: DATA_UNREADABLE if the file is missing or damaged.
    """
    table = plan.scan.table
    # The file's key covers the table and its name mapping; the alias tells whose storage the path is in.
    key = (table.ref.catalog, table.metadata.format_version, file.file_key)
    return table.caches.footers.get(key, table.io, file.path, table.metadata)


def _decide_absent(
    plan: ScanPlan, file: FileTask, footer: Footer, predicates: Iterable[Predicate]
) -> tuple[Predicate, ...] | None:
    """Decide the predicates on absent columns, which have one value in the whole file.

    Returns:
        The remaining predicates; ``None`` if no row can match.
    """
    present = footer.schema.field_ids
    remaining = []
    for predicate in predicates:
        if predicate.field_id in present:
            remaining.append(predicate)
            continue
        field = plan.scan.table_schema.find_field(predicate.field_id)
        if not matches_constant(predicate, absent_value(field, file.partition_values)):
            return None
    return tuple(remaining)


def _decide_clauses(plan: ScanPlan, file: FileTask, footer: Footer) -> tuple[Alternatives, ...] | None:
    """Decide the alternatives on absent columns.

    Returns:
        The remaining clauses; ``None`` if a clause has no alternative left, so that no row can match.
    """
    remaining = []
    for clause in plan.scan.clauses:
        options = [_decide_absent(plan, file, footer, option) for option in clause]
        left = tuple(option for option in options if option is not None)
        if not left:
            return None
        if () not in left:
            remaining.append(left)
    return tuple(remaining)


def _locate(predicates: tuple[Predicate, ...], footer: Footer) -> list[tuple[Predicate, IcebergType, int]]:
    """Find the Parquet leaf of each predicate; one on a whole struct, list or map is left out."""
    by_id: dict[int, tuple[IcebergType, int]] = {}
    for field, leaves in zip(footer.schema.fields, footer.leaves, strict=True):
        _number_leaves(field, leaves.start, by_id)
    return [
        (predicate, *by_id[predicate.field_id]) for predicate in predicates if predicate.field_id in by_id
    ]


def _number_leaves(field: NestedField, start: int, found: dict[int, tuple[IcebergType, int]]) -> int:
    """Number the primitive leaves reachable through structs; return the count of all leaves of ``field``."""
    kind = field.field_type
    if kind.is_primitive:
        found[field.field_id] = (kind, start)
        return 1
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
    position = {field.field_id: at for at, field in enumerate(footer.schema.fields)}
    return [
        (footer.leaves[position[field.field_id]], fixed_bits(arrow.type))
        for field, arrow in zip(plan.scan.read_schema.fields, plan.scan.read_arrow_schema, strict=True)
        if field.field_id in position
    ]

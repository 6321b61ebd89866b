"""Predicates on columns: tested on rows, on a file's constant and on statistics.

Predicates mean what they mean to pyiceberg's reader (Arrow comparisons); exactness tests compare the two:

- A null satisfies no comparison. ``not in`` over two or more values keeps nulls; over one it is ``!=``.
- NaN satisfies ``!=`` and ``not in`` and no other comparison; -0.0 equals 0.0, in ``in`` too.
- Where a column is absent from a file, its default (or null) is compared by Iceberg's expression evaluator,
  to which null ``!=`` 5 is true. Compacting such a file can therefore change the answer of ``!=``, as it does
  in pyiceberg.

Pruning keeps a group of rows unless no row can match: unknown, truncated and NaN bounds prune nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import IcebergType

from strata.tables.scan.literals import Literal, storage_type
from strata.tables.scan.nested import leaf_of

_ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "=": pc.equal,
    "!=": pc.not_equal,
}


@attrs.frozen
class Predicate:
    """A condition bound to a column of a schema.

    Attributes:
        field_id: Iceberg id of the leaf column.
        path: Names from the top-level column of the read schema down to the leaf.
        kind: Iceberg type of the leaf.
        op: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``, ``is null`` or ``is not null``;
            ``not in`` has at least two literals.
        literals: Distinct values in normal form (:mod:`strata.tables.scan.literals`), sorted.
    """

    field_id: int
    path: tuple[str, ...]
    kind: IcebergType = attrs.field(eq=str)  # Iceberg's nested types have no cheap hash
    op: str
    literals: tuple[Literal, ...] = ()


@attrs.frozen
class Statistics:
    """Statistics of one column in a group of rows; ``None`` is unknown.

    Attributes:
        lower: Lower bound of the values other than null and NaN.
        upper: Upper bound of these values.
        has_null: Whether there is a null.
        all_null: Whether every value is known to be null.
        all_nan: Whether every non-null value is known to be NaN.
    """

    lower: Literal | None = None
    upper: Literal | None = None
    has_null: bool | None = None
    all_null: bool = False
    all_nan: bool = False


def normal_predicate(
    field_id: int, path: tuple[str, ...], kind: IcebergType, op: str, literals: tuple[Literal, ...]
) -> Predicate:
    """Return a predicate with distinct, sorted literals; ``in`` over one becomes ``=``, ``not in`` ``!=``."""
    distinct = tuple(sorted(set(literals)))
    if len(distinct) == 1 and op in {"in", "not in"}:
        op = "=" if op == "in" else "!="
    return Predicate(field_id, path, kind, op, distinct)


def might_match(predicate: Predicate, stats: Statistics) -> bool:
    """Return ``False`` only if no row of the group can satisfy the predicate."""
    op = predicate.op
    if op == "is null":
        return stats.has_null is not False
    if op == "not in":
        return True
    if stats.all_null:
        return False
    if op in {"is not null", "!="}:
        return True
    if stats.all_nan:
        return False
    lower, upper = _usable_bounds(predicate, stats)
    return any(_within(op, literal, lower, upper) for literal in predicate.literals)


def matches_constant(predicate: Predicate, value: object) -> bool:
    """Evaluate the predicate on one value that a whole file shares; ``None`` is null."""
    if predicate.op == "is null":
        return value is None
    if predicate.op == "is not null":
        return value is not None
    if predicate.op in {"in", "="}:
        return value is not None and value in predicate.literals
    if predicate.op in {"not in", "!="}:
        return value not in predicate.literals
    literal = predicate.literals[0]
    return value is not None and _compare(predicate.op, value, literal)


def row_mask(predicate: Predicate, column: Any) -> Any:
    """Return a BooleanArray over the top-level ``column``; rows with null or false do not match."""
    leaf = leaf_of(column, predicate.path)
    match predicate.op:
        case "is null":
            return pc.is_null(leaf)
        case "is not null":
            return pc.is_valid(leaf)
    if isinstance(leaf, pa.ExtensionArray):
        leaf = leaf.storage
    kind = storage_type(predicate.kind)
    match predicate.op:
        case "in":
            return pc.is_in(leaf, value_set=_members(predicate, kind))
        case "not in":
            return pc.invert(pc.is_in(leaf, value_set=_members(predicate, kind)))
        case _:
            return _ORDERED[predicate.op](leaf, pa.scalar(predicate.literals[0], type=kind))


def _members(predicate: Predicate, kind: Any) -> Any:
    values: list[Any] = list(predicate.literals)
    if any(isinstance(value, float) and value == 0 for value in values):
        # ``in`` is a disjunction of ``=``, to which the two zeros are equal; Arrow's sets tell them apart.
        values += [0.0, -0.0]
    return pa.array(values, type=kind)


def _usable_bounds(predicate: Predicate, stats: Statistics) -> tuple[Any, Any]:
    """Return the bounds, each ``None`` if it cannot be compared with the literals.

    A NaN bound is from a writer that mixed NaN into its statistics: then neither bound is reliable.
    """
    if _is_nan(stats.lower) or _is_nan(stats.upper):
        return None, None
    example = predicate.literals[0] if predicate.literals else None
    return (
        stats.lower if _comparable(stats.lower, example) else None,
        stats.upper if _comparable(stats.upper, example) else None,
    )


def _within(op: str, literal: Any, lower: Any, upper: Any) -> bool:
    match op:
        case "<":
            return lower is None or lower < literal
        case "<=":
            return lower is None or lower <= literal
        case ">":
            return upper is None or upper > literal
        case ">=":
            return upper is None or upper >= literal
        case _:
            return (lower is None or lower <= literal) and (upper is None or upper >= literal)


def _compare(op: str, value: Any, literal: Any) -> bool:
    match op:
        case "<":
            return bool(value < literal)
        case "<=":
            return bool(value <= literal)
        case ">":
            return bool(value > literal)
        case _:
            return bool(value >= literal)


def _comparable(bound: object, literal: object) -> bool:
    numbers = (int, float, Decimal)
    if isinstance(bound, numbers) and isinstance(literal, numbers):
        return True
    return type(bound) is type(literal)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and value != value  # noqa: PLR0124 - NaN is the one number unequal to itself

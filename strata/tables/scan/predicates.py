"""Predicates on columns: tested on rows, on a file's constant and on statistics.

Predicates have SQL's meaning of null, in every file alike:

- A null satisfies no comparison, ``!=`` and ``not in`` included: unknown is not true. ``not in`` over no
  values compares nothing and holds for every row.
- NaN satisfies ``!=`` and ``not in`` and no other comparison; -0.0 equals 0.0, in ``in`` too.
- A column absent from a file has its default, or null, and is compared like a stored value: compacting a file
  changes no answer. (pyiceberg keeps nulls under ``!=`` in some files and drops them in others.)

Pruning keeps a group of rows unless no row can match: unknown, truncated and NaN bounds prune nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import DoubleType, FloatType, IcebergType, UUIDType

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

_UNBOUNDED = frozenset({"starts with", "not starts with", "is nan", "is not nan"})
"""Operators that statistics say nothing of, but where there is no value."""

_PREDICATE_BYTES = 512
_POINTER_BYTES = 8


@attrs.frozen(cache_hash=True)
class Predicate:
    """A condition bound to a column of a schema.

    Attributes:
        field_id: Iceberg id of the leaf column.
        path: Names from the top-level column of the read schema down to the leaf.
        kind: Iceberg type of the leaf.
        op: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``, ``is null`` or ``is not null``;
            ``not in`` has at least two literals. In read restrictions also ``starts with``, ``is nan`` and
            their opposites.
        literals: Distinct values in normal form (:mod:`strata.tables.scan.literals`), sorted.
    """

    field_id: int
    path: tuple[str, ...]
    kind: IcebergType = attrs.field(eq=str)  # Iceberg's nested types have no cheap hash
    op: str
    literals: tuple[Literal, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory of the literals, as the request's values and as its own."""
        return _PREDICATE_BYTES + 2 * sum(
            sys.getsizeof(literal) + _POINTER_BYTES for literal in self.literals
        )


@attrs.frozen
class Statistics:
    """Statistics of one column in a group of rows; ``None`` is unknown.

    Attributes:
        lower: Lower bound of the values other than null and NaN.
        upper: Upper bound of these values.
        has_null: Whether there is a null.
        all_null: Whether every value is known to be null.
        all_nan: Whether every non-null value is known to be NaN.
        has_nan: Whether there is a NaN.
    """

    lower: Literal | None = None
    upper: Literal | None = None
    has_null: bool | None = None
    all_null: bool = False
    all_nan: bool = False
    has_nan: bool | None = None


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
    if op == "not in" and not predicate.literals:
        return True
    if stats.all_null:
        return False
    if op in {"is not null", "!=", "not in"} or op in _UNBOUNDED:
        return True
    if stats.all_nan:
        return False
    lower, upper = _usable_bounds(predicate, stats)
    return any(_within(op, literal, lower, upper) for literal in predicate.literals)


def must_match(predicate: Predicate, stats: Statistics) -> bool:
    """Return ``True`` only if every row of the group is known to satisfy the predicate."""
    op = predicate.op
    if op == "is null":
        return stats.all_null
    if stats.has_null is not False:
        return False
    if op == "is not null":
        return True
    if op in _UNBOUNDED:
        return False
    if isinstance(predicate.kind, UUIDType):
        return False  # some writers order UUIDs as signed numbers
    if isinstance(predicate.kind, (FloatType, DoubleType)) and stats.has_nan is not False:
        return False
    lower, upper = _usable_bounds(predicate, stats)
    if lower is None or upper is None:
        return False
    if op in {"!=", "not in"}:
        return all(literal < lower or literal > upper for literal in predicate.literals)
    if op in {"=", "in"}:
        return lower == upper and lower in predicate.literals
    return _compare(op, upper if op in {"<", "<="} else lower, predicate.literals[0])


def matches_constant(predicate: Predicate, value: object) -> bool:
    """Evaluate the predicate on one value that a whole file shares; ``None`` is null."""
    if predicate.op == "is null":
        return value is None
    if predicate.op == "is not null":
        return value is not None
    if predicate.op in {"in", "="}:
        return value is not None and value in predicate.literals
    if predicate.op in {"not in", "!="}:
        return not predicate.literals or (value is not None and value not in predicate.literals)
    if predicate.op in _UNBOUNDED:
        return value is not None and _holds_unbounded(predicate, value)
    literal = predicate.literals[0]
    return value is not None and _compare(predicate.op, value, literal)


def _holds_unbounded(predicate: Predicate, value: object) -> bool:
    if predicate.op in {"is nan", "is not nan"}:
        return _is_nan(value) is (predicate.op == "is nan")
    starts = str(value).startswith(str(predicate.literals[0]))
    return starts is (predicate.op == "starts with")


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
        case "is nan":
            return pc.is_nan(leaf)
        case "is not nan":
            return pc.invert(pc.is_nan(leaf))
        case "starts with":
            return pc.starts_with(leaf, pattern=predicate.literals[0])
        case "not starts with":
            return pc.invert(pc.starts_with(leaf, pattern=predicate.literals[0]))
        case "in":
            return pc.is_in(leaf, value_set=_members(predicate, kind))
        case "not in":
            absent = pc.invert(pc.is_in(leaf, value_set=_members(predicate, kind)))
            # Arrow's sets hold no null, so a null is in none of them; SQL cannot tell.
            return pc.and_(absent, pc.is_valid(leaf)) if predicate.literals else absent
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

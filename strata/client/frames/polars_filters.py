"""Which parts of a Polars predicate the server can apply, exactly; the others are left to Polars.

Polars evaluates the whole predicate on the rows that arrive, whatever the server has applied. So a part is
pushed down only if the server keeps every row that the part is true for; it may be left out at any doubt. The
JSON form of an expression differs between releases of Polars: what is not known is left to Polars, too.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from strata.client.filters import Filter

_OPERATORS = {"Eq": "=", "NotEq": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_TURNED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CLOSED = {"Both": (">=", "<="), "Left": (">=", "<"), "Right": (">", "<="), "None": (">", "<")}
_FLOAT_OPERATORS = frozenset({"=", "<", "<="})
"""Operators that are false for NaN in Polars: it takes NaN for the greatest number, SQL for none."""
_MICROSECONDS = {"Milliseconds": (1000, 1), "Microseconds": (1, 1), "Nanoseconds": (1, 1000)}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def pushed_filters(predicate: Any, schema: pa.Schema) -> list[Filter]:
    """Return filters that are true for each row that a Polars predicate is true for.

    Args:
        predicate: The ``polars.Expr``.
        schema: The Arrow schema of the columns.
    """
    try:
        tree = json.loads(predicate.meta.serialize(format="json"))
    except Exception:  # noqa: BLE001  # no JSON form in this release, or of this expression: all is left to Polars
        return []
    return list(_conjuncts(tree, schema))


def _conjuncts(tree: Any, schema: pa.Schema) -> Iterator[Filter]:
    match tree:
        case {"BinaryExpr": {"left": left, "op": "And", "right": right}}:
            yield from _conjuncts(left, schema)
            yield from _conjuncts(right, schema)
        case {"BinaryExpr": {"left": {"Column": str(name)}, "op": op, "right": {"Literal": value}}}:
            yield from _comparison(schema, name, _OPERATORS.get(op), value)
        case {"BinaryExpr": {"left": {"Literal": value}, "op": op, "right": {"Column": str(name)}}}:
            yield from _comparison(schema, name, _TURNED.get(_OPERATORS.get(op, "")), value)
        case {"Column": str(name)} if _type_of(schema, name) == pa.bool_():
            yield Filter(name, "=", value=True)
        case {"Function": {"input": [{"Column": str(name)}], "function": {"Boolean": "IsNull"}}}:
            yield from _null_check(schema, name, "is null")
        case {"Function": {"input": [{"Column": str(name)}], "function": {"Boolean": "IsNotNull"}}}:
            yield from _null_check(schema, name, "is not null")
        case {
            "Function": {
                "input": [{"Column": str(name)}, {"Literal": low}, {"Literal": high}],
                "function": {"Boolean": {"IsBetween": {"closed": closed}}},
            }
        } if closed in _CLOSED:
            above, below = _CLOSED[closed]
            yield from _comparison(schema, name, above, low)
            yield from _comparison(schema, name, below, high)


def _type_of(schema: pa.Schema, name: str) -> pa.DataType | None:
    # A name with a dot would be a field of a struct to the server.
    return schema.field(name).type if name in schema.names and "." not in name else None


def _null_check(schema: pa.Schema, name: str, op: str) -> Iterator[Filter]:
    kind = _type_of(schema, name)
    if kind is not None and not pa.types.is_nested(kind):
        yield Filter(name, op)


def _comparison(schema: pa.Schema, name: str, op: str | None, literal: Any) -> Iterator[Filter]:
    kind = _type_of(schema, name)
    if op is None or kind is None or not isinstance(literal, Mapping):
        return
    value = _value(kind, literal)
    if value is not None and (not isinstance(value, float) or op in _FLOAT_OPERATORS):
        yield Filter(name, op, value)


def _value(kind: pa.DataType, literal: Mapping[str, Any]) -> object:
    """Return a literal as a value of a column's type; None if it is not exactly one."""
    inner = literal.get("Scalar", literal.get("Dyn"))
    if not isinstance(inner, Mapping) or len(inner) != 1:
        return None
    ((form, value),) = inner.items()
    if pa.types.is_signed_integer(kind):
        whole = form.startswith(("Int", "UInt")) and isinstance(value, int)
        return value if whole and -(2 ** (kind.bit_width - 1)) <= value < 2 ** (kind.bit_width - 1) else None
    if kind == pa.float64():
        real = float(value) if form.startswith("Float") and isinstance(value, (int, float)) else 0.0
        return real if real and math.isfinite(real) else None  # the sign of a zero counts to some
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return value if form in ("String", "Str") and isinstance(value, str) else None
    if pa.types.is_boolean(kind):
        return value if form == "Boolean" and isinstance(value, bool) else None
    if pa.types.is_date32(kind):
        return _date(value) if form == "Date" and isinstance(value, int) else None
    if pa.types.is_timestamp(kind) and kind.unit == "us" and form == "Datetime":
        return _moment(kind, value)
    return None


def _date(days: int) -> dt.date | None:
    try:
        return (_EPOCH + dt.timedelta(days=days)).date()
    except OverflowError:
        return None


def _moment(kind: pa.DataType, value: Any) -> dt.datetime | None:
    match value:
        case [int(count), str(unit), zone] if unit in _MICROSECONDS and (zone is None) == (kind.tz is None):
            times, divisor = _MICROSECONDS[unit]
            whole, rest = divmod(count * times, divisor)
            if rest:
                return None
            try:
                moment = _EPOCH + dt.timedelta(microseconds=whole)
            except OverflowError:
                return None
            return moment.replace(tzinfo=None) if kind.tz is None else moment
    return None

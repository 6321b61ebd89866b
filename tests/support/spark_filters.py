"""Filters on a table's own values, as on the wire and as an expression of Spark's SQL."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import attrs
from random_tables import wire_value

Row = dict[str, Any]
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
VALUES = 4
"""Values of a column that its filters compare with."""


@attrs.frozen
class Condition:
    """One filter.

    Attributes:
        wire: Its form in a scan's parameters.
        sql: Its form in Spark's SQL.
    """

    wire: Row
    sql: str


def conditions(kinds: Sequence[tuple[str, Any]], rows: Sequence[Row]) -> list[Condition]:
    """Return filters on each column of a plain type, fields of structs included.

    ``kinds`` are names and types of Spark's schema; the operands are values of ``rows``.
    """
    found = []
    for path, kind in _leaves(kinds):
        quoted = ".".join(f"`{name}`" for name in path)
        column = ".".join(path)
        found += [
            Condition({"column": column, "op": op}, f"{quoted} {op.upper()}")
            for op in ("is null", "is not null")
        ]
        values = _operands([_at(row, path) for row in rows])
        if (literal := LITERALS.get(kind.typeName().partition("(")[0])) is None or not values:
            continue
        for value in values:
            for op in COMPARISONS:
                sql = f"{quoted} {op} {literal(value)}"
                if isinstance(value, float) and op.startswith(">"):
                    sql += f" AND NOT isnan({quoted})"  # Spark counts NaN as the greatest number
                found.append(Condition({"column": column, "op": op, "value": _wire(value)}, sql))
        some = values[:2]
        for op in ("in", "not in"):
            sql = f"{quoted} {op} ({', '.join(map(literal, some))})"
            found.append(Condition({"column": column, "op": op, "value": [_wire(one) for one in some]}, sql))
    return found


def _leaves(
    kinds: Sequence[tuple[str, Any]], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, kind in kinds:
        if kind.typeName() == "struct":
            yield from _leaves([(field.name, field.dataType) for field in kind.fields], (*above, name))
        elif kind.typeName() not in {"array", "map"}:
            yield (*above, name), kind


def _at(row: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        row = None if row is None else row[name]
    return row


def _operands(values: list[Any]) -> list[Any]:
    """Return the smallest, the largest and some values between."""
    known = {value for value in values if value is not None and value == value}  # noqa: PLR0124  # not NaN
    ordered = sorted(known)
    step = max(1, math.ceil((len(ordered) - 1) / (VALUES - 1)))
    return [*ordered[:-1:step], *ordered[-1:]]


def _wire(value: Any) -> Any:
    return f"__float__:{value!r}" if isinstance(value, float) else wire_value(value)


def _text(value: str) -> str:
    return (
        "'" + "".join(one if one.isalnum() and one.isascii() else f"\\U{ord(one):08x}" for one in value) + "'"
    )


def _moment(value: dt.datetime) -> str:
    return value.strftime(f"{value.year:04}-%m-%d %H:%M:%S.%f")


LITERALS: dict[str, Callable[[Any], str]] = {
    "boolean": str,
    "integer": str,
    "long": "{}L".format,
    "float": "CAST('{!r}' AS FLOAT)".format,
    "double": "CAST('{!r}' AS DOUBLE)".format,
    "decimal": lambda value: f"{Decimal(value):f}BD",
    "date": "DATE '{}'".format,
    "timestamp": lambda value: f"TIMESTAMP '{_moment(value)} UTC'",
    "timestamp_ntz": lambda value: f"TIMESTAMP_NTZ '{_moment(value)}'",
    "string": _text,
    "binary": lambda value: f"X'{value.hex()}'",
}
"""Literals of Spark's SQL by the name of the type."""

"""Encode filters and their typed values as JSON.

JSON has no dates, decimals, UUIDs or bytes; such values are strings with a prefix that names the type (wire
contract, "Materialize").
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import numbers
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import attrs
import pyarrow as pa

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null")
_PREFIXED = re.compile(r"__[a-z0-9_]+?__:")
_MAX_JSON_INTEGER = 2**63


@attrs.frozen
class Filter:
    """One condition on a column; the rows of a result satisfy all filters.

    Attributes:
        column: Name of the column; a field of a struct is ``struct.field``.
        op: One of :data:`OPERATORS`.
        value: Value to compare with; a list for ``in`` and ``not in``, ``None`` for the null checks.

    Raises:
        ValueError: For an unknown operator.
    """

    column: str
    op: str = attrs.field(validator=attrs.validators.in_(OPERATORS))
    value: object = None


FilterLike = Filter | tuple[str, str] | tuple[str, str, object] | Mapping[str, object]


def encode_filters(filters: Iterable[FilterLike]) -> list[dict[str, Any]]:
    """Return filters as JSON-serialisable objects.

    Raises:
        ValueError: For an unknown operator, or a value that no column can be compared with.
        TypeError: For a value of an unsupported type.
    """
    return [_encode_filter(_filter(item)) for item in filters]


def encode_value(value: object) -> bool | int | float | str:
    """Return one filter value as JSON-serialisable value.

    Raises:
        ValueError: For ``None``, NaN and infinite decimals, which no row equals, precedes or follows.
        TypeError: For an unsupported type.
    """
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if value is None:
        raise ValueError("a filter value is None; use the operators 'is null' and 'is not null'")
    for kind, encode in _ENCODERS:
        if isinstance(value, kind):
            return encode(value)
    raise TypeError(f"a filter value cannot be of type {type(value).__name__}")


def encode_moment(moment: dt.datetime) -> str:
    """Return the time of a time-travel read in ISO 8601.

    Raises:
        ValueError: If ``moment`` has no offset from UTC.
    """
    if moment.utcoffset() is None:
        raise ValueError("as_of needs a datetime with a time zone; pass one with tzinfo")
    return moment.isoformat()


def _encode_text(text: str) -> str:
    # A string that looks like a typed value is prefixed, so that it stays a string.
    return f"__str__:{text}" if _PREFIXED.match(text) else text


def _encode_decimal(number: Decimal) -> str:
    if not number.is_finite():
        raise ValueError(f"a filter value is the decimal {number}; it must be finite")
    return f"__decimal__:{number}"


def _encode_integer(number: numbers.Integral) -> int | str:
    whole = int(number)
    return whole if -_MAX_JSON_INTEGER <= whole < _MAX_JSON_INTEGER else f"__int__:{whole}"


def _encode_real(real: numbers.Real) -> float | str:
    number = float(real)
    if math.isnan(number):
        raise ValueError("a filter value is NaN, which no row equals, precedes or follows")
    return number if math.isfinite(number) else f"__float__:{number}"


_ENCODERS: tuple[tuple[type | tuple[type, ...], Callable[[Any], bool | int | float | str]], ...] = (
    # The first match counts: bool is a subclass of int, datetime of date.
    (bool, bool),
    (str, _encode_text),
    (dt.datetime, lambda moment: f"__datetime__:{moment.isoformat()}"),
    (dt.date, lambda day: f"__date__:{day.isoformat()}"),
    (dt.time, lambda time: f"__time__:{time.isoformat()}"),
    (Decimal, _encode_decimal),
    (uuid.UUID, lambda identity: f"__uuid__:{identity}"),
    ((bytes, bytearray, memoryview), lambda data: f"__bytes__:{base64.b64encode(data).decode()}"),
    (numbers.Integral, _encode_integer),  # int, and numpy's integers
    (numbers.Real, _encode_real),
)


def _filter(item: FilterLike) -> Filter:
    if isinstance(item, Filter):
        return item
    if isinstance(item, Mapping):
        return Filter(**item)  # type: ignore[arg-type]  # an unknown key raises TypeError, as intended
    return Filter(*item)


def _encode_filter(condition: Filter) -> dict[str, Any]:
    encoded: dict[str, Any] = {"column": condition.column, "op": condition.op}
    value = condition.value
    if condition.op in ("is null", "is not null"):
        if value is not None:
            raise ValueError(f"'{condition.op}' takes no value")
    elif condition.op in ("in", "not in"):
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise ValueError(f"'{condition.op}' takes a list of values")
        encoded["value"] = [encode_value(member) for member in value]
    else:
        encoded["value"] = encode_value(value)
    return encoded

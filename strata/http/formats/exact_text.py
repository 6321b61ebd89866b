"""Write the values of Arrow columns as text, without losing any of them.

A value that has no exact text is an error, never another value. Docs: docs/reference/formats.md.
"""

from __future__ import annotations

import math
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

UUID: Final = "arrow.uuid"
"""Name of the extension type whose values are written as UUIDs."""

_DAYS: Final = (-719_162, 2_932_896)
"""First and last day of the years 1 to 9999, from 1970-01-01."""

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS: Final = (_DAYS[0] * 86_400, (_DAYS[1] + 1) * 86_400 - 1)


class FormatError(Exception):
    """A result, or a value of it, cannot be written exactly in a format; the message says why."""


def check_type(kind: pa.DataType, column: str) -> None:
    """Check that every value of a type has an exact text.

    Args:
        kind: The type.
        column: The column's name, for the message.

    Raises:
        FormatError: If it has not: intervals, durations, unions, structs with equal names.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        check_type(kind.value_type, column)
    elif types.is_map(kind):
        check_type(kind.key_type, column)
        check_type(kind.item_type, column)
    elif _is_list(kind):
        check_type(kind.value_type, column)
    elif types.is_struct(kind):
        names = [field.name for field in kind]
        if len(set(names)) < len(names):
            raise FormatError(f"column {column} has a struct with two fields of one name")
        for field in kind:
            check_type(field.type, column)
    elif not any(is_kind(kind) for is_kind in _SCALARS):
        raise FormatError(f"column {column} is of type {kind}, which has no exact text")


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    found = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(found or types.is_fixed_size_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether values of a type are texts already."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


_SCALARS: Final[tuple[Callable[[pa.DataType], bool], ...]] = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    is_text,
    _is_bytes,
)


def json_values(array: pa.Array) -> list[Any]:
    """Return the values as JSON's: numbers, booleans, texts, lists, mappings and None.

    Decimals, dates, times, timestamps and bytes (base64) are texts. NaN and the infinities are the texts
    ``NaN``, ``Infinity`` and ``-Infinity``. A map is a list of pairs, for its keys may be of any type.

    Raises:
        FormatError: If a date or timestamp is not within the years 1 to 9999.
    """
    kind, types = array.type, pa.types
    if isinstance(array, pa.ExtensionArray):
        storage = array.storage
        if array.type.extension_name == UUID:
            return [None if raw is None else str(uuid.UUID(bytes=raw)) for raw in storage.to_pylist()]
        return json_values(storage)
    if types.is_dictionary(kind):
        return json_values(array.dictionary_decode())
    if types.is_floating(kind):
        return _floats(array)
    if types.is_decimal(kind):
        return [None if value is None else f"{value:f}" for value in array.to_pylist()]
    if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
        return list(moments(array).to_pylist())
    if _is_bytes(kind):
        return [None if value is None else b64encode(value).decode() for value in array.to_pylist()]
    if types.is_map(kind) or _is_list(kind):
        return _lists(array)
    if types.is_struct(kind):
        return _structs(array)
    return list(array.to_pylist())


def _floats(array: pa.Array) -> list[Any]:
    values: list[Any] = array.to_pylist()
    if pc.all(pc.is_finite(array), min_count=0).as_py():
        return values
    return [value if value is None or math.isfinite(value) else _not_finite(value) for value in values]


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _lists(array: pa.Array) -> list[Any]:
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        values = iter(json_values(array.flatten()))  # without those of null lists
        return [[next(values) for _ in range(size)] if valid else None for valid in _valid(array)]
    offsets = array.offsets.to_pylist()
    begin, count = offsets[0], offsets[-1] - offsets[0]
    inner: list[Any]
    if pa.types.is_map(array.type):
        keys, items = (json_values(part.slice(begin, count)) for part in (array.keys, array.items))
        inner = [list(pair) for pair in zip(keys, items, strict=True)]
    else:
        inner = json_values(array.values.slice(begin, count))
    return [
        inner[offsets[place] - begin : offsets[place + 1] - begin] if valid else None
        for place, valid in enumerate(_valid(array))
    ]


def _structs(array: pa.Array) -> list[Any]:
    names = [field.name for field in array.type]
    columns = [json_values(column) for column in array.flatten()]
    rows: Iterator[tuple[Any, ...]] = zip(*columns, strict=True) if columns else iter([()] * len(array))
    return [
        dict(zip(names, row, strict=True)) if valid else None
        for row, valid in zip(rows, _valid(array), strict=True)
    ]


def _valid(array: pa.Array) -> list[bool]:
    found: list[bool] = array.is_valid().to_pylist()
    return found


def moments(array: pa.Array) -> pa.Array:
    """Return dates, times and timestamps as texts in ISO 8601, with all digits of their unit.

    A timestamp with a zone is written in UTC, with a ``Z``.

    Raises:
        FormatError: If one is not within the years 1 to 9999.
    """
    kind, types = array.type, pa.types
    if types.is_time(kind):
        return array.cast(pa.string())
    if types.is_date(kind):
        days = array.cast(pa.date32())
        _check_range(days.view(pa.int32()), *_DAYS)
        return days.cast(pa.string())
    scale = _PER_SECOND[kind.unit]
    _check_range(array.view(pa.int64()), _SECONDS[0] * scale, _SECONDS[1] * scale + scale - 1)
    text = array.view(pa.timestamp(kind.unit)).cast(pa.string())
    text = pc.replace_substring(text, " ", "T", max_replacements=1)
    if kind.tz is not None:
        text = pc.binary_join_element_wise(text, pa.scalar("Z"), "")
    return text


def _check_range(numbers: pa.Array, least: int, most: int) -> None:
    found = pc.min_max(numbers)
    low, high = found["min"].as_py(), found["max"].as_py()
    if low is not None and (low < least or high > most):
        raise FormatError("a date or timestamp is not within the years 1 to 9999")


def csv_column(array: pa.Array) -> pa.Array:
    """Return a column as numbers, booleans or texts, which Arrow's writer of CSV writes exactly.

    Raises:
        FormatError: As :func:`json_values`.
    """
    kind, types = array.type, pa.types
    if isinstance(array, pa.ExtensionArray):
        if kind.extension_name == UUID:
            return pa.array(json_values(array), pa.string())
        return csv_column(array.storage)
    if types.is_dictionary(kind):
        return csv_column(array.dictionary_decode())
    if types.is_float16(kind):
        return array.cast(pa.float32())
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return array
    if is_text(kind):
        return array.cast(pa.large_string())
    if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
        return moments(array)
    values = json_values(array)
    if types.is_decimal(kind) or _is_bytes(kind):
        return pa.array(values, pa.large_string())
    encode = msgspec.json.encode
    return pa.array(
        [None if value is None else encode(value).decode() for value in values], pa.large_string()
    )

"""Convert a given text or TOML value to the type of its setting, within its numeric bounds."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Collection
from typing import Any, cast

import attrs

MOST_NUMBER = 2**63 - 1
"""Largest whole number of a setting: what databases and the system take. A larger one is refused."""

MOST_FRACTION = float(2**53 - 1)
"""Largest number of a setting that need not be whole; up to it floats are exact to 1. Larger: refused."""

LEAST_RATE = 0.001
"""Smallest rate above 0 where 0 means no limit: one in 1,000 seconds. A smaller one is refused."""

MOST_SHOWN = 80
"""Characters of a refused value that a message repeats."""

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class InvalidError(Exception):
    """A value of the wrong type or out of bounds; the message does not contain a secret value."""


def suggest(name: str, known: Collection[str]) -> str:
    """Return the end of a sentence about an unknown name: the closest known name, if any is similar."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else "."


def convert(field: attrs.Attribute[Any], kind: Any, value: object, *, from_text: bool) -> object:
    """Return a given value converted to its setting's type.

    Args:
        field: The setting, with its metadata.
        kind: The setting's type.
        value: The given value.
        from_text: The value was given as text, as in a variable.

    Raises:
        InvalidError: If the value is of another type, or out of bounds.
    """
    metadata = field.metadata
    if isinstance(kind, types.UnionType):
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if from_text and value == "":
        raise InvalidError("it is empty; remove it, or give it a value.")
    shown = "its value" if metadata["secret"] else _shown(value)
    converted = _convert_to(kind, value, shown, from_text=from_text)
    if metadata["choices"] and converted not in metadata["choices"]:
        known = metadata["choices"]
        raise InvalidError(f"{shown} is not one of {', '.join(known)}{suggest(str(converted), known)}")
    if isinstance(converted, int | float) and abs(converted) > MOST_NUMBER:
        raise InvalidError(f"{shown} is too large; the maximum is {MOST_NUMBER}.")
    if isinstance(converted, float) and converted > MOST_FRACTION:
        raise InvalidError(f"{shown} is too large; the maximum is {MOST_FRACTION:g}.")
    if metadata["zero_is_free"] and isinstance(converted, float) and 0 < converted < LEAST_RATE:
        raise InvalidError(f"{shown} is too small; the minimum is {LEAST_RATE:g}, and 0 is no limit.")
    least = metadata["least"]
    if least is not None and isinstance(converted, int | float) and not converted >= least:
        raise InvalidError(f"{shown} is too small; the minimum is {least:g}.")
    most = metadata["most"]
    if most is not None and isinstance(converted, int | float) and converted > most:
        raise InvalidError(f"{shown} is too large; the maximum is {most:g}.")
    return converted


def _shown(value: object) -> str:
    """Return a value as it stands in a message: of what is long, the beginning."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes out
        return "a number of thousands of digits"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… ({len(text)} characters)"


def _convert_to(kind: Any, value: object, shown: str, *, from_text: bool) -> object:
    if kind is bool:
        return _to_bool(value, shown, from_text=from_text)
    if kind in (int, float):
        return _to_number(kind, value, shown, from_text=from_text)
    if kind is str:
        if isinstance(value, str):
            return value
        raise InvalidError(f"{shown} is not text; quote it.")
    if from_text:
        return _to_pairs(str(value))
    return _to_table(kind, value)


def _to_bool(value: object, shown: str, *, from_text: bool) -> bool:
    if isinstance(value, bool):
        return value
    if from_text and str(value).strip().lower() in _TRUE | _FALSE:
        return str(value).strip().lower() in _TRUE
    raise InvalidError(f"{shown} is neither true nor false.")


def _to_number(kind: type[int | float], value: object, shown: str, *, from_text: bool) -> float:
    if from_text and isinstance(value, str):
        try:
            number = kind(value.strip().replace("_", "x"))
        except ValueError:
            number = None
    else:
        whole = isinstance(value, int) and not isinstance(value, bool)
        try:
            number = (
                kind(cast("float", value)) if whole or (kind is float and isinstance(value, float)) else None
            )
        except OverflowError:  # a whole number that no float can hold
            raise InvalidError(f"{shown} is too large; the maximum is {MOST_FRACTION:g}.") from None
    if number is None or number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN
        raise InvalidError(f"{shown} is not a {'whole ' if kind is int else ''}number.")
    return number


def _to_pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        alias, equals, value = item.partition("=")
        if not equals or not alias.strip() or not value.strip():
            raise InvalidError(f"{item!r} is not of the form alias=value.")
        if alias.strip() in pairs:
            raise InvalidError(f"alias {alias.strip()} is given twice; remove one.")
        pairs[alias.strip()] = value.strip()
    return pairs


def _to_table(kind: Any, value: object) -> object:
    if not isinstance(value, dict):
        raise InvalidError("must be a table.")
    inner = typing.get_args(kind)[1]
    for alias, item in value.items():
        if inner is str and not isinstance(item, str):
            raise InvalidError(f"the value of {alias} is not text; quote it.")
        if inner is not str and not (
            isinstance(item, dict) and all(isinstance(v, str) for v in item.values())
        ):
            raise InvalidError(f"{alias} is not a table whose values are text.")
    return value

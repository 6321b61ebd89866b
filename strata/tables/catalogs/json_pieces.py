"""Parse a large JSON text piece by piece.

``json.loads`` holds the interpreter until it ends, 10 ms a megabyte, and the event loop waits for it. Here
the objects and arrays near the top are gone through in Python, and only what they hold is parsed at once. The
values are the same, and so is what is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

LARGE = 128 * 1024
"""Characters from which a text is parsed in pieces."""

_BLANK = re.compile(r"[ \t\n\r]*")
_AT_ONCE = json.JSONDecoder()


def parse_json(text: str, deep: Mapping[str, int]) -> Any:
    """Parse a JSON text as ``json.loads`` does.

    Args:
        text: The text.
        deep: How many objects and arrays within each other are gone through, by the key that has them in the
            text's object; one of any other key.

    Raises:
        ValueError: If it is no JSON.
        RecursionError: If it is nested deeper than Python's stack.
    """
    if len(text) < LARGE:
        return json.loads(text)
    value, end = _value(text, _skip(text, 0), 1, deep)
    if _skip(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None
    return found.end()


def _value(text: str, at: int, depth: int, deep: Mapping[str, int] | None = None) -> tuple[Any, int]:
    """Return the value that begins at a place, and where it ends; ``deep`` is given for the whole text."""
    if depth:
        if text.startswith("{", at):
            return _object(text, at + 1, depth - 1, deep)
        if text.startswith("[", at):
            return _array(text, at + 1, depth - 1)
    return _AT_ONCE.raw_decode(text, at)


def _array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at)
    if text.startswith("]", at):
        return found, at + 1
    while True:
        value, at = _value(text, _skip(text, at), depth)
        found.append(value)
        at = _skip(text, at)
        if text.startswith("]", at):
            return found, at + 1
        at = _expect(text, at, ",")


def _object(text: str, at: int, depth: int, deep: Mapping[str, int] | None) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at)
    if text.startswith("}", at):
        return found, at + 1
    while True:
        at = _skip(text, at)
        _expect(text, at, '"')
        key, at = _AT_ONCE.raw_decode(text, at)
        at = _skip(text, _expect(text, _skip(text, at), ":"))
        found[key], at = _value(text, at, depth if deep is None else deep.get(key, 1))
        at = _skip(text, at)
        if text.startswith("}", at):
            return found, at + 1
        at = _expect(text, at, ",")


def _expect(text: str, at: int, sign: str) -> int:
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, at)
    return at + 1

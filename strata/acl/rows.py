"""Parse the ``rows`` of a rule: AND-ed conditions, as those of a scan, in one line of text.

``region = 'EU' and amount >= 10 and kind not in ('a', 'b') and "odd name".part is not null``

A column is a word, words joined by dots (a field of a struct), or a double-quoted name. A value is a
single-quoted string (quotes inside are doubled), a number, ``true`` or ``false``. Keywords are
case-insensitive. There is no ``or``: several rules unite.
"""

from __future__ import annotations

import re
from typing import NoReturn, TypeAlias

import attrs

Value: TypeAlias = "str | int | float | bool"

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")+"(?:\."(?:[^"]|"")+"|\.[^\W\d]\w*)*
            |[^\W\d]\w*(?:\.(?:[^\W\d]\w*|"(?:[^"]|"")+"))*)
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<mark><=|>=|!=|<>|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_PART = re.compile(r'"((?:[^"]|"")+)"|([^."]+)')
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_TRUTH = {"true": True, "false": False}
_INTEGER = re.compile(r"[+-]?\d+")


@attrs.frozen
class Condition:
    """One condition on a column, like a filter of a scan.

    Attributes:
        column: Full name; a field of a struct is ``struct.field``.
        op: ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``not in``, ``is null`` or ``is not null``.
        value: The value compared with; a tuple for ``in`` and ``not in``, ``None`` for the null checks.
    """

    column: str
    op: str
    value: Value | tuple[Value, ...] | None = None


def parse_rows(text: str) -> tuple[Condition, ...]:
    """Parse the conditions of a rule.

    Raises:
        ValueError: If the text is malformed; names the position and what was expected.
    """
    reader = _Reader(text)
    found = [reader.condition()]
    while not reader.ended:
        reader.word("and")
        found.append(reader.condition())
    return tuple(found)


class _Reader:
    """Tokens of a text, taken one by one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind, self._word = self._following()

    @property
    def ended(self) -> bool:
        return self._kind == "end"

    def condition(self) -> Condition:
        column = self._name()
        if self._is("is"):
            self._next()
            negated = self._is("not")
            if negated:
                self._next()
            self.word("null")
            return Condition(column, "is not null" if negated else "is null")
        if self._is("in") or self._is("not"):
            op = "in" if self._is("in") else "not in"
            self._next()
            if op == "not in":
                self.word("in")
            return Condition(column, op, self._values())
        op = "!=" if self._word == "<>" else self._word
        if self._kind != "mark" or op not in _COMPARISONS:
            self._refuse(f"a comparison ({', '.join(_COMPARISONS)}, in, not in, is null, is not null)")
        self._next()
        return Condition(column, op, self._value())

    def word(self, word: str) -> None:
        if not self._is(word):
            self._refuse(f"`{word}`")
        self._next()

    def _is(self, word: str) -> bool:
        return self._kind == "name" and self._word.lower() == word

    def _name(self) -> str:
        if self._kind != "name" or self._word.lower() in ("and", "in", "not", "is", "or", *_TRUTH):
            self._refuse("a column")
        parts = (quoted.replace('""', '"') or plain for quoted, plain in _PART.findall(self._word))
        name = ".".join(parts)
        self._next()
        return name

    def _value(self) -> Value:
        kind, token = self._kind, self._word
        if kind == "string":
            self._next()
            return token[1:-1].replace("''", "'")
        if kind == "number":
            self._next()
            return int(token) if _INTEGER.fullmatch(token) else float(token)
        if kind != "name" or token.lower() not in _TRUTH:
            self._refuse("a value ('text' in single quotes, a number, true or false)")
        self._next()
        return _TRUTH[token.lower()]

    def _values(self) -> tuple[Value, ...]:
        self._mark("(")
        found = [self._value()]
        while self._word == "," and self._kind == "mark":
            self._next()
            found.append(self._value())
        self._mark(")")
        return tuple(found)

    def _mark(self, mark: str) -> None:
        if self._kind != "mark" or self._word != mark:
            self._refuse(f"`{mark}`")
        self._next()

    def _next(self) -> None:
        self._kind, self._word = self._following()

    def _following(self) -> tuple[str, str]:
        rest = self._text[self._at :]
        if not rest.strip():
            return "end", ""
        found = _TOKEN.match(self._text, self._at)
        if found is None or found.lastgroup is None:
            return "unknown", ""
        self._at = found.end()
        return found.lastgroup, found[found.lastgroup]

    def _refuse(self, wanted: str) -> NoReturn:
        # The token itself is not repeated: a value in a rule is often a value of the table.
        kinds = {"end": "the end", "string": "a text", "number": "a number", "name": "a word"}
        got = kinds.get(self._kind) or (repr(self._word) if self._word else "an unknown character")
        raise ValueError(f"`rows` is malformed: expected {wanted}, found {got}, at character {self._at}")

"""The list of tables of other engines: what each is, where such tables are public test data, and what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from foreign.maker import Maker

Row = dict[str, Any]


@attrs.frozen
class Refusal:
    """A refusal, whose sentence says what is not supported (501), or what is damaged (500)."""

    sentence: str
    damaged: bool = False


def refused(sentence: str) -> Refusal:
    return Refusal(sentence)


def damaged(sentence: str) -> Refusal:
    return Refusal(sentence, damaged=True)


Answer = list[Row] | Refusal


@attrs.frozen
class Right:
    """The right answers for a table, by hand from the specification.

    Attributes:
        rows: All rows of the current snapshot, or the refusal.
        more: Further scans with their answers.
    """

    rows: Answer
    more: tuple[tuple[Row, Answer], ...] = ()


@attrs.frozen
class Case:
    """A table of another engine.

    Attributes:
        name: The function that makes it.
        writer: Whose habit it is.
        what: What is in it, as a sentence without a full stop.
        known: Where tables of this kind are public test data; nothing is copied from there.
        make: Makes the table and returns what is right.
    """

    name: str
    writer: str
    what: str
    known: str
    make: Callable[[Maker], Right]


CASES: dict[str, Case] = {}


def case(
    writer: str, what: str, known: str
) -> Callable[[Callable[[Maker], Right]], Callable[[Maker], Right]]:
    """Add a table to :data:`CASES`."""

    def add(make: Callable[[Maker], Right]) -> Callable[[Maker], Right]:
        name = make.__name__
        assert name not in CASES, name
        CASES[name] = Case(name, writer, what, known, make)
        return make

    return add


def where(column: str, op: str, value: Any = None, **more: Any) -> Row:
    """Return the parameters of a scan with one filter."""
    condition = {"column": column, "op": op} | ({} if value is None else {"value": value})
    return {"filters": [condition]} | more


def rows(*pairs: tuple[Any, Any]) -> list[Row]:
    """Return rows of the default schema."""
    return [{"id": number, "s": text} for number, text in pairs]

"""Values come to the next cell as they were, functions look names up where they are called."""

from __future__ import annotations

import pytest
from cell_kit import cells

KEPT = [
    ("None", "json/object"),
    ("True", "json/object"),
    ("-3", "json/object"),
    ("10 ** 4100", "pickle/object"),
    ("1.5", "json/object"),
    ("float('nan')", "pickle/object"),
    ("'\\ud800 \\u00e4'", "json/object"),
    ("[1, 'a', None, {'b': [2.5]}]", "json/object"),
    ("(1, 2)", "pickle/object"),
    ("{1: 2}", "pickle/object"),
    ("{'a', 'b'}", "pickle/object"),
    ("b'bytes'", "pickle/object"),
    ("3 + 4j", "pickle/object"),
    ("__import__('decimal').Decimal('1.10')", "pickle/object"),
    ("__import__('datetime').date(2026, 3, 1)", "pickle/object"),
    ("range(3)", "pickle/object"),
    ("iter([1, 2])", "pickle/object"),
    ("type('NoName', (), {})", "pickle/object"),
    ("len", "pickle/object"),
    ("int", "pickle/object"),
    ("NotImplemented", "pickle/object"),
    ("type(None)", "pickle/object"),
    ("__import__('math')", "module/import"),
    ("__import__('pyarrow').table({'a': [1, None]})", "arrow/ipc"),
    ("__import__('pandas').DataFrame({'a': [1, 2]}, index=['x', 'y'])", "pickle/object"),
    ("__import__('numpy').arange(4)", "pickle/object"),
]


@pytest.mark.slow
async def test_values_come_as_they_were() -> None:
    """Each kind of value is kept in its form, and its text and type are the same in the next cell."""
    async with cells() as found:
        told = "(repr(v).partition(' at 0x')[0], str(type(v)))"
        for expression, content_type in KEPT:
            made = await found.run(f"v = {expression}\ntold = {told}", "v told")
            assert made.outcome.ok, (expression, made.outcome)
            assert content_type == made.bundle.manifest["variables"]["v"]["content_type"], expression
            again = await found.run(f"same = {told} == told\nsame, {told}, told", "", "v told")
            assert again.shown()[0].startswith("(True"), (expression, again.shown(), again.outcome)


async def test_functions_and_classes_work_in_other_cells() -> None:
    """Functions, closures, classes, dataclasses and enums come to the next cell and stay what they are."""
    source = """
import dataclasses, enum, functools
base = 1
def add(x, y=[], *, z=2):
    "doc"
    y.append(x)
    return base + x + z + len(y)
def outer(n):
    def inner(k): return n if k == 0 else inner(k - 1)
    return inner
closed = outer(7)
class Point:
    __slots__ = ("x",)
    def __init__(self, x): self.x = x
    @property
    def twice(self): return 2 * self.x
    @staticmethod
    def make(): return Point(4)
class Child(Point):
    def __init__(self, x): super().__init__(x + 1)
    def __eq__(self, other): return isinstance(other, Child) and self.x == other.x
    __hash__ = None
@dataclasses.dataclass
class Data:
    a: int
    b: list = dataclasses.field(default_factory=list)
class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def low(self): return self.name.lower()
child, data, red = Child(1), Data(3), Color.RED
square = lambda v: v * v
@functools.lru_cache
def cached(v): return v + base
"""
    names = "base add outer closed Point Child Data Color child data red square"
    async with cells() as found:
        made = await found.run(source + "del cached", names)
        assert made.outcome.ok, made.outcome
        used = await found.run(
            "base = 10\n"
            "[add(1), add(1), closed(3), child.twice, isinstance(child, Child), isinstance(child, Point),"
            " Point.make().x, child == Child(1), data == Data(3), red is Color.RED, red.low(), Color(2).name,"
            " square(3), add.__doc__, Data(5).b, type(data) is Data, [c.name for c in Color]]",
            "base Child data",
            names,
        )
        assert used.outcome.ok, used.outcome
        expected = "[14, 15, 7, 4, True, True, 4, True, True, True, 'red', 'BLUE', 9, 'doc', [], True, ['RED', 'BLUE']]"
        assert expected == used.shown()[0]
        third = await found.run("isinstance(data, Data), child == Child(1)", "", "Child Data child data")
        assert "(True, True)" == third.shown()[0], third.outcome


async def test_what_cannot_be_kept_is_the_error_of_its_cell() -> None:
    """A generator, a lock and an object that fails at it are named with their type and the way out."""
    async with cells() as found:
        for expression, kind in {
            "(i for i in 'ab')": "generator",
            "__import__('threading').Lock()": "_thread.lock",
            "type('Odd', (), {'__reduce_ex__': lambda s, p: 1 / 0})()": "__main__.Odd",
        }.items():
            made = await found.run(f"v = {expression}", "v")
            assert "value_not_kept" == made.ended.value
            assert f"v is of type {kind}," in made.outcome.message
            assert "del v" in made.outcome.message


async def test_a_cell_is_told_which_input_it_changed() -> None:
    """A change in place is named on the cell, and the next cell has the value as it was made."""
    async with cells() as found:
        await found.run("a = [1]\nb = [2]", "a b")
        changed = await found.run("a.append(2)\nlen(b)", "", "a b")
        assert ["a"] == changed.bundle.manifest["mutation_warnings"]
        assert "[1]" == (await found.run("a", "", "a")).shown()[0]


async def test_equal_values_have_equal_bytes() -> None:
    """Two runs that leave equal values leave equal bytes, so that nothing behind them goes stale."""
    source = "import pyarrow\nt = pyarrow.table({'a': range(100)})\nl = [1, 'a']\nd = {1: (2, 'x')}\ndef f(x): return x"
    async with cells() as found:
        first, second = [await found.run(source, "t l d f") for _ in range(2)]
        for name in "tldf":
            assert first.value(name) == second.value(name), name


async def test_what_is_shown() -> None:
    """Texts, Markdown, tables and several displays are shown; an expression that ends with ; is not."""
    async with cells() as found:
        ran = await found.run(
            "import pandas, pyarrow\ndisplay(1, 'a')\ndisplay(Markdown('# T'))\n"
            "display(pyarrow.table({'a': range(30)}))\npandas.DataFrame({'b': [None, 'x']})"
        )
        kinds = [one["content_type"] for one in ran.bundle.manifest["displays"]]
        assert ["text/plain"] * 2 + ["text/markdown"] + ["table/json"] * 2 == kinds
        shown = ran.shown()
        assert ["1", "'a'", "# T"] == shown[:3]
        assert '"total_rows": 30' in shown[3]
        assert '[[null], ["x"]]' in shown[4]
        assert [] == (await found.run("1;")).shown()
        many = await found.run("for i in range(150): display(i)")
        assert (100, 50) == (len(many.shown()), many.bundle.manifest["displays_left_out"])

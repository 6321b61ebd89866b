"""Staleness, and the property that it is for: any allowed order of runs ends in the values of one run."""

from __future__ import annotations

import copy
import random
from functools import lru_cache, partial
from types import FunctionType

from hypothesis import given, settings
from hypothesis import strategies as st
from random_cells import START, STATEMENTS

from strata.notebooks.graph.dependencies import CellFacts, Graph, build_graph
from strata.notebooks.graph.staleness import ABSENT, Because, CellRun, Reason, inputs_now, staleness
from strata.notebooks.model.notebook import Language
from strata.notebooks.names.analysis import analyse

analysis_of = lru_cache(maxsize=None)(partial(analyse, "python"))


@lru_cache(maxsize=64)
def graph_of(sources: tuple[str, ...]) -> Graph:
    return build_graph(
        [
            CellFacts(id=str(place), language=Language.PYTHON, analysis=analysis_of(source))
            for place, source in enumerate(sources)
        ]
    )


class Engine:
    """Runs single cells with copies of their producers' values, and records runs as a session would."""

    def __init__(self, sources: list[str]) -> None:
        self.sources = sources
        self.runs: dict[str, CellRun] = {}
        self.values: dict[str, dict[str, object]] = {}
        self.count = 0

    @property
    def graph(self) -> Graph:
        return graph_of(tuple(self.sources))

    def hashes(self) -> dict[str, str]:
        return {str(place): source for place, source in enumerate(self.sources)}

    def may_run(self) -> list[str]:
        states = staleness(self.graph, self.hashes(), self.runs)
        return [id_ for id_, state in states.items() if state.may_run]

    def run(self, id_: str) -> None:
        """Run a cell; raises what it raises."""
        self.count += 1
        node = self.graph.cells[int(id_)]
        space: dict[str, object] = {}
        for name, producer in node.inputs.items():
            if name in self.values[producer]:
                space[name] = moved(self.values[producer][name], space)
        exec(self.sources[int(id_)], space)
        left = {name: space[name] for name in node.defines if name in space}
        self.values[id_] = left
        outputs = {name: shown(value) for name, value in left.items()}
        self.runs[id_] = CellRun(
            source=self.hashes()[id_], inputs=inputs_now(node, self.runs), outputs=outputs
        )

    def finish(self, chance: random.Random) -> None:
        """Run cells in any order that staleness allows, until none is stale."""
        while ready := self.may_run():
            self.run(chance.choice(ready))

    def seen(self) -> dict[str, str]:
        """Return what a reader sees at the end, by name."""
        found = {}
        for name, producer in self.graph.producers.items():
            found[name] = self.runs[producer].outputs.get(name, ABSENT)
        return {name: value for name, value in found.items() if value != ABSENT}


def moved(value: object, space: dict[str, object]) -> object:
    """Return a copy of a value for another cell: functions look their names up there."""
    if isinstance(value, FunctionType):
        return FunctionType(value.__code__, space, value.__name__, value.__defaults__)
    if isinstance(value, type):
        members = {k: moved(v, space) for k, v in vars(value).items() if k not in ("__dict__", "__weakref__")}
        return type(value.__name__, (), members)
    return copy.deepcopy(value)


def shown(value: object) -> str:
    if isinstance(value, FunctionType):
        return f"def {value.__code__.co_code.hex()} {value.__code__.co_consts} {value.__code__.co_names}"
    if isinstance(value, type):
        members = {key: one for key, one in vars(value).items() if key not in ("__dict__", "__weakref__")}
        return f"class {[(key, shown(one)) for key, one in sorted(members.items())]}"
    return repr(value)


def at_once(sources: list[str]) -> dict[str, str] | None:
    """Return the values of one run from top to bottom in a fresh namespace; None if a cell raises."""
    space: dict[str, object] = {}
    try:
        for source in sources:
            exec(source, space)
    except (NameError, AttributeError, TypeError, ValueError, OverflowError):
        return None
    return {name: shown(value) for name, value in space.items() if not name.startswith("__")}


@st.composite
def statements(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(STATEMENTS)).format(k=draw(st.integers(0, 9)))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(statements(), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), statements()), max_size=4),
    st.integers(0, 2**32),
)
def test_any_allowed_order_ends_in_the_values_of_one_run(first, edits, seed) -> None:
    """Cells run in any order that staleness allows, with edits between, leave what a fresh process leaves."""
    chance = random.Random(seed)
    engine = Engine([START, *first])
    edits = [None, *edits]
    for edit in edits:
        if edit is not None:
            engine.sources[1 + edit[0] % len(first)] = edit[1]
        expected = at_once(engine.sources)
        if expected is None:
            continue  # a cell raises; the next edit may mend it
        engine.finish(chance)
        assert expected == engine.seen()


@settings(max_examples=50, deadline=None)
@given(st.lists(statements(), min_size=1, max_size=8), st.integers(0, 2**32))
def test_nothing_runs_twice(sources, seed) -> None:
    """Each cell runs once; when all are fresh, none may run."""
    engine = Engine([START, *sources])
    if at_once(engine.sources) is None:
        return
    engine.finish(random.Random(seed))
    assert len(engine.sources) == engine.count


def reasons(engine: Engine) -> dict[str, tuple[Reason, ...]]:
    states = staleness(engine.graph, engine.hashes(), engine.runs)
    return {id_: state.reasons for id_, state in states.items() if state.stale}


def test_equal_values_stop_at_once() -> None:
    """A re-run that leaves an equal value leaves the cells behind it fresh: they are not run."""
    engine = Engine(["x = 1", "y = x + 1", "z = y"])
    engine.finish(random.Random(1))
    engine.sources[0] = "x = 2 - 1"
    assert {"0", "1", "2"} == set(reasons(engine))
    assert (Reason(Because.SOURCE_CHANGED),) == reasons(engine)["0"]
    assert (Reason(Because.BEFORE_IT, cell="1"),) == reasons(engine)["2"]
    engine.run("0")
    assert {} == reasons(engine)
    assert 4 == engine.count


def test_a_reason_names_the_name_and_the_cell() -> None:
    """A changed value, another producer and a failure are told by name and cell."""
    engine = Engine(["x = 1", "q = 0", "y = x"])
    engine.finish(random.Random(1))
    engine.sources[0] = "x = 5"
    engine.run("0")
    assert {"2": (Reason(Because.INPUT_CHANGED, "x", "0"),)} == reasons(engine)
    engine.run("2")
    engine.sources[1] = "q = 0\nx = 7"
    engine.run("1")
    assert {"2": (Reason(Because.INPUT_CHANGED, "x", "1"),)} == reasons(engine)
    engine.runs["2"] = CellRun(source="y = x", inputs={"x": "7"}, outputs={}, succeeded=False)
    assert {"2": (Reason(Because.FAILED),)} == reasons(engine)


def test_a_faulty_cell_and_a_circle_never_may_run() -> None:
    """A cell with an error and cells in a circle stay stale, and those behind them wait."""
    engine = Engine(["x = (", "y = 1"])
    assert ["1"] == engine.may_run()

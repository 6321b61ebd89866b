"""The graph of a notebook: which cell's value each name in a cell is, and in which order cells run.

The producer of a name is the last earlier cell that may leave it bound. So one run of the cells from top to
bottom in one process, and runs of single cells with the values of their producers, give the same values. Only
``@after`` can make a circle.
"""

from __future__ import annotations

import builtins
import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from strata.notebooks.graph.diagnostics import Diagnostic, diagnostic_of, first_diagnostics, say
from strata.notebooks.model.annotations import Annotations
from strata.notebooks.model.notebook import Language
from strata.notebooks.names.analysis import Analysis

MAX_EDGES: Final = 20_000
"""Maximum edges of a graph; a notebook with more is refused."""

SQL_RESULT: Final = "result"
"""The name of an SQL cell's result without ``@name``."""

AMBIENT: Final = frozenset({"__name__", "__builtins__", "__doc__", "display", "Markdown", "strata", "_"})
"""Names that a cell finds without any cell that defines them."""

_BUILTINS: Final = frozenset(dir(builtins))


class GraphTooLargeError(Exception):
    """The graph has more than :data:`MAX_EDGES` edges."""


@attrs.frozen(kw_only=True)
class CellFacts:
    """What the graph needs of a cell.

    Attributes:
        id: Its id.
        language: Its language.
        analysis: What it does to names.
        annotations: Its annotations.
        name: Its display name.
    """

    id: str
    language: Language
    analysis: Analysis
    annotations: Annotations = attrs.field(factory=Annotations)
    name: str | None = None


@attrs.frozen
class Edge:
    """A dependency: ``target`` takes ``name`` from ``source``; an empty name is an ``@after``."""

    source: str
    target: str
    name: str


@attrs.frozen
class CellNode:
    """A cell in the graph.

    Attributes:
        id: The cell.
        inputs: The producer's id of each name that it takes.
        after: Cells that must run before it without a name.
        defines: Names that it may leave bound, in order.
        deletes: Names that it always leaves deleted, in order.
        diagnostics: What is to be said about it.
        runnable: Whether it can run at all: it has no error and is in no circle.
    """

    id: str
    inputs: Mapping[str, str]
    after: tuple[str, ...]
    defines: tuple[str, ...]
    deletes: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...]
    runnable: bool


@attrs.frozen
class Graph:
    """The graph of a notebook.

    Attributes:
        cells: The cells in the notebook's order.
        edges: The dependencies, by target in that order.
        order: The ids in an order in which they can run, the notebook's where possible, without those in a
            circle and those behind them.
        producers: The last producer of each name: what a run of all cells leaves.
    """

    cells: tuple[CellNode, ...]
    edges: tuple[Edge, ...]
    order: tuple[str, ...]
    producers: Mapping[str, str]


def build_graph(cells: Sequence[CellFacts]) -> Graph:
    """Return the graph of the cells of a notebook.

    Raises:
        GraphTooLargeError: If it has too many edges.
    """
    builder = _Builder(cells)
    for place in range(len(cells)):
        builder.add(place)
    return builder.graph()


class _Builder:
    def __init__(self, cells: Sequence[CellFacts]) -> None:
        self.cells = cells
        self.latest: dict[str, int] = {}
        self.by_lower: dict[str, set[str]] = defaultdict(set)
        self.deleted: dict[str, int] = {}
        self.later: list[frozenset[str]] = []
        self.later_binds: list[frozenset[str]] = []
        self.inputs: list[dict[str, int]] = []
        self.defines: list[set[str]] = []
        self.deletes: list[set[str]] = []
        self.diagnostics: list[list[Diagnostic]] = [[] for _ in cells]
        self.edges = 0
        self.after = [self._after(place) for place in range(len(cells))]
        self.defined_by: dict[str, int] = {}
        for place, cell in reversed(list(enumerate(cells))):
            self.defined_by.update(dict.fromkeys(cell.analysis.defines, place))

    def add(self, place: int) -> None:
        """Add the next cell."""
        cell, analysis = self.cells[place], self.cells[place].analysis
        said = self.diagnostics[place]
        said += [diagnostic_of(one) for one in (*analysis.findings, *cell.annotations.findings)]
        provided = {
            name
            for table in cell.annotations.tables
            for name in (table.variable, f"{table.variable}_snapshot")
        }
        inputs: dict[str, int] = {}
        later, later_binds = set(analysis.later), set(analysis.later_binds)
        waiting = [*analysis.reads, *analysis.keeps]
        for name in analysis.mentions:
            waiting += self.by_lower.get(name, ())
        seen = set(provided)
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            producer = self.latest.get(name)
            if producer is None:
                continue
            inputs[name] = producer
            # A value may be or hold a function, whose names are looked up when and where it is called.
            later |= self.later[producer]
            later_binds |= self.later_binds[producer]
            waiting += self.later[producer]
            waiting += self.later_binds[producer]
        self.edges += len(inputs) + len(self.after[place])
        if self.edges > MAX_EDGES:
            raise GraphTooLargeError
        self._say_of_reads(place, provided)
        self._define(place, inputs, later, later_binds)

    def _define(self, place: int, inputs: dict[str, int], later: set[str], later_binds: set[str]) -> None:
        cell, analysis = self.cells[place], self.cells[place].analysis
        own = set(analysis.defines)
        if cell.language is Language.SQL and not analysis.error:
            own.add(cell.annotations.name or SQL_RESULT)
        bound = own | {name for name in analysis.deletes if name in analysis.keeps}
        bound |= {name for producer in inputs.values() for name in self.later_binds[producer]}
        deleted = set(analysis.deletes) - bound
        self._say_of_names(place, own)
        for name in bound:
            self.latest[name] = place
            self.by_lower[name.lower()].add(name)
        for name in deleted:
            self.latest.pop(name, None)
            self.deleted[name] = place
        self.inputs.append(inputs)
        self.defines.append(bound)
        self.deletes.append(deleted)
        self.later.append(frozenset(later))
        self.later_binds.append(frozenset(later_binds))

    def _say_of_reads(self, place: int, provided: set[str]) -> None:
        """Say which names nothing defines."""
        analysis = self.cells[place].analysis
        for name in analysis.reads:
            if name in self.latest or name in provided or name in _BUILTINS or name in AMBIENT:
                continue
            deleter, other = self.deleted.get(name), self.defined_by.get(name)
            if name in analysis.defines:
                if name not in analysis.keeps:
                    self._say(place, "self_reference", f"{name} is read before this cell defines it.", name)
            elif deleter is not None:
                self._say(place, "deleted_name", f"{name} was deleted by an earlier cell.", name, deleter)
            elif other is not None:
                text = f"{name} is defined by a later cell. Move one of the two."
                self._say(place, "defined_later", text, name, other)
            else:
                self._say(place, "undefined_name", f"No cell defines {name}.", name)

    def _say_of_names(self, place: int, own: set[str]) -> None:
        """Say which names have two definitions, and which values of other cells change in place."""
        changes = set(self.cells[place].analysis.changes)
        for name in sorted(own & self.latest.keys()):
            other = self.latest[name]
            if name in changes:
                text = f"{name} is another cell's value: this cell changes a copy, which cells behind it see."
                self._say(place, "changed_in_place", text, name, other)
                continue
            text = (
                f"{name} is defined by an earlier cell, too. Cells behind this one see the value of this one."
            )
            self._say(place, "duplicate_definition", text, name, other)
            text = f"A later cell defines {name}, too. Cells behind that one see the value of that one."
            self._say(other, "duplicate_definition", text, name, place)
        for table in self.cells[place].annotations.tables:
            if table.variable in own:
                text = f"@table binds {table.variable[:64]}, which the cell also defines."
                self._say(place, "table_shadows_define", text, table.variable)

    def _after(self, place: int) -> list[int]:
        found = []
        for wanted in self.cells[place].annotations.after:
            place_of = next(
                (
                    other
                    for other, cell in enumerate(self.cells)
                    if wanted in (cell.id, cell.name, cell.annotations.name)
                ),
                None,
            )
            if place_of is None:
                self._say(place, "after_unknown", f"@after names no cell: {wanted[:64]}.", None)
            else:
                found.append(place_of)
        return sorted(set(found))

    def _say(self, place: int, code: str, message: str, name: str | None, *others: int) -> None:
        cells = tuple(self.cells[other].id for other in others)
        self.diagnostics[place].append(say(code, message, name=name, cells=cells))

    def graph(self) -> Graph:
        """Return the graph of the cells added."""
        before = [
            set(inputs.values()) | set(after) for inputs, after in zip(self.inputs, self.after, strict=True)
        ]
        order, circle = _order(before)
        for place in circle:
            others = [one for one in circle if one != place][:16]
            self._say(place, "cycle", "The cell waits for itself, by @after.", None, *others)
        ids = [cell.id for cell in self.cells]
        ordered = set(order)
        nodes, edges = [], []
        kept = first_diagnostics(self.diagnostics)
        for place, cell in enumerate(self.cells):
            inputs = {name: ids[one] for name, one in sorted(self.inputs[place].items())}
            after = tuple(ids[one] for one in self.after[place])
            edges += [Edge(source, cell.id, name) for name, source in inputs.items()]
            edges += [Edge(source, cell.id, "") for source in after]
            nodes.append(
                CellNode(
                    cell.id,
                    inputs,
                    after,
                    tuple(sorted(self.defines[place])),
                    tuple(sorted(self.deletes[place])),
                    kept[place],
                    place in ordered and not cell.analysis.error,
                )
            )
        producers = {name: ids[place] for name, place in sorted(self.latest.items())}
        return Graph(tuple(nodes), tuple(edges), tuple(ids[place] for place in order), producers)


def _order(before: Sequence[set[int]]) -> tuple[list[int], list[int]]:
    """Return the places in an order in which each stands behind those before it, and those in circles."""
    behind: dict[int, list[int]] = defaultdict(list)
    left = [len(places) for places in before]
    for place, places in enumerate(before):
        for one in places:
            behind[one].append(place)
    ready = [place for place, count in enumerate(left) if not count]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(place)
        for one in behind[place]:
            left[one] -= 1
            if not left[one]:
                heapq.heappush(ready, one)
    # Of those that remain, the ones that nothing in a circle waits for are only behind one.
    rest = set(range(len(before))) - set(order)
    waits = {place: sum(one in rest for one in behind[place]) for place in rest}
    ends = [place for place, count in waits.items() if not count]
    while ends:
        place = ends.pop()
        rest.discard(place)
        for one in before[place] & rest:
            waits[one] -= 1
            if not waits[one]:
                ends.append(one)
    return order, sorted(rest)

"""Cells in sandboxed processes, in any order that staleness allows, leave what one process leaves at once."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from cell_kit import Cells, Ran, cells
from random_cells import START, STATEMENTS

from strata.notebooks.graph.dependencies import CellFacts, Graph, build_graph
from strata.notebooks.graph.staleness import CellRun, inputs_now, staleness
from strata.notebooks.model.notebook import Language
from strata.notebooks.names.analysis import analyse

PLAIN = ("a", "b", "c", "i", "v", "xs", "d")
"""Names whose values are numbers, lists and dictionaries; functions and classes are seen by what they return."""

SHOW = "import json\nprint(json.dumps({name: repr(value) for name, value in found.items()}, sort_keys=True))"

CELLS = 6
EDITS = 2


def at_once(sources: list[str]) -> dict[str, str] | None:
    """Return the values of one run from top to bottom in a fresh process; None if a cell raises."""
    found = f"found = {{n: globals()[n] for n in {PLAIN} if n in globals()}}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join([*sources, found, SHOW])],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout) if not done.returncode else None


class Session:
    """A notebook whose cells run one at a time, each in a process of its own."""

    def __init__(self, processes: Cells, sources: list[str]) -> None:
        self.processes = processes
        self.sources = sources
        self.runs: dict[str, CellRun] = {}
        self.left: dict[str, Ran] = {}

    @property
    def graph(self) -> Graph:
        return build_graph(
            [
                CellFacts(id=str(place), language=Language.PYTHON, analysis=analyse("python", source))
                for place, source in enumerate(self.sources)
            ]
        )

    def states(self) -> dict[str, bool]:
        """Return whether each cell may run, and leave out those that are fresh."""
        hashes = {str(place): source for place, source in enumerate(self.sources)}
        found = staleness(self.graph, hashes, self.runs)
        return {id_: state.may_run for id_, state in found.items() if state.stale}

    async def run(self, id_: str) -> None:
        """Run a cell with the values that its producers have left."""
        node = self.graph.cells[int(id_)]
        ran = await self._ran(self.sources[int(id_)], node.defines, node.inputs)
        assert ran.outcome.ok, ran.outcome
        self.left[id_] = ran
        source = self.sources[int(id_)]
        outputs = {name: hash_of(ran, name) for name in ran.bundle.manifest["variables"]}
        self.runs[id_] = CellRun(source=source, inputs=inputs_now(node, self.runs), outputs=outputs)

    async def seen(self) -> dict[str, str]:
        """Return what a further cell reads, by name."""
        producers = {name: one for name, one in self.graph.producers.items() if name in PLAIN}
        given = [name for name, one in producers.items() if name in self.runs[one].outputs]
        found = "found = {" + ", ".join(f"{name!r}: {name}" for name in given) + "}"
        ran = await self._ran(f"{found}\n{SHOW}", (), producers)
        assert ran.outcome.ok, ran.outcome
        return json.loads(ran.stdout)

    async def _ran(self, source: str, defines: tuple[str, ...], inputs: dict[str, str]) -> Ran:
        given = {name: one for name, one in inputs.items() if name in self.runs[one].outputs}
        self.processes.kept = {name: self.left[one] for name, one in given.items()}
        return await self.processes.run(source, " ".join(defines), " ".join(given))


def hash_of(ran: Ran, name: str) -> str:
    """Return what staleness compares: the bytes of a value, with their form."""
    return f"{ran.bundle.manifest['variables'][name]['content_type']} {ran.value(name).hex()}"


@pytest.mark.parametrize("seed", range(3))
async def test_any_allowed_order_in_processes_ends_in_the_values_of_one(seed: int) -> None:
    """Random notebooks, edited meanwhile, run cell by cell, end as a fresh process that runs all cells at once."""
    chance = random.Random(seed)

    def drawn() -> str:
        return chance.choice(STATEMENTS).format(k=chance.randrange(10))

    compared = 0
    async with cells() as processes:
        session = Session(processes, [START, *(drawn() for _ in range(CELLS - 1))])
        while compared <= EDITS:
            expected = at_once(session.sources)
            while expected is None:  # a cell raises: another one takes its place
                session.sources[chance.randrange(1, CELLS)] = drawn()
                expected = at_once(session.sources)
            while ready := [id_ for id_, may_run in session.states().items() if may_run]:
                await session.run(chance.choice(ready))
            assert {} == session.states()
            assert expected == await session.seen()
            compared += 1
            session.sources[chance.randrange(1, CELLS)] = drawn()

"""Which cells are stale, from the graph and the record of each cell's last run.

A run is recorded with a hash of everything it took and everything it left. A re-run that leaves equal values
makes nothing behind it stale: that is the early cut-off.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from strata.notebooks.graph.dependencies import CellNode, Graph

ABSENT: Final = ""
"""Stands for the hash of a value that a producer did not leave: it may bind a name, and did not."""


class Because(enum.Enum):
    """Why a cell is stale."""

    NEVER_RUN = "never_run"
    FAILED = "failed"
    SOURCE_CHANGED = "source_changed"
    INPUT_CHANGED = "input_changed"
    BEFORE_IT = "upstream_stale"


@attrs.frozen
class Reason:
    """A reason for which a cell is stale, with the name and the producer it is about."""

    because: Because
    name: str | None = None
    cell: str | None = None


@attrs.frozen(kw_only=True)
class CellRun:
    """The record of a cell's last run.

    Attributes:
        source: Hash of its source.
        inputs: Hash of each value that it took.
        outputs: Hash of each value that it left.
        succeeded: Whether it ended without an error.
    """

    source: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    succeeded: bool = True


@attrs.frozen
class CellState:
    """What is known of a cell.

    Attributes:
        reasons: Why it is stale; none: it is fresh.
        may_run: Whether it is stale and all that it takes is fresh, so that a run of it makes it fresh.
    """

    reasons: tuple[Reason, ...]
    may_run: bool

    @property
    def stale(self) -> bool:
        """Whether a run could leave other values."""
        return bool(self.reasons)


def staleness(
    graph: Graph, sources: Mapping[str, str], runs: Mapping[str, CellRun]
) -> Mapping[str, CellState]:
    """Return the state of each cell.

    Args:
        graph: The graph of the notebook as it is now.
        sources: Hash of each cell's source now.
        runs: The last run of each cell that has run.
    """
    nodes = {node.id: node for node in graph.cells}
    states: dict[str, CellState] = {}
    for id_ in graph.order:
        node = nodes[id_]
        before = list(dict.fromkeys((*node.inputs.values(), *node.after)))
        waits = [Reason(Because.BEFORE_IT, cell=one) for one in before if states[one].stale]
        reasons = (*_own_reasons(node, sources[id_], runs), *waits)
        states[id_] = CellState(reasons, bool(reasons) and not waits and node.runnable)
    for node in graph.cells:
        if node.id not in states:  # in a circle, or behind one
            states[node.id] = CellState((Reason(Because.NEVER_RUN),), may_run=False)
    return states


def inputs_now(node: CellNode, runs: Mapping[str, CellRun]) -> Mapping[str, str]:
    """Return the hash of each value that a cell would take now; :data:`ABSENT` for one that is not there."""
    found = {}
    for name, producer in node.inputs.items():
        run = runs.get(producer)
        found[name] = ABSENT if run is None else run.outputs.get(name, ABSENT)
    return found


def _own_reasons(node: CellNode, source: str, runs: Mapping[str, CellRun]) -> list[Reason]:
    run = runs.get(node.id)
    if run is None:
        return [Reason(Because.NEVER_RUN)]
    found = [] if run.succeeded else [Reason(Because.FAILED)]
    if run.source != source:
        found.append(Reason(Because.SOURCE_CHANGED))
    now = inputs_now(node, runs)
    names = sorted(now.keys() | run.inputs.keys())
    changed = [name for name in names if now.get(name) != run.inputs.get(name)]
    return found + [Reason(Because.INPUT_CHANGED, name, node.inputs.get(name)) for name in changed]

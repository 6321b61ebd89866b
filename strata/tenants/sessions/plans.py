"""Which cells a request for a run runs, and in which order."""

from __future__ import annotations

from strata.notebooks.model.notebook import Language
from strata.tenants.notebooks.messages import NotebookView


def plan_of(view: NotebookView, cells: tuple[str, ...] | None, stale: set[str]) -> list[str]:
    """Return the cells to run, in an order in which they can: those asked for, and stale ones before them."""
    runs = {
        cell.id
        for cell in view.content.cells
        if cell.language is not Language.MARKDOWN and cell.source.strip()
    }
    nodes = {node.id: node for node in view.graph.cells}
    wanted = set(runs) if cells is None else set(cells)
    waiting = [*wanted]
    while waiting:
        node = nodes[waiting.pop()]
        for before in {*node.inputs.values(), *node.after} & stale & runs:
            if before not in wanted:
                wanted.add(before)
                waiting.append(before)
    ordered = [id_ for id_ in view.graph.order if id_ in wanted]
    return ordered + [id_ for id_ in nodes if id_ in wanted and id_ not in view.graph.order]

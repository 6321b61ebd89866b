"""Notebooks and their parts as JSON."""

from __future__ import annotations

from functools import partial

import attrs

from strata.http.api.notebooks.schemas import (
    CellAnswer,
    CellNodeAnswer,
    DiagnosticAnswer,
    GraphAnswer,
    NotebookAnswer,
    NotebookEdgeAnswer,
)
from strata.http.api.responses import iso, json
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.rights import etag_of
from strata.notebooks.graph.dependencies import CellNode, Graph
from strata.notebooks.model.notebook import Cell
from strata.tenants.notebooks.messages import NotebookView

SMALL_BYTES = 8 * 1024
"""Bytes of a revision whose answer the event loop encodes; a larger one is encoded in the work pool."""


async def notebook_answer(call: Call, view: NotebookView, *, status: int = 200) -> Answer:
    """Return a revision as JSON, with its ETag."""
    encode = partial(_encoded, view, status)
    if view.revision.nbytes <= SMALL_BYTES and len(view.graph.edges) <= SMALL_BYTES // 64:
        return encode()
    return await call.context.compute(encode)


def cell_answer(cell: Cell) -> CellAnswer:
    """Return a cell as JSON."""
    return CellAnswer(cell.id, cell.language.value, cell.source, cell.name, dict(cell.metadata))


def notebook_body(view: NotebookView) -> NotebookAnswer:
    """Return a revision as JSON."""
    record, revision = view.record, view.revision
    return NotebookAnswer(
        name=record.name,
        title=view.content.title,
        owner=record.owner,
        access=record.access.value,
        revision=revision.revision,
        latest_revision=record.revision,
        author=revision.author,
        created_at=iso(record.created_at) or "",
        updated_at=iso(revision.at) or "",
        metadata=dict(view.content.metadata),
        cells=[cell_answer(cell) for cell in view.content.cells],
        dag=_graph(view.graph),
    )


def _encoded(view: NotebookView, status: int) -> Answer:
    found = json(notebook_body(view), status)
    kept = (("ETag", etag_of(view.revision.revision)), ("Cache-Control", "private, no-cache"))
    return attrs.evolve(found, headers=(*found.headers, *kept))


def _graph(graph: Graph) -> GraphAnswer:
    return GraphAnswer(
        cells=[_node(node) for node in graph.cells],
        edges=[NotebookEdgeAnswer(edge.source, edge.target, edge.name) for edge in graph.edges],
        topological_order=list(graph.order),
        variable_producer=dict(graph.producers),
    )


def _node(node: CellNode) -> CellNodeAnswer:
    return CellNodeAnswer(
        id=node.id,
        inputs=dict(node.inputs),
        after=list(node.after),
        defines=list(node.defines),
        deletes=list(node.deletes),
        runnable=node.runnable,
        diagnostics=[
            DiagnosticAnswer(
                one.severity.value, one.code, one.message, one.line, one.column, one.name, list(one.cells)
            )
            for one in node.diagnostics
        ],
    )

"""Notebooks as files: import of .ipynb, export of a revision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from quart_schema import document_response, tag

from strata.http.api.notebooks.schemas import ImportAnswer, ImportLineAnswer
from strata.http.api.openapi import answers, refuses, takes, takes_file
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import json
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.notebooks.answers import notebook_body
from strata.http.routes.notebooks.notebooks import MAX_REVISION
from strata.http.routes.notebooks.rights import READ, WRITE, require_scope
from strata.notebooks.formats.html_page import CONTENT_POLICY, write_html
from strata.notebooks.formats.ipynb import read_ipynb, write_ipynb
from strata.notebooks.formats.report import NotANotebookError, Report
from strata.notebooks.formats.script import write_script
from strata.notebooks.model.edits import InsertCell
from strata.notebooks.model.notebook import Access, Cell, Content
from strata.tenants.notebooks import messages as m
from strata.tenants.notebooks.editor import new_cell_id

_FORMATS: Final[Mapping[str, tuple[Callable[[Content], str], str, str]]] = MappingProxyType(
    {
        "ipynb": (write_ipynb, "application/x-ipynb+json", "ipynb"),
        "script": (write_script, "text/x-python; charset=utf-8", "py"),
        "html": (write_html, "text/html; charset=utf-8", "html"),
    }
)
"""Writer, content type and suffix of each format."""


@tag(["notebooks"])
@takes_file("A notebook of nbformat 4.")
@document_response(ImportAnswer, 201)
@refuses(403, 409, 413, 422)
@takes(
    "query",
    title={"type": "string", "description": "The title, unless the notebook has one."},
    access={"type": "string", "enum": [access.value for access in Access], "default": "tenant"},
)
async def import_notebook(call: Call) -> Answer:
    """Make a notebook of the .ipynb file in the body, without outputs. Needs ``notebook:write``."""
    require_scope(call, WRITE)
    refuse_unknown(call.query, {"title", "access"})
    access = call.query.get("access", Access.TENANT.value)
    if access not in [one.value for one in Access]:
        raise bad_parameter("access", "must be tenant or private")
    read = partial(read_ipynb, call.body, call.query.get("title", "Notebook"), new_cell_id)
    try:
        found = await call.context.compute(read)
    except NotANotebookError as error:
        problem = [{"loc": ["body"], "msg": str(error)}]
        raise ProblemError(Problem(422, str(error), "not_a_notebook", problem)) from None
    question = m.CreateNotebook(
        principal=call.context.caller,
        request_id=call.context.request_id,
        access=Access(access),
        content=found.content,
        cells=[_inserted(cell) for cell in found.content.cells],
    )
    view = await call.context.ask(question, m.NotebookView)
    return await call.context.compute(partial(_imported, view, found.report))


@tag(["notebooks"])
@answers(
    200,
    "The notebook as a file.",
    "application/x-ipynb+json",
    "text/x-python",
    "text/html",
    headers=("Content-Disposition", "Content-Security-Policy"),
)
@refuses(403, 404, 413)
@takes(
    "query",
    format={"type": "string", "enum": list(_FORMATS), "default": "ipynb"},
    revision={"type": "integer", "minimum": 1, "maximum": MAX_REVISION},
)
async def export(call: Call) -> Answer:
    """Write a revision as a file: ``ipynb``, ``script`` or ``html``. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"format", "revision"})
    kind = call.query.get("format", "ipynb")
    if kind not in _FORMATS:
        raise bad_parameter("format", f"must be one of {', '.join(_FORMATS)}")
    revision = whole(call.query, "revision", 1, 1, MAX_REVISION) if "revision" in call.query else None
    name = call.parts["notebook"]
    question = m.GetNotebook(principal=call.context.caller, name=name, revision=revision)
    view = await call.context.ask(question, m.NotebookView)
    write, content_type, suffix = _FORMATS[kind]
    text = await call.context.compute(partial(write, view.content))
    headers = (
        ("Content-Type", content_type),
        # The name is of letters, digits and hyphens. The page is downloaded, not shown on our origin.
        ("Content-Disposition", f'attachment; filename="{name}.{suffix}"'),
        ("Content-Security-Policy", f"{CONTENT_POLICY}; sandbox"),
        ("Cache-Control", "private, no-cache"),
    )
    return Answer(headers, text.encode())


def _inserted(cell: Cell) -> InsertCell:
    return InsertCell(
        source=cell.source,
        language=cell.language,
        id=cell.id,
        name=cell.name,
        metadata=cell.metadata,
    )


def _imported(view: m.NotebookView, report: Report) -> Answer:
    lines = [ImportLineAnswer(line.code, line.message, line.cell) for line in report.lines]
    return json(ImportAnswer(notebook_body(view), lines, report.left_out), 201)

"""Notebooks: making, listing, reading, editing and deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import msgspec
from quart_schema import document_request, document_response, tag

from strata.http.api.notebooks.schemas import (
    CreateNotebookBody,
    DeletedAnswer,
    DeleteEdit,
    DescribeEdit,
    EditBody,
    EditsBody,
    InsertEdit,
    MoveEdit,
    NewCellBody,
    NotebookAnswer,
    NotebookListAnswer,
    NotebookSummary,
    ReplaceEdit,
)
from strata.http.api.openapi import refuses, takes
from strata.http.api.pages import page_answer, text_token, token_text
from strata.http.api.query_params import refuse_unknown, whole
from strata.http.api.responses import iso, json
from strata.http.api.schemas import decode_body
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.notebooks.answers import notebook_answer
from strata.http.routes.notebooks.rights import READ, WRITE, if_match, require_scope
from strata.notebooks.model import edits as model
from strata.notebooks.model.notebook import Access, Content, Language
from strata.notebooks.store.contract import NotebookRecord
from strata.outcomes import Reason, Refused
from strata.tenants.notebooks import messages as m

MAX_PAGE = 500
MAX_REVISION = 2**31 - 1

B = TypeVar("B", bound=msgspec.Struct)
T = TypeVar("T")


@tag(["notebooks"])
@document_request(CreateNotebookBody)
@document_response(NotebookAnswer, 201)
@refuses(403, 409, 413, 422)
async def create(call: Call) -> Answer:
    """Make a notebook; its name is made of the title. Needs ``notebook:write``."""
    require_scope(call, WRITE)
    body = await _decoded(call, CreateNotebookBody)
    question = m.CreateNotebook(
        principal=call.context.caller,
        request_id=call.context.request_id,
        access=Access(body.access),
        content=Content(title=body.title, metadata=body.metadata),
        cells=[_new_cell(cell) for cell in body.cells],
    )
    view = await call.context.ask(question, m.NotebookView)
    return await notebook_answer(call, view, status=201)


@tag(["notebooks"])
@document_response(NotebookListAnswer)
@refuses(403)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    page_token={"type": "string", "description": "`next_page_token` of the page before."},
)
async def notebooks(call: Call) -> Answer:
    """List the notebooks that the caller may read, by name. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"limit", "page_token"})
    limit = whole(call.query, "limit", 100, 1, MAX_PAGE)
    after = token_text(call.query["page_token"]) if "page_token" in call.query else ""
    # One more than the page tells whether there are further ones.
    question = m.ListNotebooks(principal=call.context.caller, after=after, limit=limit + 1)
    found = await call.context.ask(question, tuple)
    return await page_answer(call.context, found, partial(_page, limit))


@tag(["notebooks"])
@document_response(NotebookAnswer)
@refuses(403, 404, 413)
@takes(
    "query",
    revision={
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_REVISION,
        "description": "The latest without it.",
    },
)
async def notebook(call: Call) -> Answer:
    """Read a revision of a notebook, with the graph of its cells. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"revision"})
    revision = whole(call.query, "revision", 1, 1, MAX_REVISION) if "revision" in call.query else None
    question = m.GetNotebook(principal=call.context.caller, name=call.parts["notebook"], revision=revision)
    return await notebook_answer(call, await call.context.ask(question, m.NotebookView))


@tag(["notebooks"])
@document_request(EditsBody)
@document_response(NotebookAnswer)
@refuses(403, 404, 409, 412, 413, 422)
@takes("header", If_Match={"type": "string", "description": "The revision that is edited, as an ETag."})
async def edit(call: Call) -> Answer:
    """Edit cells: all edits are one revision, or none is made. Needs ``notebook:write``.

    The revision that is edited must be given, as ``revision`` or as ``If-Match``. If it is not the latest one
    any more, the answer is 409, or 412 for ``If-Match``.
    """
    require_scope(call, WRITE)
    body = await _decoded(call, EditsBody)
    matched = if_match(call.headers)
    base = body.revision if body.revision is not None else matched
    if base is None:
        detail = "Give the revision that you edit: `revision`, or the header If-Match."
        raise ProblemError(
            Problem(422, detail, "revision_required", [{"loc": ["body", "revision"], "msg": detail}])
        )
    if matched is not None and matched != base:
        raise ProblemError(Problem(422, "revision and If-Match name different revisions.", "revision_twice"))
    question = m.EditNotebook(
        principal=call.context.caller,
        request_id=call.context.request_id,
        name=call.parts["notebook"],
        base=base,
        edits=[_edit(one) for one in body.edits],
        member=body.member,
    )
    found = await call.context.registry.ask(call.context.caller.tenant, question, call.context.admission)
    view = _unless_changed(found, m.NotebookView, precondition=matched is not None)
    return await notebook_answer(call, view)


@tag(["notebooks"])
@document_response(DeletedAnswer)
@refuses(403, 404, 412)
@takes("header", If_Match={"type": "string", "description": "The latest revision, as an ETag."})
async def delete(call: Call) -> Answer:
    """Delete a notebook with its revisions. Needs ``notebook:write``."""
    require_scope(call, WRITE)
    matched = if_match(call.headers)
    question = m.DeleteNotebook(
        principal=call.context.caller,
        request_id=call.context.request_id,
        name=call.parts["notebook"],
        base=matched,
    )
    found = await call.context.registry.ask(call.context.caller.tenant, question, call.context.admission)
    _unless_changed(found, m.Deleted, precondition=True)
    return json(DeletedAnswer(call.parts["notebook"]))


def _unless_changed(found: object, kind: type[T], *, precondition: bool) -> T:
    """Return an answer.

    Raises:
        ProblemError: For a refusal; one of a changed revision is 412 where ``If-Match`` named the revision.
    """
    if isinstance(found, Refused):
        if precondition and found.reason is Reason.CONFLICT:
            raise ProblemError(Problem(412, found.detail, found.code))
        raise ProblemError(Problem.of(found))
    assert isinstance(found, kind)
    return found


async def _decoded(call: Call, kind: type[B]) -> B:
    decode = partial(decode_body, kind, call.body)
    return decode() if call.small else await call.context.compute(decode)


def _page(limit: int, found: Sequence[NotebookRecord]) -> Answer:
    page = found[:limit]
    following = text_token(page[-1].name) if len(page) < len(found) else None
    return json(NotebookListAnswer([_summary(record) for record in page], following))


def _summary(record: NotebookRecord) -> NotebookSummary:
    return NotebookSummary(
        name=record.name,
        title=record.title,
        owner=record.owner,
        access=record.access.value,
        revision=record.revision,
        created_at=iso(record.created_at) or "",
        updated_at=iso(record.updated_at) or "",
    )


def _new_cell(body: NewCellBody) -> model.InsertCell:
    return model.InsertCell(
        source=body.source,
        language=Language(body.language),
        id=body.id,
        name=body.name,
        metadata=body.metadata,
    )


def _edit(body: EditBody) -> model.Edit:
    match body:
        case InsertEdit():
            return model.InsertCell(
                body.source, Language(body.language), body.after, body.id, body.name, body.metadata
            )
        case ReplaceEdit():
            language = None if body.language is None else Language(body.language)
            return model.ReplaceCell(body.id, body.source, language, body.name, body.metadata)
        case MoveEdit():
            return model.MoveCell(body.id, body.after)
        case DeleteEdit():
            return model.DeleteCell(body.id)
        case DescribeEdit():
            return model.Describe(body.title, body.metadata)

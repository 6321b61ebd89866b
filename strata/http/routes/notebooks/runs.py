"""Runs of whole notebooks: begin one, follow it, end it, and read those of before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from quart_schema import document_request, document_response, tag

from strata.http.api.notebooks.session_schemas import (
    NotebookRunAnswer,
    NotebookRunsAnswer,
    RunCellAnswer,
    StartRunBody,
)
from strata.http.api.openapi import refuses, takes
from strata.http.api.pages import page_answer, text_token, token_text
from strata.http.api.query_params import refuse_unknown, whole
from strata.http.api.responses import iso, json
from strata.http.api.schemas import decode_body
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.rights import EXECUTE, READ, require_scope
from strata.tenants.notebooks import run_messages as r

MAX_PAGE = 100


@tag(["notebooks"])
@document_request(StartRunBody)
@document_response(NotebookRunAnswer, 202)
@refuses(403, 404, 409, 413, 422)
async def start(call: Call) -> Answer:
    """Run a whole notebook, without a member that waits for it.

    A run goes on when the caller has left. Parameters replace the values of names that the cell with the tag
    ``parameters`` defines. Needs ``notebook:execute`` and ``notebook:read``.
    """
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    decode = partial(decode_body, StartRunBody, call.body)
    body = decode() if call.small else await call.context.compute(decode)
    question = r.StartRun(
        principal=call.context.caller,
        request_id=call.context.request_id,
        name=call.parts["notebook"],
        revision=body.revision,
        parameters=body.parameters,
        force=body.force,
        seconds=body.timeout_seconds,
    )
    return json(_run(await call.context.ask(question, r.RunView)), 202)


@tag(["notebooks"])
@document_response(NotebookRunsAnswer)
@refuses(403, 404, 413)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 20},
    page_token={"type": "string"},
)
async def runs(call: Call) -> Answer:
    """List the runs of a notebook, the latest first, without the texts of cells. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"limit", "page_token"})
    limit = whole(call.query, "limit", 20, 1, MAX_PAGE)
    before = token_text(call.query["page_token"]) if "page_token" in call.query else None
    # One more than the page tells whether there are further ones.
    question = r.ListRuns(
        principal=call.context.caller, name=call.parts["notebook"], before=before, limit=limit + 1
    )
    found = await call.context.ask(question, tuple)
    return await page_answer(call.context, found, partial(_page, limit))


@tag(["notebooks"])
@document_response(NotebookRunAnswer)
@refuses(403, 404, 413)
async def run(call: Call) -> Answer:
    """Read a run, with how its cells ended and what they printed. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, set())
    question = r.GetRun(principal=call.context.caller, name=call.parts["notebook"], run=call.parts["run"])
    view = await call.context.ask(question, r.RunView)
    return await call.context.compute(lambda: json(_run(view)))


@tag(["notebooks"])
@document_response(NotebookRunAnswer)
@refuses(403, 404, 413)
async def cancel(call: Call) -> Answer:
    """End a run; what its cells have left stays. Needs ``notebook:execute`` and ``notebook:read``."""
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    question = r.CancelRun(principal=call.context.caller, name=call.parts["notebook"], run=call.parts["run"])
    return json(_run(await call.context.ask(question, r.RunView)))


def _page(limit: int, found: Sequence[r.RunView]) -> Answer:
    page = found[:limit]
    following = text_token(page[-1].record.run) if len(page) < len(found) else None
    return json(NotebookRunsAnswer([_run(one) for one in page], following))


def _run(view: r.RunView) -> NotebookRunAnswer:
    record, details = view.record, view.details
    return NotebookRunAnswer(
        run=record.run,
        author=record.author,
        schedule=record.schedule or None,
        revision=record.revision,
        state=record.state,  # type: ignore[arg-type]  # a word
        began_at=iso(record.began_at) or "",
        ended_at=iso(record.ended_at),
        parameters=dict(details.parameters),
        cells=[_cell(one) for one in details.cells],
    )


def _cell(cell: r.RunCell) -> RunCellAnswer:
    return RunCellAnswer(
        cell=cell.cell,
        how=cell.how,
        message=cell.message,
        seconds=cell.seconds,
        stdout=cell.stdout,
        stderr=cell.stderr,
        traceback=cell.traceback,
        displays=list(cell.displays),
        hidden=cell.hidden,
    )

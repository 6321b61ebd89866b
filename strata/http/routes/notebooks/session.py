"""The live session of a notebook: run cells, interrupt them, follow what happens, read results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from quart_schema import document_request, document_response, tag

from strata.http.api.notebooks.session_schemas import (
    CellResultAnswer,
    DisplayAnswer,
    EventsAnswer,
    RunBody,
    SessionAnswer,
    SessionCellAnswer,
    StaleReasonAnswer,
    ValueAnswer,
)
from strata.http.api.openapi import answers, needs, refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import json
from strata.http.api.schemas import decode_body
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.presence import event_answer, locks_of, members_of
from strata.http.routes.notebooks.rights import EXECUTE, READ, require_scope
from strata.notebooks.model.results import CellResult
from strata.tenants.notebooks import session_messages as s

MAX_SEQ: Final = 2**53
MAX_WAIT: Final = 20
"""Seconds that a request waits for an event at most."""

MAX_DISPLAY: Final = 99
"""Place of the last display that a result may have."""

_NAME: Final = re.compile(r"[^\W\d]\w{0,255}")
_MEDIA: Final[Mapping[str, str]] = MappingProxyType(
    {
        "arrow/ipc": "application/vnd.apache.arrow.stream",
        "json/object": "application/json",
        "module/import": "application/json",
        "table/json": "application/json",
        "image/png": "image/png",
        "text/plain": "text/plain; charset=utf-8",
        "text/markdown": "text/markdown; charset=utf-8",
    }
)
"""Content types of values and displays; every other form is bytes, a pickle above all."""


@tag(["notebooks"])
@document_response(SessionAnswer)
@refuses(403, 404, 413)
async def describe(call: Call) -> Answer:
    """Read the session of a notebook: cells, their results, and what is stale. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, set())
    question = s.GetSession(principal=call.context.caller, name=call.parts["notebook"])
    return await _answer(call, await call.context.ask(question, s.SessionView))


@tag(["notebooks"])
@document_request(RunBody)
@document_response(SessionAnswer, 202)
@refuses(403, 404, 409, 413, 422)
async def run(call: Call) -> Answer:
    """Run cells, and before them those that they need.

    The answer comes at once; what happens is in the session's events. Needs ``notebook:execute`` and
    ``notebook:read``.
    """
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    body = decode_body(RunBody, call.body)
    question = s.RunCells(
        principal=call.context.caller,
        name=call.parts["notebook"],
        cells=None if body.cells is None else tuple(body.cells),
        force=body.force,
    )
    return await _answer(call, await call.context.ask(question, s.SessionView), status=202)


@tag(["notebooks"])
@document_response(SessionAnswer)
@refuses(403, 404, 413)
async def interrupt(call: Call) -> Answer:
    """Interrupt the run under way, and drop those that wait.

    Needs ``notebook:execute`` and ``notebook:read``.
    """
    for scope in (EXECUTE, READ):
        require_scope(call, scope)
    refuse_unknown(call.query, set())
    question = s.InterruptRun(principal=call.context.caller, name=call.parts["notebook"])
    return await _answer(call, await call.context.ask(question, s.SessionView))


@tag(["notebooks"])
@document_response(EventsAnswer)
@refuses(403, 404, 413)
@needs(
    "query",
    after={
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_SEQ,
        "description": "Number of the last event that the caller has.",
    },
)
@takes(
    "query",
    wait={
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_WAIT,
        "default": 0,
        "description": "Seconds to wait for an event if there is none yet.",
    },
)
async def events(call: Call) -> Answer:
    """Read the events behind one, or wait for the next. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"after", "wait"})
    if "after" not in call.query:
        raise bad_parameter("after", "must be given")
    question = s.WatchSession(
        principal=call.context.caller,
        name=call.parts["notebook"],
        after=whole(call.query, "after", 0, 0, MAX_SEQ),
        seconds=whole(call.query, "wait", 0, 0, MAX_WAIT),
    )
    found = await call.context.ask(question, s.SessionEvents)
    return await call.context.compute(partial(_events, found))


@tag(["notebooks"])
@answers(
    200,
    "The bytes of a value or a display.",
    *sorted({media.partition(";")[0] for media in _MEDIA.values()}),
    "application/octet-stream",
    headers=("Content-Disposition", "Content-Security-Policy"),
)
@refuses(403, 404, 413)
@needs("query", cell={"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
@takes(
    "query",
    value={"type": "string", "minLength": 1, "maxLength": 256, "description": "Name of a value."},
    display={"type": "integer", "minimum": 0, "maximum": MAX_DISPLAY, "description": "Place of a display."},
)
async def output(call: Call) -> Answer:
    """Read a value or a display of a cell's result: one of both must be named. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"cell", "value", "display"})
    if "cell" not in call.query:
        raise bad_parameter("cell", "must be given")
    if ("value" in call.query) == ("display" in call.query):
        raise bad_parameter("value", "must be given, or display, and not both")
    value = call.query.get("value")
    if value is not None and not _NAME.fullmatch(value):
        raise bad_parameter("value", "must be a name")
    question = s.ReadOutput(
        principal=call.context.caller,
        name=call.parts["notebook"],
        cell=call.query["cell"][:64],
        value=value,
        display=whole(call.query, "display", 0, 0, MAX_DISPLAY),
    )
    found = await call.context.ask(question, s.OutputBytes)
    headers = (
        ("Content-Type", _MEDIA.get(found.content_type, "application/octet-stream")),
        # What a cell made is downloaded, and never shown as a page on our origin.
        ("Content-Disposition", "attachment"),
        ("Content-Security-Policy", "default-src 'none'; sandbox"),
        ("Cache-Control", "private, no-store"),
    )
    return Answer(headers, found.data)


async def _answer(call: Call, view: s.SessionView, *, status: int = 200) -> Answer:
    return await call.context.compute(partial(_encoded, view, status))


def _encoded(view: s.SessionView, status: int) -> Answer:
    cells = [_cell(one) for one in view.cells]
    members, locks = members_of(view.state), locks_of(view.state, view.now)
    return json(SessionAnswer(view.session, view.seq, view.revision, cells, members, locks), status)


def _cell(cell: s.SessionCell) -> SessionCellAnswer:
    stale = [StaleReasonAnswer(one.because.value, one.name, one.cell) for one in cell.state.reasons]
    result = None if cell.result is None else _result(cell.result)
    return SessionCellAnswer(cell.id, cell.status, stale, cell.hidden, result)  # type: ignore[arg-type]  # a word


def _result(result: CellResult) -> CellResultAnswer:
    return CellResultAnswer(
        outcome=result.how,
        message=result.message,
        traceback=result.traceback,
        line=result.line,
        seconds=result.seconds,
        run_by=result.principal,
        revision=result.revision,
        stdout=result.stdout,
        stderr=result.stderr,
        values={
            name: ValueAnswer(one.content_type, one.sha256, one.nbytes, one.type, one.preview)
            for name, one in result.outputs.items()
        },
        displays=[DisplayAnswer(one.content_type, one.nbytes, one.preview) for one in result.displays],
        displays_left_out=result.displays_left_out,
        changed_in_place=list(result.changed),
    )


def _events(found: s.SessionEvents) -> Answer:
    events = [event_answer(one) for one in found.events]
    return json(EventsAnswer(found.session, found.seq, found.complete, events))

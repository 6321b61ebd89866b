"""What a client asks about notebooks, without I/O; see :mod:`strata.client.operations`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import pyarrow as pa

from strata.client.answers import parse_answer
from strata.client.display.html import Listing
from strata.client.errors import WaitTimeoutError
from strata.client.methods.notebook_answers import (
    CellEnd,
    ImportedNotebook,
    Notebook,
    NotebookPage,
    NotebookRun,
    NotebookSession,
    NotebookSummary,
    SessionEvents,
)
from strata.client.operations import ClientEnvironment, Operation, Send, exchange

T = TypeVar("T")

PAGE: Final = 500
"""Notebooks that one request asks for."""

WAIT_SECONDS: Final = 10
"""Seconds that one request waits for an event."""

SKIPPED: Final = "skipped"
NO_RESULT: Final = "The run left no result."


def notebook_path(name: str) -> str:
    """Return the path of a notebook."""
    return f"/v1/notebooks/{quote(name, safe='')}"


def notebooks(env: ClientEnvironment) -> Operation[Listing[NotebookSummary]]:
    """Return all notebooks that the caller may read."""
    found: list[NotebookSummary] = []
    query: dict[str, Any] = {"limit": PAGE}
    while True:
        page = yield from _ask(env, NotebookPage, Send("GET", f"/v1/notebooks?{urlencode(query)}"))
        found += page.notebooks
        if page.next_page_token is None:
            return Listing(found)
        query["page_token"] = page.next_page_token


def notebook(env: ClientEnvironment, name: str, revision: int | None) -> Operation[Notebook]:
    """Return a revision of a notebook."""
    query = "" if revision is None else f"?revision={revision}"
    return (yield from _ask(env, Notebook, Send("GET", f"{notebook_path(name)}{query}")))


def create(
    env: ClientEnvironment, title: str, cells: Iterable[str | Mapping[str, Any]], access: str
) -> Operation[Notebook]:
    """Make a notebook."""
    listed = [{"source": cell} if isinstance(cell, str) else dict(cell) for cell in cells]
    body = _json({"title": title, "access": access, "cells": listed})
    return (yield from _ask(env, Notebook, Send("POST", "/v1/notebooks", body, repeatable=False)))


def edit(
    env: ClientEnvironment, name: str, revision: int, edits: Iterable[Mapping[str, Any]]
) -> Operation[Notebook]:
    """Make a revision."""
    body = _json({"revision": revision, "edits": [dict(one) for one in edits]})
    path = f"{notebook_path(name)}/edits"
    return (yield from _ask(env, Notebook, Send("POST", path, body, repeatable=False)))


def delete(env: ClientEnvironment, name: str) -> Operation[None]:
    """Delete a notebook."""
    yield from exchange(env, Send("DELETE", notebook_path(name), repeatable=False))


def session(env: ClientEnvironment, name: str) -> Operation[NotebookSession]:
    """Return the results of a notebook's cells."""
    return (yield from _ask(env, NotebookSession, Send("GET", f"{notebook_path(name)}/session")))


def run(
    env: ClientEnvironment, name: str, cells: Iterable[str] | None, *, force: bool, timeout: float | None
) -> Operation[NotebookRun]:
    """Run cells, and wait until they have ended.

    Raises:
        WaitTimeoutError: If some still run after ``timeout`` seconds; they go on.
    """
    begun, path = env.clock(), f"{notebook_path(name)}/session"
    before = yield from session(env, name)
    body = _json({"cells": None if cells is None else list(cells), "force": force})
    sent = yield from _ask(env, NotebookSession, Send("POST", f"{path}/run", body, repeatable=False))
    waiting = [cell.id for cell in sent.cells if cell.status != "idle"]
    ended: dict[str, CellEnd] = {}
    after = before.seq if sent.session == before.session else 0
    while set(waiting) - set(ended):
        left = WAIT_SECONDS if timeout is None else min(WAIT_SECONDS, timeout - (env.clock() - begun))
        if left <= 0:
            names = ", ".join(cell for cell in waiting if cell not in ended)
            raise WaitTimeoutError(f"Cells still run after {timeout:g} s: {names}.")
        query = urlencode({"after": after, "wait": int(left)})
        part = yield from _ask(env, SessionEvents, Send("GET", f"{path}/events?{query}"))
        after = part.seq
        for one in part.events:
            payload = one["payload"]
            if one["type"] == "ended" and payload["cell"] in waiting:
                ended[payload["cell"]] = CellEnd(payload["cell"], payload["how"], payload["message"])
        if not part.complete or part.session != sent.session:
            # Their events are lost; whatever does not run any more has ended.
            now = yield from session(env, name)
            for cell in now.cells:
                if cell.status == "idle" and cell.id in waiting and cell.id not in ended:
                    result = cell.result
                    how, message = (
                        (SKIPPED, NO_RESULT) if result is None else (result.outcome, result.message)
                    )
                    ended[cell.id] = CellEnd(cell.id, how, message)
            after = now.seq
    after_run = yield from session(env, name)
    return NotebookRun(tuple(ended[cell] for cell in waiting), after_run)


def interrupt(env: ClientEnvironment, name: str) -> Operation[NotebookSession]:
    """Interrupt the run under way, and drop those that wait."""
    return (yield from _ask(env, NotebookSession, Send("POST", f"{notebook_path(name)}/session/interrupt")))


def value(env: ClientEnvironment, name: str, cell: str, query: Mapping[str, Any]) -> Operation[Any]:
    """Return a value or a display of a cell."""
    text = urlencode({"cell": cell, **query})
    request = Send("GET", f"{notebook_path(name)}/session/output?{text}", accept="*/*")
    reply = yield from exchange(env, request)
    kind = reply.headers.get("content-type", "").partition(";")[0]
    if kind == "application/vnd.apache.arrow.stream":
        with pa.ipc.open_stream(reply.body) as reader:
            return reader.read_all()
    if kind == "application/json":
        return json.loads(reply.body)
    return reply.body.decode() if kind.startswith("text/") else reply.body


def export(env: ClientEnvironment, name: str, kind: str, revision: int | None) -> Operation[str]:
    """Return a revision of a notebook as a file's text."""
    chosen = {"format": kind} | ({} if revision is None else {"revision": str(revision)})
    request = Send("GET", f"{notebook_path(name)}/export?{urlencode(chosen)}", accept="*/*")
    return (yield from exchange(env, request)).body.decode()


def import_ipynb(
    env: ClientEnvironment, data: bytes, title: str | None, access: str
) -> Operation[ImportedNotebook]:
    """Make a notebook of an ``.ipynb`` file."""
    chosen = {"access": access} | ({} if title is None else {"title": title})
    request = Send("POST", f"/v1/notebook-imports?{urlencode(chosen)}", data, repeatable=False)
    return (yield from _ask(env, ImportedNotebook, request))


def _ask(env: ClientEnvironment, kind: type[T], request: Send) -> Operation[T]:
    return parse_answer(kind, (yield from exchange(env, request)).body)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()

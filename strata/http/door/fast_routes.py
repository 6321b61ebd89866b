"""Routes answered at the door, in plain ASGI: the few that make up nearly all requests.

The application inside costs a request three times what its work does. A route that is here is registered
there as well, with the same handler behind it: for its description, and for the requests with something
out of the ordinary (a query, a range, a validator, HEAD), which this leaves to the application.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import structlog
import trio

from strata.auth import Headers
from strata.http.asgi import Receive, Scope, Send
from strata.http.door.context import Context
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants.shared.byte_stream import ByteStream
from strata.work import FileRange

log = structlog.get_logger(__name__)

EXTRAORDINARY = frozenset({b"range", b"if-range", b"if-none-match", b"if-match", b"expect"})
"""Headers that are the application's business."""


@attrs.frozen(eq=False)
class Answer:
    """An answer of a route.

    Attributes:
        headers: Its headers, besides those of every answer and the length.
        body: The whole body, or where it comes from; whoever answers closes that.
        first: What was read of a body already.
        status: Its status.
    """

    headers: Sequence[tuple[str, str]]
    body: bytes | ByteStream
    first: bytes = b""
    status: int = 200

    @property
    def length(self) -> int | None:
        """Bytes of the body, when known."""
        if isinstance(self.body, bytes):
            return len(self.body)
        size = self.body.size  # of what is left of it
        return None if size is None else size + len(self.first)


@attrs.frozen(eq=False)
class Call:
    """A request for a route.

    Attributes:
        context: What is known of it.
        parts: The variable parts of its path.
        headers: Its headers.
        body: Its whole body.
    """

    context: Context
    parts: Sequence[str]
    headers: Headers = ()
    body: bytes = b""

    def header(self, name: bytes) -> str:
        """Return a header's first value, or nothing."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


Handler = Callable[[Call], Awaitable[Answer]]


@attrs.frozen
class PlainRoute:
    """A route.

    Attributes:
        method: GET or POST.
        path: What the whole path must match; its groups are the handler's ``parts``.
        handler: Who answers. Raises ``ProblemError``.
    """

    method: str
    path: re.Pattern[str]
    handler: Handler

    def parts(self, scope: Scope) -> Sequence[str] | None:
        """Return the variable parts of a request's path, if the request is this route's."""
        if scope["method"] != self.method or scope["query_string"]:
            return None
        match = self.path.fullmatch(scope["path"])
        if match is None or any(name in EXTRAORDINARY for name, _ in scope["headers"]):
            return None
        return match.groups()


async def answer(handler: Handler, call: Call, receive: Receive, send: Send) -> None:
    """Answer a request; nobody works on for a client that left.

    Args:
        handler: Whose request it is.
        call: The request.
        receive: What else the server has to say: whether the client is gone. Asked where the request's
            context has no ``tell_gone``, which saves a task for each request.
        send: Takes the answer.
    """
    context = call.context
    if context.tell_gone is not None:
        with trio.CancelScope() as scope:
            context.tell_gone(partial(_leave, context, scope))
            await _send(await _answer(handler, call), context, send)
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, context, receive, nursery.cancel_scope)
        await _send(await _answer(handler, call), context, send)
        nursery.cancel_scope.cancel()


async def _watch(context: Context, receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    _leave(context, scope)


def _leave(context: Context, scope: trio.CancelScope) -> None:
    # Once the answer's last byte is on its way the goodbye is the server's own, from within that very send.
    if not context.ended:
        scope.cancel()


async def _answer(handler: Handler, call: Call) -> Answer:
    try:
        return await handler(call)
    except ProblemError as error:
        problem = error.problem
    except Exception:  # a bug in a route is one request's, and the log has it
        log.exception("request crashed")
        problem = Problem.crash()
    return Answer(problem.header_pairs(), problem.body(call.context.request_id), status=problem.status)


async def _send(found: Answer, context: Context, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in found.headers]
    if found.length is not None:
        # After the type, as in the application's answers.
        headers.insert(1, (b"content-length", b"%d" % found.length))
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    if isinstance(found.body, bytes):
        await send(_part(found.body, more=False))
        return
    stream = found.body
    following = stream.load if context.carried else stream.chunk
    try:
        part = found.first or await following()
        while part:
            whole = stream.start == stream.stop
            await send(_part(part, more=not whole))  # a small result goes out in one message with its end
            if whole:
                return
            part = await following()
    except RefusalError as error:
        context.broken = error.refused
    finally:
        stream.close()
    await send(_part(b"", more=False))


def _part(data: bytes | FileRange, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}

"""Routes: one definition and one handler each, for the front door and for the application inside.

The application costs a request three times what its work does. So the few routes that make up nearly all
requests are *hot*: the front door enters them itself, by the same handler, and leaves to the application what
is out of the ordinary (a query, a range, a validator, HEAD).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import quote, unquote

import attrs
import structlog
import trio

from strata.auth import Headers
from strata.http.asgi import Receive, Scope, Send
from strata.http.door.context import Context
from strata.http.door.error_pages import rendered
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tracing.spans import child
from strata.work import FileRange

log = structlog.get_logger(__name__)

SMALL_BODY_BYTES = 16 * 1024
"""Bytes of a request's body that the event loop decodes, in less than a millisecond; a larger one is decoded
in the work pool, where the largest one takes up to a tenth of a second."""

EXTRAORDINARY = frozenset({b"range", b"if-range", b"if-none-match", b"if-match", b"expect"})
"""Headers that only the application honours."""

VERSION = "[1-9][0-9]{0,17}"
"""The version of an artifact in a path, in its one spelling: ASCII digits without leading zeros."""

_PART = re.compile("<(?:(?P<kind>[a-z]+):)?(?P<name>[a-z_]+)>")
_KINDS = {None: "[A-Za-z0-9_-]{1,128}", "version": VERSION}
_NOTHING: Mapping[str, str] = MappingProxyType({})


class AnswerStream(Protocol):
    """The body of an answer that is read as it is sent: a result's bytes, or what is made of them.

    Attributes:
        start: Offset of the next byte.
        stop: Offset after the last byte; None while it is not known.
    """

    start: int
    stop: int | None

    @property
    def size(self) -> int | None:
        """Bytes that are left; None while that is not known."""

    def narrow(self, start: int, stop: int) -> None:
        """Leave only some of the bytes."""

    async def chunk(self, limit: int | None = None) -> bytes | None:
        """Return the next bytes; None at the end. Raises RefusalError."""

    async def load(self) -> bytes | FileRange | None:
        """Return the next bytes, or where they are. Raises RefusalError."""

    def delivered(self) -> None:
        """Note that the last byte was sent."""

    def close(self) -> None:
        """Give back what it holds; does nothing when repeated."""


@attrs.frozen(eq=False)
class Answer:
    """An answer of a route.

    Attributes:
        headers: Its headers, besides those of every answer and the length.
        body: The whole body, or the stream of it, which the sender closes.
        first: Bytes that were read of the stream already.
        status: Its status.
        in_part: Whether ranges and validators of the request are honoured.
    """

    headers: Sequence[tuple[str, str]]
    body: bytes | AnswerStream
    first: bytes = b""
    status: int = 200
    in_part: bool = False

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
        parts: The variable parts of its path, by name.
        headers: Its headers.
        body: Its whole body.
        query: Its parameters, each once.
    """

    context: Context
    parts: Mapping[str, Any] = _NOTHING
    headers: Headers = ()
    body: bytes = b""
    query: Mapping[str, str] = _NOTHING

    @property
    def small(self) -> bool:
        """Whether the body is decoded on the event loop."""
        return len(self.body) <= SMALL_BODY_BYTES


Handler = Callable[[Call], Awaitable[Answer]]
"""Answers a call. Raises ``ProblemError``; any other exception is answered as a bug."""


@attrs.frozen(eq=False)
class Route:
    """A route.

    Attributes:
        method: Its method; GET also means HEAD.
        path: Its path in the application's syntax, such as ``/v1/streams/<stream_id>``.
        handler: Answers it. Decorators of ``strata.http.api.openapi`` describe it.
        hot: Whether the front door enters it.
        pattern: What the whole path of a request must match to be entered by the front door.
    """

    method: str
    path: str
    handler: Handler
    hot: bool = False
    pattern: re.Pattern[str] = attrs.field(init=False)

    @pattern.default
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(
            _PART.sub(lambda part: f"(?P<{part['name']}>{_KINDS.get(part['kind'], '.+')})", self.path)
        )

    def parts(self, scope: Scope) -> Mapping[str, str] | None:
        """Return the variable parts of a request's path, if the front door enters this route for it."""
        if scope["method"] != self.method or scope["query_string"]:
            return None
        match = self.pattern.fullmatch(scope["path"])
        if match is None or not EXTRAORDINARY.isdisjoint(dict(scope["headers"])):
            return None
        return match.groupdict()


SLASH = "\uffff"
"""Stands for an encoded slash (``%2F``) in a path while it is routed: it is a character of one part, and
separates none. The character is not assigned in Unicode; a path that has it itself is no path."""

_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)


def routed_path(scope: Scope) -> str:
    """Return the decoded path of a request for its routing; empty if it is no path."""
    path: str = scope["path"]
    if SLASH in path:
        return ""
    raw = scope.get("raw_path") or b""
    if b"%2" in raw:
        path = unquote(_ENCODED_SLASH.sub(quote(SLASH), raw.decode("ascii")))
    return path


def joined(headers: Headers, name: bytes) -> str | None:
    """Return all values of a header as one list, in the order of its lines; None if it is absent.

    Args:
        headers: The request's headers.
        name: The header's name in lower case.
    """
    values = [value.decode("latin-1") for key, value in headers if key == name]
    return ", ".join(values) if values else None


async def answer(handler: Handler, call: Call) -> Answer:
    """Return the answer to a call; a problem and a bug are answers, too."""
    try:
        return await handler(call)
    except ProblemError as error:
        problem = error.problem
    except Exception:  # a bug in a route is one request's, and the log has it
        log.exception("request crashed")
        problem = Problem.crash()
    return problem_answer(problem, call.context)


def problem_answer(problem: Problem, context: Context) -> Answer:
    """Return a problem as an answer, and note it for the request's line in the log."""
    context.problem = problem
    headers, body = rendered(problem, context)
    return Answer(headers, body, status=problem.status)


async def serve(handler: Handler, call: Call, receive: Receive, send: Send) -> None:
    """Answer a request; the work for a client that has left ends.

    Args:
        handler: The route's handler.
        call: The request.
        receive: ASGI's, for the disconnect of the client. Only used where the request's context has no
            ``tell_gone``, which saves a task for each request.
        send: ASGI's, for the answer.
    """
    context = call.context
    if context.tell_gone is not None:
        with trio.CancelScope() as scope:
            context.tell_gone(partial(_leave, context, scope))
            await _send(await answer(handler, call), context, send)
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, context, receive, nursery.cancel_scope)
        await _send(await answer(handler, call), context, send)
        nursery.cancel_scope.cancel()


async def _watch(context: Context, receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    _leave(context, scope)


def _leave(context: Context, scope: trio.CancelScope) -> None:
    # Once the answer's last byte is on its way, the disconnect is the server's own, from within that send.
    if not context.ended:
        scope.cancel()


async def _send(found: Answer, context: Context, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in found.headers]
    if found.length is not None:
        # After the type, as in the application's answers.
        headers.insert(1, (b"content-length", b"%d" % found.length))
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    stream = found.body
    if isinstance(stream, bytes):
        await send({"type": "http.response.body", "body": stream, "more_body": False})
        return
    following = stream.load if context.carried else stream.chunk
    with child("send"):
        try:
            part: bytes | FileRange | None = found.first or await following()
            while part:
                whole = stream.start == stream.stop
                await send({"type": "http.response.body", "body": part, "more_body": not whole})
                if whole:  # a small result goes out in one message with its end
                    stream.delivered()
                    return
                part = await following()
            stream.delivered()
        except RefusalError as error:
            context.broken = error.refused
        finally:
            stream.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})

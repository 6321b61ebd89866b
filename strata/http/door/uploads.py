"""Large bodies on their way in: a plain ASGI route with backpressure, and a cap measured while reading.

Quart-Trio reads a body ahead of its handler as fast as the client sends it, so a handler that waits would let
one client fill the memory. Here the handler takes one piece after the other, and the client keeps the rest:
Hypercorn and the kernel hold a few megabytes, and then the client waits.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import trio

from strata.http.asgi import Receive
from strata.http.door.context import Context
from strata.http.problems import Problem, ProblemError

WAIT_SECONDS = 60.0
"""Seconds the server waits for a client in all, besides what its bytes buy; then 408."""

SLOWEST_BYTES_PER_SECOND = 64 * 1024
"""Bytes that buy a client one more second: a byte now and then does not keep an upload open for good."""


class UploadBody:
    """The body of an upload, piece by piece.

    Args:
        receive: ASGI's.
        cap: Most bytes, measured while reading; a declared length is not believed.
        seconds: Seconds the server waits for the client in all, besides what its bytes buy
            (:data:`SLOWEST_BYTES_PER_SECOND`). The time a handler takes does not count.

    Attributes:
        size: Bytes read so far.
        whole: Whether the last byte was read.
        fault: The problem that ended it early. It is the answer, whatever the handler returns.
    """

    def __init__(self, receive: Receive, cap: int, seconds: float = WAIT_SECONDS) -> None:
        self._receive = receive
        self._seconds = seconds
        self._waited = 0.0
        self.cap = cap
        self.size = 0
        self.whole = False
        self.fault: Problem | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces as they arrive, none of them empty.

        Raises:
            ProblemError: 413 at the first byte over the cap, 408 if the client takes too long.
            UploadGoneError: If the client left.
        """
        while not self.whole:
            message = await self._next()
            if message["type"] == "http.disconnect":
                raise UploadGoneError
            piece: bytes = message.get("body", b"")
            self.size += len(piece)
            self.whole = not message.get("more_body", False)
            if self.size > self.cap:
                raise self._end(too_large(self.cap))
            if piece:
                yield piece

    async def _next(self) -> dict[str, Any]:
        began = trio.current_time()
        allowed = self._seconds + self.size / SLOWEST_BYTES_PER_SECOND - self._waited
        with trio.move_on_after(allowed):
            message = await self._receive()
            self._waited += trio.current_time() - began
            return message
        raise self._end(Problem(408, "The request's body did not arrive in time."))

    def _end(self, problem: Problem) -> ProblemError:
        self.fault = problem
        return ProblemError(problem)


class UploadGoneError(Exception):
    """The client left before its upload was whole."""


Handler = Callable[[Context, re.Match[str], UploadBody], Awaitable[bytes]]
"""Takes the request's context, the match of its path and the body; returns the JSON of its answer."""


@attrs.frozen
class UploadRoute:
    """A route that takes large bodies.

    Attributes:
        method: PUT or POST.
        path: The pattern that the whole path must match.
        handler: Takes the body and returns the JSON of the answer.
        cap: Bytes of the largest body.
    """

    method: str
    path: re.Pattern[str]
    handler: Handler
    cap: int


def too_large(cap: int) -> Problem:
    """Return the problem of a body over its cap."""
    return Problem(413, f"The upload is larger than {cap} bytes.", "upload_too_large")


def declared(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the body's length in bytes as declared once by the client, or None."""
    values = [value for name, value in headers if name == b"content-length"]
    return int(values[0]) if len(values) == 1 and values[0].isdigit() else None

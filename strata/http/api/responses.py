"""Answers: JSON of a struct, and the bytes of a result; and an answer as the application's response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Self
from urllib.parse import quote

import msgspec
from quart import Response, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from strata.http.door.context import Context
from strata.http.door.routing import Answer, problem_answer
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants.messages import Opened
from strata.tenants.shared.byte_stream import ByteStream

FIRST_BYTES = 64 * 1024
"""Most bytes of a growing result that go out with the head of the answer: the first ones must not wait until
a megabyte is copied."""

ARROW_STREAM = "application/vnd.apache.arrow.stream"


def json(struct: msgspec.Struct, status: int = 200) -> Answer:
    """Answer with ``struct`` as JSON."""
    return Answer((("Content-Type", "application/json"),), msgspec.json.encode(struct), status=status)


def artifact_uri(artifact_id: str, version: int) -> str:
    """Return the URI of a version of an artifact."""
    return f"strata://artifact/{artifact_id}@v={version}"


def data_url(artifact_id: str, version: int) -> str:
    """Return the path of an artifact's bytes."""
    return f"/v1/artifacts/{quote(artifact_id)}/v/{version}/data"


def iso(moment: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


class StreamBody(ResponseBody):
    """A response's body read from a :class:`ByteStream`, closed however the response ends.

    Attributes:
        begin: First byte of the range that is sent.
        end: Byte after the range's last.
    """

    def __init__(self, stream: ByteStream, found: Context, first: bytes | None = None) -> None:
        self._stream = stream
        self._context = found
        self._first = first
        self.begin, self.end = 0, stream.size or 0

    async def __aenter__(self) -> Self:
        """Open nothing: the stream is open."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Close the stream."""
        self._stream.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return itself: a body is read once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk; a failure marks the answer as broken and ends the body."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            chunk = await self._stream.chunk()
        except RefusalError as error:
            self._context.broken = error.refused
            raise StopAsyncIteration from None
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def make_conditional(self, begin: int, end: int | None) -> int:
        """Narrow the body to a range of bytes, for Quart's conditional answers; returns the whole length."""
        size = self._stream.size or 0
        if begin < 0:
            begin = max(0, size + begin)  # counted from the end
        stop = size if end is None else min(end, size)
        if begin >= stop:
            raise RequestedRangeNotSatisfiable
        self._stream.narrow(begin, stop)
        self.begin, self.end = begin, stop
        return size


async def stream_answer(opened: Opened, found: Context) -> Answer:
    """Answer with a result that may still be growing.

    The first bytes are awaited before the status is decided, so a build that fails early is a problem and not
    a torn stream. A client that cannot tell a torn stream from a whole one waits for all of them.

    Raises:
        ProblemError: If the build fails before the answer begins.
    """
    try:
        if opened.stream.size is None:
            found.admission.release()  # a build is waited for
        if not found.chunked:
            await opened.stream.whole()
        # A chunk of a finished result may be all of it.
        first = await opened.stream.chunk(FIRST_BYTES if opened.stream.size is None else None)
    except RefusalError as error:
        opened.stream.close()
        raise ProblemError(Problem.of(error.refused)) from None
    except BaseException:
        opened.stream.close()
        raise
    return Answer(_result_headers(opened), opened.stream, first or b"")


def data_answer(opened: Opened) -> Answer:
    """Answer with a finished result."""
    headers = [
        *_result_headers(opened),
        ("Cache-Control", "private, immutable, max-age=31536000"),
        ("Accept-Ranges", "bytes"),
    ]
    if opened.sha256 is not None:
        headers.append(("ETag", f'"{opened.sha256}"'))
    return Answer(headers, opened.stream, in_part=True)


def _result_headers(opened: Opened) -> list[tuple[str, str]]:
    uri = artifact_uri(opened.artifact_id, opened.version)
    headers = [("Content-Type", ARROW_STREAM), ("X-Strata-Artifact-Uri", uri)]
    if opened.rows is not None:
        headers.append(("X-Arrow-Row-Count", str(opened.rows)))
    return headers


async def respond(answer: Answer, found: Context) -> Response:
    """Return an answer as the application's response to the current request: ranges, validators and HEAD."""
    if isinstance(answer.body, bytes):
        response = Response(answer.body, answer.status)
    else:
        response = Response(StreamBody(answer.body, found, answer.first or None), answer.status)
        # Quart's own deadline would cut the stream silently; builds and sockets have theirs.
        response.timeout = None
    response.headers.update(answer.headers)
    if answer.length is not None:
        response.content_length = answer.length
    if isinstance(answer.body, bytes):
        return response
    if request.method == "HEAD":
        answer.body.narrow(0, 0)  # a body that is not sent need not be read
        return response
    if not answer.in_part:
        return response
    try:
        await response.make_conditional(request, accept_ranges=True, complete_length=answer.length)
    except RequestedRangeNotSatisfiable:
        answer.body.close()
        headers = (("Content-Range", f"bytes */{answer.length}"),)
        problem = Problem(416, "The range lies outside of the result.", headers=headers)
        return await respond(problem_answer(problem, found), found)
    if response.status_code == 304:  # noqa: PLR2004  # Not Modified: there is no body to close the stream
        answer.body.close()
    return response

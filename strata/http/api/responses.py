"""Answers: JSON of a struct, and the bytes of a result."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Self
from urllib.parse import quote

import msgspec
from quart import Response, request
from quart.wrappers.response import ResponseBody
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from strata.http.door.context import Context, context
from strata.http.door.fast_routes import Answer
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants.messages import Opened
from strata.tenants.shared.byte_stream import ByteStream

FIRST_BYTES = 64 * 1024
"""Most bytes of a result that still grows that go out with the head of the answer: the first ones are not to
wait until a megabyte is copied."""

ARROW_STREAM = "application/vnd.apache.arrow.stream"


def json(struct: msgspec.Struct, status: int = 200) -> Response:
    """Return ``struct`` as JSON."""
    return Response(msgspec.json.encode(struct), status, content_type="application/json")


def json_answer(struct: msgspec.Struct) -> Answer:
    """Answer with ``struct`` as JSON."""
    return Answer((("Content-Type", "application/json"),), msgspec.json.encode(struct))


def artifact_uri(artifact_id: str, version: int) -> str:
    """Return the URI of a version of an artifact."""
    return f"strata://artifact/{artifact_id}@v={version}"


def data_url(artifact_id: str, version: int) -> str:
    """Return the path under which an artifact's bytes are."""
    return f"/v1/artifacts/{quote(artifact_id)}/v/{version}/data"


def iso(moment: float | None) -> str | None:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


class StreamBody(ResponseBody):
    """A response's body out of a :class:`ByteStream`, closed whatever happens to the response.

    Attributes:
        begin: First byte of the range that is sent.
        end: Byte after its last.
    """

    def __init__(self, stream: ByteStream, found: Context, first: bytes | None = None) -> None:
        self._stream = stream
        self._context = found
        self._first = first
        self.begin, self.end = 0, stream.size or 0

    async def __aenter__(self) -> Self:
        """Begin to read."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Let go of the blob."""
        self._stream.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return itself: it is read once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk; a failure marks the answer as broken, and ends it."""
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
        """Narrow to a range of bytes, for Quart's conditional answers; returns the whole length."""
        size = self._stream.size or 0
        if begin < 0:
            begin = max(0, size + begin)  # the last so many bytes
        stop = size if end is None else min(end, size)
        if begin >= stop:
            raise RequestedRangeNotSatisfiable
        self._stream.narrow(begin, stop)
        self.begin, self.end = begin, stop
        return size


async def stream_answer(opened: Opened, found: Context) -> Answer:
    """Answer with bytes that may still be growing.

    The first bytes are awaited before the status is decided, so a build that fails early is a problem
    and not a torn stream; and all of them for a client that would take a torn stream for a whole one.
    """
    try:
        if opened.stream.size is None:
            found.admission.release()  # a build is waited for
        if not found.chunked:
            await opened.stream.whole()
        # Of what is finished, a chunk may well be all there is.
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
    return Answer(headers, opened.stream)


def _result_headers(opened: Opened) -> list[tuple[str, str]]:
    uri = artifact_uri(opened.artifact_id, opened.version)
    headers = [("Content-Type", ARROW_STREAM), ("X-Strata-Artifact-Uri", uri)]
    if opened.rows is not None:
        headers.append(("X-Arrow-Row-Count", str(opened.rows)))
    return headers


def respond(answer: Answer) -> Response:
    """Return an answer as the application's response."""
    if isinstance(answer.body, bytes):
        response = Response(answer.body, answer.status)
    else:
        response = Response(StreamBody(answer.body, context(), answer.first or None), answer.status)
        # Quart's own deadline would cut the stream silently; builds and sockets have theirs.
        response.timeout = None
    response.headers.update(answer.headers)
    if answer.length is not None:
        response.content_length = answer.length
    if request.method == "HEAD" and isinstance(answer.body, ByteStream):
        answer.body.narrow(0, 0)  # nobody reads what is not sent
    return response


async def respond_in_part(answer: Answer) -> Response:
    """Return a finished result as the application's response: ranges, validators and all."""
    response, stream = respond(answer), answer.body
    assert isinstance(stream, ByteStream)
    if request.method == "HEAD":
        return response
    try:
        await response.make_conditional(request, accept_ranges=True, complete_length=answer.length)
    except RequestedRangeNotSatisfiable:
        stream.close()
        headers = (("Content-Range", f"bytes */{answer.length}"),)
        raise ProblemError(Problem(416, "The range lies outside of the result.", headers=headers)) from None
    if response.status_code == 304:  # noqa: PLR2004  # Not Modified: there is no body to close the stream
        stream.close()
    return response

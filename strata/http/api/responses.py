"""Answers: JSON of a struct, and the bytes of a result; and an answer as the application's response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Self
from urllib.parse import quote

import msgspec
from quart import Response, request
from quart.wrappers.response import ResponseBody

from strata.http.api.conditional import ByteRange, Verdict, decide
from strata.http.door.context import Context
from strata.http.door.routing import Answer, AnswerStream, problem_answer
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError
from strata.tenants.messages import Opened

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
    """A response's body read from an :class:`AnswerStream`, closed however the response ends."""

    def __init__(self, stream: AnswerStream, found: Context, first: bytes | None = None) -> None:
        self._stream = stream
        self._context = found
        self._first = first

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
    except BaseException:  # raised again: no other code closes it
        opened.stream.close()
        raise
    return Answer(result_headers(opened), opened.stream, first or b"")


def data_answer(opened: Opened) -> Answer:
    """Answer with a finished result."""
    headers = [*result_headers(opened), ("Accept-Ranges", "bytes"), ("Vary", "Accept")]
    if opened.sha256 is not None:
        headers.append(("ETag", f'"{opened.sha256}"'))
    return Answer(headers, opened.stream, in_part=True)


CACHE_CONTROL = "private, no-cache"
"""What caches may do with a result: a browser's copy is shown to no later user without asking the server."""


def result_headers(opened: Opened) -> list[tuple[str, str]]:
    """Return the headers of every answer with a result."""
    uri = artifact_uri(opened.artifact_id, opened.version)
    headers = [
        ("Content-Type", ARROW_STREAM),
        ("X-Strata-Artifact-Uri", uri),
        ("X-Strata-Receipt", f"/v1/artifacts/{opened.artifact_id}/v/{opened.version}/receipt"),
        ("Cache-Control", CACHE_CONTROL),
    ]
    if opened.rows is not None:
        headers.append(("X-Arrow-Row-Count", str(opened.rows)))
    return headers


async def respond(answer: Answer, found: Context) -> Response:
    """Return an answer as the application's response to the current request: ranges, validators and HEAD."""
    if answer.in_part:
        answer = _conditional(answer, found)
    if isinstance(answer.body, bytes):
        response = Response(answer.body, answer.status)
    else:
        response = Response(StreamBody(answer.body, found, answer.first or None), answer.status)
        # Quart's own deadline would cut the stream silently; builds and sockets have theirs.
        response.timeout = None
    response.headers.update(answer.headers)
    if answer.status == HTTPStatus.NOT_MODIFIED:  # has no length and no type of its own
        del response.headers["Content-Length"], response.headers["Content-Type"]
    elif answer.length is not None:
        response.content_length = answer.length
    if request.method == "HEAD" and not isinstance(answer.body, bytes):
        answer.body.narrow(0, 0)  # a body that is not sent need not be read
    return response


def _conditional(answer: Answer, found: Context) -> Answer:
    """Return the answer to the current request's preconditions and range, of a result's whole answer."""
    stream, length = answer.body, answer.length
    assert not isinstance(stream, bytes)
    assert length is not None  # only finished results are answered in part
    headers = dict(answer.headers)
    decision = decide(request.method, tuple(request.scope["headers"]), headers.get("ETag"), length)
    if decision is Verdict.WHOLE:
        return answer
    if isinstance(decision, ByteRange):
        stream.narrow(decision.begin, decision.end)
        place = ("Content-Range", f"bytes {decision.begin}-{decision.end - 1}/{length}")
        return Answer([*answer.headers, place], stream, status=206)
    stream.close()
    if decision is Verdict.NOT_MODIFIED:
        kept = [pair for pair in answer.headers if pair[0] in NOT_MODIFIED_HEADERS]
        return Answer(kept, b"", status=304)
    if decision is Verdict.PRECONDITION_FAILED:
        problem = Problem(412, "The result is not the one that If-Match names.", "precondition_failed")
    else:
        whole = (("Content-Range", f"bytes */{length}"),)
        problem = Problem(416, "The range lies outside of the result.", headers=whole)
    return problem_answer(problem, found)


NOT_MODIFIED_HEADERS = frozenset({"ETag", "Cache-Control", "X-Strata-Artifact-Uri"})
"""Headers of a result that an answer without it repeats (RFC 9110, section 15.4.5)."""

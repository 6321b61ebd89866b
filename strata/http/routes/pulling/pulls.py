"""What executors fetch and bring by signed URLs, which the front door has verified and used up."""

from __future__ import annotations

import json as plain_json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import msgspec
from quart_schema import document_request, document_response, tag

from strata.executor.protocol.pulls import OVER, REPORT_BYTES, UPLOAD_PATH, Pull
from strata.http.api.openapi import answers, needs, refuses
from strata.http.api.responses import ARROW_STREAM
from strata.http.api.schemas_registry import FinalizeBody, FinalizedAnswer, LoggedAnswer, UploadedAnswer
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.door.signed import BAD_SIGNATURE
from strata.http.door.uploads import UploadBody, UploadRoute, declared, too_large
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Reason, RefusalError, Refused

CHUNK_BYTES: Final = 1024 * 1024
"""Most bytes of an input that are read at a time."""

MOST_BYTES: Final = 2**40
"""Bytes of the largest upload; a signed URL has its own, lower one."""

SIGNED: Final = {
    name: {"type": "string"} for name in ("build_id", "attempt", "expires_at", "key", "signature")
}

CUT: Final = Refused(Reason.DATA_UNREADABLE, "The input cannot be read.", "input_unreadable")


@attrs.define(eq=False)
class InputStream:
    """The file of an input as the body of an answer; it ends with the build.

    Attributes:
        pull: The attempt that fetches it.
        run: Calls a function in a thread for its tenant.
        descriptor: Its file; closed by :meth:`close`.
        stop: Bytes of it.
        start: Offset of the next byte.
    """

    pull: Pull
    run: Callable[[Callable[[], bytes]], Awaitable[bytes]]
    descriptor: int
    stop: int | None
    start: int = 0

    @property
    def size(self) -> int | None:
        """Bytes that are left."""
        return None if self.stop is None else self.stop - self.start

    def narrow(self, start: int, stop: int) -> None:
        """Leave only some of the bytes."""
        self.start, self.stop = start, stop

    async def chunk(self, limit: int | None = None) -> bytes | None:
        """Return the next bytes; None at the end.

        Raises:
            RefusalError: If the build has ended, or the file cannot be read.
        """
        wanted = min(self.size or 0, limit or CHUNK_BYTES)
        if not wanted:
            return None
        if self.pull.over is not None:
            raise RefusalError(self.pull.over)
        read = partial(os.pread, self.descriptor, wanted, self.start)
        try:
            found = await self.run(read)
        except OSError:
            raise RefusalError(CUT) from None
        if not found:
            raise RefusalError(CUT)
        self.start += len(found)
        return found

    load = chunk

    def delivered(self) -> None:
        """Note nothing."""

    def close(self) -> None:
        """Close the file; does nothing when repeated."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@tag(["executors"])
@answers(200, "The input as an Arrow IPC stream.", ARROW_STREAM)
@needs(
    "query", **SIGNED, input={"type": "string"}, artifact_id={"type": "string"}, version={"type": "string"}
)
@refuses(403, 409)
async def download(call: Call) -> Answer:
    """Fetch an input of a build, once, by a signed URL of its manifest."""
    grant = call.context.grant
    if grant is None:
        raise _unsigned()
    try:
        descriptor, size = grant.pull.opened_input(grant.index)
    except OSError:
        raise ProblemError(Problem.of(CUT)) from None
    disk, tenant = call.context.registry.resources.threads.disk, grant.pull.tenant
    stream = InputStream(grant.pull, lambda read: disk.run(tenant, read, keep=True), descriptor, size)
    return Answer((("Content-Type", ARROW_STREAM),), stream)


async def upload(found: Context, _match: re.Match[str], body: UploadBody) -> bytes:
    """Hand an Arrow stream to the build that it is for."""
    pull = _pull(found)
    body.cap = pull.max_bytes
    length = declared([*found.headers])
    if length is not None and length > body.cap:
        refused = Refused(
            Reason.TOO_LARGE, f"The result is larger than {body.cap} bytes.", "response_too_large"
        )
        pull.end(refused)
        raise ProblemError(too_large(body.cap))
    brought = await pull.bring(_noting_fault(pull, body))
    if isinstance(brought, Refused):
        raise ProblemError(Problem.of(brought))
    return msgspec.json.encode(UploadedAnswer(brought))


async def _noting_fault(pull: Pull, body: UploadBody) -> AsyncIterator[bytes]:
    """Yield an upload; why it was refused is why its build fails."""
    try:
        async for piece in body:
            yield piece
    except ProblemError as error:
        late = error.problem.status == 408  # noqa: PLR2004  # timeout
        reason = Reason.FAILED if late else Reason.TOO_LARGE
        code = "executor_broken" if late else "response_too_large"
        pull.end(Refused(reason, error.problem.detail, code))
        raise


async def finalize(found: Context, _match: re.Match[str], body: UploadBody) -> bytes:
    """Make the artifact of what was uploaded; answered once it is ready."""
    report = await _small(found, body)
    try:
        given = plain_json.loads(report) if report.strip() else {}
    except (ValueError, RecursionError):
        given = None
    pull = _pull(found)
    if not isinstance(given, dict):
        pull.end(Refused(Reason.FAILED, "The executor's report is no JSON object.", "executor_protocol"))
        raise ProblemError(Problem(422, "The body is no JSON object.", "invalid_body"))
    made = await pull.finalize(given)
    if isinstance(made, Refused):
        raise ProblemError(Problem.of(made))
    return msgspec.json.encode(dict(made))


async def append_log(found: Context, _match: re.Match[str], body: UploadBody) -> bytes:
    """Append to the log of a build what its transform has printed."""
    text = await _small(found, body)
    _pull(found).note(text.decode("utf-8", "replace"))
    return msgspec.json.encode(LoggedAnswer(delivered=True))


def _pull(found: Context) -> Pull:
    if found.grant is None:
        raise _unsigned()
    if found.grant.pull.over is not None:
        raise ProblemError(Problem.of(OVER))
    return found.grant.pull


async def _small(found: Context, body: UploadBody) -> bytes:
    _pull(found)
    whole = bytearray()
    async for piece in body:
        whole += piece
    return bytes(whole)


def _unsigned() -> ProblemError:
    return ProblemError(Problem(403, BAD_SIGNATURE.detail, BAD_SIGNATURE.code))


# The front door answers these paths; they are routes of the application for their descriptions.


@tag(["executors"])
@document_response(UploadedAnswer)
@needs("query", **SIGNED, max_bytes={"type": "string"})
@refuses(403, 409, 413)
async def uploaded(_call: Call) -> Answer:
    """Bring the result of a build, once, by a signed URL of its manifest: an Arrow IPC stream."""
    raise _unsigned()


@tag(["executors"])
@document_request(FinalizeBody)
@document_response(FinalizedAnswer)
@needs("query", **SIGNED)
@refuses(403, 404, 409, 413)
async def finalized(_call: Call) -> Answer:
    """Make the artifact of what was uploaded, once, by a signed URL of the build's manifest."""
    raise _unsigned()


@tag(["executors"])
@document_response(LoggedAnswer)
@needs("query", **SIGNED)
@refuses(403, 404, 409, 413)
async def logged(_call: Call) -> Answer:
    """Append text to the log of a build, by a signed URL of its manifest."""
    raise _unsigned()


PULL_UPLOADS: Final = (
    UploadRoute("POST", re.compile(re.escape(UPLOAD_PATH)), upload, MOST_BYTES),
    UploadRoute("POST", re.compile("/v1/builds/[A-Za-z0-9_-]{1,128}/finalize"), finalize, REPORT_BYTES),
    UploadRoute("POST", re.compile("/v1/builds/[A-Za-z0-9_-]{1,128}/log"), append_log, REPORT_BYTES),
)
"""The routes of signed URLs with a body, which the front door enters."""

"""Results that clients put."""

from __future__ import annotations

import re
from typing import Final

import msgspec
import trio
from quart_schema import document_response, tag

from strata.http.api.administration import require_writes
from strata.http.api.openapi import refuses
from strata.http.api.responses import artifact_uri
from strata.http.api.schemas import decode_body
from strata.http.api.schemas_registry import PutAnswer, PutBody
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.door.uploads import UploadBody, UploadGoneError, UploadRoute
from strata.http.problems import Problem, ProblemError
from strata.http.routes.registry.multipart import Multipart
from strata.http.routes.registry.naming import checked_name
from strata.tenants.registry_messages import Put, PutArtifact

PATH: Final = re.compile("/v1/artifacts")

MOST_BYTES: Final = 2**40
"""Bytes of the largest body; that of its data is the tenant's ``max_response_bytes``, while it is written."""

MOST_INPUTS: Final = 64


async def put(found: Context, _match: re.Match[str], body: UploadBody) -> bytes:
    """Keep an Arrow stream as a result."""
    require_writes(found)
    parts = Multipart(body)
    given = decode_body(PutBody, await parts.metadata())
    transform = given.transform
    executor = transform.executor or transform.ref
    if not executor:
        loc = [{"loc": ["body", "transform", "executor"], "msg": "is required"}]
        raise ProblemError(Problem(400, "transform.executor is required.", "no_executor", loc))
    name = None if given.name is None else checked_name(given.name, "body", "name")
    if len(given.inputs) > MOST_INPUTS:
        loc = [{"loc": ["body", "inputs"], "msg": "too many"}]
        raise ProblemError(Problem(400, f"There are at most {MOST_INPUTS} inputs.", "too_many_inputs", loc))
    sender, pieces = trio.open_memory_channel[bytes](1)
    question = PutArtifact(
        found.caller, executor, transform.params, tuple(given.inputs), name, pieces, found.request_id
    )
    outcome = await _exchange(found, question, parts, sender)
    record = outcome.record
    answer = PutAnswer(
        artifact_uri(record.artifact_id, record.version),
        outcome.hit,
        record.byte_size or 0,
        None if name is None else f"strata://name/{name}",
    )
    return msgspec.json.encode(answer)


async def _exchange(
    found: Context, question: PutArtifact, parts: Multipart, sender: trio.MemorySendChannel[bytes]
) -> Put:
    """Ask the tenant, and send it the data meanwhile.

    Raises:
        ProblemError: If the body is refused, or the question is.
        UploadGoneError: If the client left.
    """
    faults: list[ProblemError | UploadGoneError] = []
    answers: list[Put | ProblemError] = []

    async def send() -> None:
        async with sender:
            try:
                async for piece in parts.data():
                    await sender.send(piece)
                await sender.send(b"")
            except trio.BrokenResourceError:  # the question is answered already
                return
            except (ProblemError, UploadGoneError) as error:
                faults.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        try:
            answers.append(await found.ask(question, Put))
        except ProblemError as error:
            answers.append(error)
        nursery.cancel_scope.cancel()
    [answer] = answers
    if faults:
        raise faults[0]
    if isinstance(answer, ProblemError):
        raise answer
    return answer


@tag(["artifacts"])
@document_response(PutAnswer)
@refuses(403, 404, 409)
async def described(_call: Call) -> Answer:
    """Keep an Arrow stream as a result: ``multipart/form-data`` with ``metadata`` (JSON) and ``data``."""
    # The front door answers this path; it is a route of the application for its description.
    raise ProblemError(Problem(405, "This path does not answer that method"))


UPLOADS: Final = (UploadRoute("PUT", PATH, put, MOST_BYTES),)
"""The routes with large bodies, which the front door enters."""

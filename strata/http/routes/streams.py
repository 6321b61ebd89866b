"""Results while they are built."""

from quart_schema import tag

from strata.http.api.openapi import BUILD, answers, refuses
from strata.http.api.responses import ARROW_STREAM, stream_answer
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import Opened, OpenStream


@tag(["results"])
@answers(200, "The Arrow IPC stream, as it is built.", ARROW_STREAM, headers=("X-Strata-Artifact-Uri",))
@refuses(404, *BUILD)
async def stream(call: Call) -> Answer:
    """Read a stream: only for the principal who asked for it."""
    found = call.context
    question = OpenStream(found.caller, call.parts["stream_id"])
    return await stream_answer(await found.ask(question, Opened), found)

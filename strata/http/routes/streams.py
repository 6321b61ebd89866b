"""Results while they are built."""

from quart import Blueprint, Response
from quart_schema import tag

from strata.http.api.openapi import BUILD, answers, refuses
from strata.http.api.responses import ARROW_STREAM, respond, stream_answer
from strata.http.door.context import context
from strata.http.door.fast_routes import Answer, Call
from strata.tenants.messages import Opened, OpenStream

blueprint = Blueprint("streams", __name__)


@blueprint.get("/v1/streams/<stream_id>")
@tag(["results"])
@answers(200, "The Arrow IPC stream, as it is built.", ARROW_STREAM, headers=("X-Strata-Artifact-Uri",))
@refuses(404, *BUILD)
async def stream(stream_id: str) -> Response:
    """Read a stream: only for the principal who asked for it."""
    return respond(await read_stream(Call(context(), (stream_id,))))


async def read_stream(call: Call) -> Answer:
    """Answer with a stream."""
    found, (stream_id,) = call.context, call.parts
    return await stream_answer(await found.ask(OpenStream(found.caller, stream_id), Opened), found)

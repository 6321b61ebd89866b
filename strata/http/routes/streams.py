"""Results while they are built."""

from quart import Blueprint, Response
from quart_schema import tag

from strata.http.answers import ARROW_STREAM, stream_answer
from strata.http.context import ask, principal
from strata.http.description import BUILD, answers, refuses
from strata.tenants.messages import Opened, OpenStream

blueprint = Blueprint("streams", __name__)


@blueprint.get("/v1/streams/<stream_id>")
@tag(["results"])
@answers(200, "The Arrow IPC stream, as it is built.", ARROW_STREAM, headers=("X-Strata-Artifact-Uri",))
@refuses(404, *BUILD)
async def stream(stream_id: str) -> Response:
    """Read a stream: only for the principal who asked for it."""
    return await stream_answer(await ask(OpenStream(principal(), stream_id), Opened))

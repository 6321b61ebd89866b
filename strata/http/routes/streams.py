"""Results while they are built."""

from quart import Blueprint, Response
from quart_schema import document_response, tag

from strata.http.answers import stream_answer
from strata.http.bodies import ProblemAnswer
from strata.http.context import ask, principal
from strata.tenants.messages import Opened, OpenStream

blueprint = Blueprint("streams", __name__)


@blueprint.get("/v1/streams/<stream_id>")
@tag(["results"])
@document_response(ProblemAnswer, 404)
async def stream(stream_id: str) -> Response:
    """Read a stream: only for the principal who asked for it."""
    return await stream_answer(await ask(OpenStream(principal(), stream_id), Opened))

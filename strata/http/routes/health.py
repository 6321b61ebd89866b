"""Whether the process lives, and whether it should be sent requests."""

from quart import Blueprint, Response
from quart_schema import document_response, tag

from strata.http.api.responses import json
from strata.http.api.schemas import StatusAnswer
from strata.http.door.context import context

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
@tag(["operations"])
@document_response(StatusAnswer)
async def live() -> Response:
    """Liveness: the loop turns. Open without an identity."""
    return json(StatusAnswer("healthy"))


@blueprint.get("/health/ready")
@tag(["operations"])
@document_response(StatusAnswer)
@document_response(StatusAnswer, 503)
async def ready() -> Response:
    """Readiness: 503 while draining, or when the metadata store does not answer. Open without an identity."""
    state = await context().registry.readiness()
    return json(StatusAnswer(state.value), 200 if state.ready else 503)

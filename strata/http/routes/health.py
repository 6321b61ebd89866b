"""Liveness and readiness."""

from quart_schema import document_response, tag

from strata.http.api.responses import json
from strata.http.api.schemas import StatusAnswer
from strata.http.door.routing import Answer, Call


@tag(["operations"])
@document_response(StatusAnswer)
async def live(_call: Call) -> Answer:
    """Liveness: the loop turns. Open without an identity."""
    return json(StatusAnswer("healthy"))


@tag(["operations"])
@document_response(StatusAnswer)
@document_response(StatusAnswer, 503)
async def ready(call: Call) -> Answer:
    """Readiness: 503 while draining, or when the metadata store does not answer. Open without an identity."""
    state = await call.context.registry.readiness()
    return json(StatusAnswer(state.value), 200 if state.ready else 503)

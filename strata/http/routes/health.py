"""Liveness and readiness."""

from quart_schema import document_response, tag

from strata.http.api.responses import json
from strata.http.api.schemas import ReadyAnswer, StatusAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.lifecycle.handle import Readiness


@tag(["operations"])
@document_response(StatusAnswer)
async def live(_call: Call) -> Answer:
    """Liveness: the loop turns. Open without an identity."""
    return json(StatusAnswer("healthy"))


@tag(["operations"])
@document_response(ReadyAnswer)
@document_response(ReadyAnswer, 503)
async def ready(call: Call) -> Answer:
    """Readiness: 503 while draining, or when the metadata store does not answer. Open without an identity.

    A full disk is told, and no reason to send requests elsewhere: finished results are read.
    """
    registry = call.context.registry
    state, disk = await registry.readiness(), registry.resources.disk_space
    checks = {
        "metadata_store": "down" if state is Readiness.STORE_DOWN else "ok",
        "disk": "full" if disk is not None and disk.full else "ok",
    }
    return json(ReadyAnswer(state.value, checks), 200 if state.ready else 503)

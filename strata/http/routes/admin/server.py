"""The server itself: its readiness."""

from quart_schema import document_response, tag

from strata.http.api import administration as admin
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import StatusAnswer
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call

RESOURCE = "admin/server"


@tag(["administration"])
@document_response(StatusAnswer)
@refuses(403)
async def drain(call: Call) -> Answer:
    """Say that the server is not ready, so that balancers send nothing new; requests are still answered."""
    return await _set(call.context, "server.drain", leaving=True)


@tag(["administration"])
@document_response(StatusAnswer)
@refuses(403)
async def come_back(call: Call) -> Answer:
    """Be ready again."""
    return await _set(call.context, "server.undrain", leaving=False)


async def _set(found: Context, action: str, *, leaving: bool) -> Answer:
    found.require_admin(admin.OPERATOR, RESOURCE)
    await admin.note(found, action, None)
    found.registry.leaving = leaving
    return json(StatusAnswer("draining" if leaving else "ready"))

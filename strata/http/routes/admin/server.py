"""The server itself: take it out of the rotation, and back."""

from quart import Blueprint, Response
from quart_schema import document_response, tag

from strata.http.api import administration as admin
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import StatusAnswer

blueprint = Blueprint("admin_server", __name__)

RESOURCE = "admin/server"


@blueprint.post("/v1/admin/drain")
@tag(["administration"])
@document_response(StatusAnswer)
@refuses(403)
async def drain() -> Response:
    """Say that the server is not ready, so that balancers send nothing new; requests are still answered."""
    return await _set("server.drain", leaving=True)


@blueprint.delete("/v1/admin/drain")
@tag(["administration"])
@document_response(StatusAnswer)
@refuses(403)
async def come_back() -> Response:
    """Be ready again."""
    return await _set("server.undrain", leaving=False)


async def _set(action: str, *, leaving: bool) -> Response:
    admin.require_admin_of(admin.OPERATOR, RESOURCE)
    await admin.note_or_refuse(action, None)
    admin.registry().leaving = leaving
    return json(StatusAnswer("draining" if leaving else "ready"))

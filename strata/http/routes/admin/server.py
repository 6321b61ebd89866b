"""The server itself: its readiness, and the servers that it shares a database with."""

from typing import cast

from quart_schema import document_response, tag

from strata.http.api import administration as admin
from strata.http.api.openapi import refuses
from strata.http.api.responses import iso, json
from strata.http.api.schemas import StatusAnswer
from strata.http.api.schemas_admin import ServerAnswer, ServerListAnswer
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


@tag(["administration"])
@document_response(ServerListAnswer)
@refuses(403)
async def servers(call: Call) -> Answer:
    """List the servers that share this server's metadata database; needs ``admin:*``.

    Equal ``config_version`` and ``policy_version`` tell that two servers have the same settings, secrets left
    aside, and the same access rules.
    """
    found = call.context
    found.require_admin(admin.OPERATOR, RESOURCE)
    resources = found.registry.resources
    shared = resources.servers
    if shared is None:
        return json(ServerListAnswer([]))
    listed = await resources.ask(found.caller.tenant, shared.servers)
    return json(
        ServerListAnswer(
            [
                ServerAnswer(
                    server_id=one.server_id,
                    name=one.name,
                    version=one.version,
                    state=one.state,
                    started_at=cast("str", iso(one.started_at)),
                    seen_at=cast("str", iso(one.seen_at)),
                    config_version=one.config_version,
                    policy_version=one.policy_version,
                    this_server=one.server_id == shared.server_id,
                )
                for one in listed
            ]
        )
    )


async def _set(found: Context, action: str, *, leaving: bool) -> Answer:
    found.require_admin(admin.OPERATOR, RESOURCE)
    await admin.note(found, action, None)
    found.registry.leaving = leaving
    return json(StatusAnswer("draining" if leaving else "ready"))

"""The members of a notebook's session who have no socket: join and leave, lock cells and free them."""

from __future__ import annotations

import re
from typing import Final

from quart_schema import document_request, document_response, tag

from strata.http.api.notebooks.session_schemas import JoinBody, LockBody, PresenceAnswer
from strata.http.api.openapi import needs, refuses
from strata.http.api.query_params import bad_parameter, refuse_unknown
from strata.http.api.responses import json
from strata.http.api.schemas import decode_body
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.presence import locks_of, members_of
from strata.http.routes.notebooks.rights import READ, WRITE, require_scope
from strata.tenants.notebooks import session_messages as s

_MEMBER: Final = re.compile("[0-9a-f]{16}")


@tag(["notebooks"])
@document_request(JoinBody)
@document_response(PresenceAnswer)
@refuses(403, 404, 409, 413, 422)
async def join(call: Call) -> Answer:
    """Join a session, or stay in it for another 30 seconds. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, set())
    body = decode_body(JoinBody, call.body)
    question = s.JoinSession(
        principal=call.context.caller,
        name=call.parts["notebook"],
        writes=call.context.caller.has_scope(WRITE),
        member=body.member,
        focus=body.focus,
    )
    return _presence(await call.context.ask(question, s.Presence))


@tag(["notebooks"])
@document_response(PresenceAnswer)
@refuses(403, 404, 409)
async def leave(call: Call) -> Answer:
    """Leave a session, with one's locks. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, set())
    question = s.LeaveSession(
        principal=call.context.caller, name=call.parts["notebook"], member=call.parts["member"]
    )
    return _presence(await call.context.ask(question, s.Presence))


@tag(["notebooks"])
@document_request(LockBody)
@document_response(PresenceAnswer)
@refuses(403, 404, 409, 413, 422)
async def lock(call: Call) -> Answer:
    """Lock a cell for five seconds, or prolong the lock: others cannot edit it. Needs ``notebook:write``."""
    require_scope(call, WRITE)
    refuse_unknown(call.query, set())
    return await _lock(call, decode_body(LockBody, call.body).member, locked=True)


@tag(["notebooks"])
@document_response(PresenceAnswer)
@refuses(403, 404, 409)
@needs("query", member={"type": "string", "pattern": "^[0-9a-f]{16}$"})
async def unlock(call: Call) -> Answer:
    """Free the lock of a cell, if it is the member's. Needs ``notebook:write``."""
    require_scope(call, WRITE)
    refuse_unknown(call.query, {"member"})
    member = call.query.get("member", "")
    if not _MEMBER.fullmatch(member):
        raise bad_parameter("member", "must be the id of a member")
    return await _lock(call, member, locked=False)


async def _lock(call: Call, member: str, *, locked: bool) -> Answer:
    question = s.LockCell(
        principal=call.context.caller,
        name=call.parts["notebook"],
        member=member,
        cell=call.parts["cell"],
        locked=locked,
    )
    return _presence(await call.context.ask(question, s.Presence))


def _presence(found: s.Presence) -> Answer:
    members, locks = members_of(found.state), locks_of(found.state, found.now)
    return json(PresenceAnswer(found.session, found.seq, found.member, members, locks))

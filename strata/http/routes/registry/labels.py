"""Tags and pins of results."""

from __future__ import annotations

import msgspec
from quart_schema import document_request, document_response, tag

from strata.artifacts.registry.contract import PinRecord
from strata.http.api.administration import require_writes
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown
from strata.http.api.responses import iso, json
from strata.http.api.schemas import decode_body
from strata.http.api.schemas_registry import (
    PinAnswer,
    PinBody,
    TagBody,
    TagDroppedAnswer,
    TagsAnswer,
    TagSetAnswer,
    UnpinnedAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.registry.naming import MAX_ALIAS, is_label
from strata.tenants.registry_messages import GetTags, SetPin, SetTag, Tags

MAX_VALUE = 256
"""Characters of the longest value of a tag, and of the longest reason of a pin."""

PIN_SCOPE = "artifacts:pin"
"""Scope of pins alone; ``artifacts:write`` includes it."""


@tag(["artifacts"])
@document_request(TagBody)
@document_response(TagSetAnswer)
@refuses(403, 404, 409, 422)
async def set_tag(call: Call) -> Answer:
    """Set a tag of a result; the value of a tag that exists is replaced."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    require_writes(found)
    body = decode_body(TagBody, call.body)
    for field, fits, most in (
        ("key", is_label(body.key, MAX_ALIAS), MAX_ALIAS),
        ("value", not body.value or is_label(body.value, MAX_VALUE), MAX_VALUE),
    ):
        if not fits:
            detail = f"The {field} of a tag is at most {most} printable characters without surrounding space."
            loc = [{"loc": ["body", field], "msg": f"not a {field}"}]
            raise ProblemError(Problem(400, detail, "invalid_tag", loc))
    question = SetTag(found.caller, artifact_id, version, body.key, body.value, found.request_id)
    done = await found.ask(question, Tags)
    answer = {**done.tags, "artifact_id": artifact_id, "version": version}
    return Answer((("Content-Type", "application/json"),), msgspec.json.encode(answer))


@tag(["artifacts"])
@document_response(TagsAnswer)
@refuses(404)
async def tags(call: Call) -> Answer:
    """Return the tags of a result."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    done = await found.ask(GetTags(found.caller, artifact_id, version), Tags)
    return json(TagsAnswer(artifact_id, version, dict(done.tags)))


@tag(["artifacts"])
@document_response(TagDroppedAnswer)
@refuses(403, 404)
async def drop_tag(call: Call) -> Answer:
    """Remove a tag of a result."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    require_writes(found)
    key = call.parts["key"]
    await found.ask(SetTag(found.caller, artifact_id, version, key, None, found.request_id), Tags)
    return json(TagDroppedAnswer("deleted", artifact_id, version, key))


@tag(["artifacts"])
@document_request(PinBody)
@document_response(PinAnswer)
@refuses(403, 404, 409, 422)
async def pin(call: Call) -> Answer:
    """Keep a result, and all that it was made of, for a reason; needs ``artifacts:pin``."""
    found = call.context
    require_writes(found, PIN_SCOPE)
    body = decode_body(PinBody, call.body)
    if not is_label(body.reason, MAX_VALUE):
        detail = f"A reason is 1 to {MAX_VALUE} printable characters without surrounding space."
        loc = [{"loc": ["body", "reason"], "msg": "not a reason"}]
        raise ProblemError(Problem(400, detail, "invalid_reason", loc))
    one = await found.ask(_question(call, body.reason, keep=True), PinRecord)
    tenant, since = found.caller.tenant, iso(one.pinned_at) or ""
    return json(PinAnswer(one.artifact_id, one.version, one.reason, tenant, one.pinned_by, since))


@tag(["artifacts"])
@document_response(UnpinnedAnswer)
@takes("query", reason={"type": "string", "minLength": 1, "description": "The reason of the pin; required."})
@refuses(403, 404)
async def unpin(call: Call) -> Answer:
    """Remove a pin of a result."""
    require_writes(call.context, PIN_SCOPE)
    refuse_unknown(call.query, {"reason"})
    reason = call.query.get("reason", "")
    if not reason:
        raise bad_parameter("reason", "is required")
    one = await call.context.ask(_question(call, reason, keep=False), PinRecord)
    return json(
        UnpinnedAnswer(unpinned=True, artifact_id=one.artifact_id, version=one.version, reason=reason)
    )


def _question(call: Call, reason: str, *, keep: bool) -> SetPin:
    found, version = call.context, int(call.parts["version"])
    return SetPin(
        found.caller, call.parts["artifact_id"], version, reason, keep=keep, request_id=found.request_id
    )

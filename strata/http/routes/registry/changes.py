"""Changes of the registry: those that wait for a second person, and those that were made."""

from __future__ import annotations

import json as stdjson
from collections.abc import Mapping
from typing import Any, Final

from quart_schema import document_request, document_response, tag

from strata.artifacts.registry.contract import Event, PendingChange
from strata.http.api.openapi import refuses, takes
from strata.http.api.pages import no_token, text_token, token_text
from strata.http.api.query_params import MAX_PLACE, bad_parameter, refuse_unknown, whole
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import decode_body
from strata.http.api.schemas_registry import (
    AppliedItem,
    ApprovedAnswer,
    DecideBody,
    EventItem,
    NameEventsAnswer,
    PendingItem,
    PendingListAnswer,
    RegistryAuditAnswer,
    RejectedAnswer,
)
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.registry.naming import checked_alias, checked_name
from strata.tenants.registry_messages import DecidePending, ListEvents, ListPending

SCOPE: Final = "admin:registry"
"""The scope of approvals."""

RESOURCE: Final = "admin/registry"

MAX_PAGE: Final = 1000

LIMIT: Final = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100}

TOKEN: Final = {"type": "string", "description": "`next_page_token` of the page before."}


@tag(["registry"])
@document_response(PendingListAnswer)
@takes("query", limit=LIMIT, page_token=TOKEN)
async def pending(call: Call) -> Answer:
    """List changes of protected aliases that wait for approval."""
    refuse_unknown(call.query, {"limit", "page_token"})
    found, limit = call.context, whole(call.query, "limit", 100, 1, MAX_PAGE)
    after = None
    if "page_token" in call.query:
        name, sign, alias = token_text(call.query["page_token"]).rpartition("@")
        if not sign:
            raise no_token()
        after = (name, alias)
    listed = await found.ask(ListPending(found.caller, after, limit + 1), tuple)
    page = listed[:limit]
    following = text_token(f"{page[-1].name}@{page[-1].alias}") if len(listed) > limit else None
    tenant = found.caller.tenant
    items = [
        PendingItem(
            name=one.name,
            alias=one.alias,
            action=one.action,
            artifact_id=one.artifact_id,
            version=one.version,
            requested_by=one.requested_by,
            requested_at=iso(one.requested_at) or "",
            tenant=tenant,
        )
        for one in page
    ]
    return json(PendingListAnswer(items, following))


@tag(["registry"])
@document_request(DecideBody)
@document_response(ApprovedAnswer)
@refuses(403, 404, 409, 422)
async def approve(call: Call) -> Answer:
    """Make a pending change; needs ``admin:registry``, and another principal than the one who asked."""
    one = await _decide(call, approve=True)
    uri = artifact_uri(one.artifact_id, one.version)
    return json(
        ApprovedAnswer(
            "approved",
            AppliedItem(one.name, one.alias, one.action, uri, one.artifact_id, one.version, one.requested_by),
        )
    )


@tag(["registry"])
@document_request(DecideBody)
@document_response(RejectedAnswer)
@refuses(403, 404, 422)
async def reject(call: Call) -> Answer:
    """Drop a pending change; needs ``admin:registry``."""
    one = await _decide(call, approve=False)
    return json(RejectedAnswer("rejected", one.name, one.alias))


async def _decide(call: Call, *, approve: bool) -> PendingChange:
    found = call.context
    found.require_admin(SCOPE, RESOURCE)
    body = decode_body(DecideBody, call.body)
    if (body.artifact_id is None) != (body.version is None):
        loc = [{"loc": ["body"], "msg": "artifact_id and version belong together"}]
        raise ProblemError(Problem(400, "artifact_id and version belong together.", "invalid_body", loc))
    checked_name(body.name, "body", "name")
    checked_alias(body.alias, "body", "alias")
    seen = None if body.artifact_id is None or body.version is None else (body.artifact_id, body.version)
    question = DecidePending(
        found.caller, body.name, body.alias, approve=approve, expected=seen, request_id=found.request_id
    )
    return await found.ask(question, PendingChange)


@tag(["registry"])
@document_response(RegistryAuditAnswer)
@takes(
    "query",
    name={"type": "string", "minLength": 1},
    artifact_id={"type": "string", "minLength": 1},
    limit=LIMIT,
    before={"type": "integer", "minimum": 1, "maximum": MAX_PLACE},
)
async def audit(call: Call) -> Answer:
    """List what was done to results, the latest first."""
    refuse_unknown(call.query, {"name", "artifact_id", "limit", "before"})
    found, limit = call.context, whole(call.query, "limit", 100, 1, MAX_PAGE)
    for key in ("name", "artifact_id"):
        if call.query.get(key) == "":
            raise bad_parameter(key, "must not be empty")
    question = ListEvents(
        found.caller,
        limit + 1,
        name=call.query.get("name"),
        artifact_id=call.query.get("artifact_id"),
        before=whole(call.query, "before", 0, 1, MAX_PLACE) or None,
    )
    listed = await found.ask(question, tuple)
    page = listed[:limit]
    following = page[-1].record.id if len(listed) > limit else None
    return json(RegistryAuditAnswer([_item(found, one) for one in page], following))


@tag(["registry"])
@document_response(NameEventsAnswer)
@takes("query", since={"type": "integer", "minimum": 0, "maximum": MAX_PLACE, "default": 0}, limit=LIMIT)
async def events(call: Call) -> Answer:
    """List what was done to results after ``since``, the earliest first."""
    refuse_unknown(call.query, {"since", "limit"})
    found, since = call.context, whole(call.query, "since", 0, 0, MAX_PLACE)
    question = ListEvents(found.caller, whole(call.query, "limit", 100, 1, MAX_PAGE), since=since)
    listed = await found.ask(question, tuple)
    return json(
        NameEventsAnswer([_item(found, one) for one in listed], listed[-1].record.id if listed else since)
    )


def _item(found: Context, event: Event) -> EventItem:
    act = event.record.act
    old, new = _told(act.old), _told(act.new)
    both = {**old, **new}
    foreign = act.principal_tenant != found.caller.tenant
    value = both.get("value", both.get("reason"))
    return EventItem(
        seq=event.record.id,
        at=iso(event.record.at) or "",
        actor="another tenant's administrator" if foreign else act.principal,
        action=act.action.replace(".", "_"),
        name=act.name,
        alias=both.get("alias"),
        artifact_id=new.get("artifact_id", act.artifact_id),
        from_artifact_id=old.get("artifact_id"),
        from_version=old.get("version"),
        to_version=new.get("version"),
        key=both.get("key"),
        value=value,
        tenant=found.caller.tenant,
    )


def _told(text: str | None) -> Mapping[str, Any]:
    told: dict[str, Any] = {} if text is None else stdjson.loads(text)
    removed = told.get("versions")  # of a removal, which has one version here
    return removed[0] if isinstance(removed, list) and removed else told

"""The audit: acts by the admin API, and their principals."""

import json as stdjson

from quart_schema import document_response, tag

from strata.artifacts import AuditRecord
from strata.http.api import administration as admin
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import MAX_PLACE, refuse_unknown, whole
from strata.http.api.responses import iso, json
from strata.http.api.schemas_admin import AuditAnswer, AuditListAnswer
from strata.http.door.routing import Answer, Call

RESOURCE = "admin/audit"
MAX_PAGE = 1000


@tag(["administration"])
@document_response(AuditListAnswer)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    before={"type": "integer", "minimum": 1, "maximum": MAX_PLACE},
    tenant={"type": "string", "minLength": 1},
)
@refuses(403, 404)
async def audit(call: Call) -> Answer:
    """List what was done, the latest first; needs ``admin:tenants``.

    Operators see everything, or one ``tenant``; an administrator of a tenant sees what was done to that one.
    """
    found = call.context
    found.require_admin(admin.TENANTS, RESOURCE)
    refuse_unknown(call.query, {"limit", "before", "tenant"})
    operator = admin.is_operator(found)
    tenant = call.query.get("tenant", None if operator else found.caller.tenant)
    if tenant is not None:
        admin.require_reach(found, tenant)
    limit = whole(call.query, "limit", 100, 1, MAX_PAGE)
    before = whole(call.query, "before", 0, 1, MAX_PLACE) or None
    listing = found.registry.resources.metadata.list_audit
    shown = await admin.ask_store(found, listing, tenant=tenant, before=before, limit=limit)
    # A page may end before its limit, since its bytes are bounded too.
    last = shown[-1].id if shown else 0
    more = last > 1 and bool(await admin.ask_store(found, listing, tenant=tenant, before=last, limit=1))
    following = last if more else None
    return json(AuditListAnswer([_answer(record, operator=operator) for record in shown], limit, following))


def _answer(record: AuditRecord, *, operator: bool) -> AuditAnswer:
    act = record.act
    foreign = act.principal_tenant != act.tenant
    hidden = foreign and not operator  # all that is shown of an operator's tenant is that it is another one
    return AuditAnswer(
        id=record.id,
        at=iso(record.at) or "",
        tenant=act.tenant,
        principal=None if hidden else act.principal,
        principal_tenant=None if hidden else act.principal_tenant,
        from_elsewhere=foreign,
        action=act.action,
        old=None if act.old is None else stdjson.loads(act.old),
        new=None if act.new is None else stdjson.loads(act.new),
        request_id=None if hidden else act.request_id,
    )

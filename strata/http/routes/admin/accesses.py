"""The access audit: who read which tables and results."""

from __future__ import annotations

from quart_schema import document_response, tag

from strata.artifacts.accesses.contract import AccessRecord
from strata.http.api import administration as admin
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import MAX_PLACE, refuse_unknown, text, whole
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas_admin import AccessLineAnswer, AccessListAnswer, TableAccessAnswer
from strata.http.door.routing import Answer, Call

RESOURCE = "admin/access-audit"
MAX_PAGE = 1000


@tag(["administration"])
@document_response(AccessListAnswer)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    before={"type": "integer", "minimum": 1, "maximum": MAX_PLACE},
    tenant={"type": "string", "minLength": 1},
    principal={"type": "string", "minLength": 1, "maxLength": 256},
    artifact_id={"type": "string", "minLength": 1, "maxLength": 64},
)
@refuses(403, 404)
async def accesses(call: Call) -> Answer:
    """List who read which tables and results of a tenant, the latest first; needs ``admin:tenants``.

    Operators name any ``tenant``; an administrator of a tenant sees that one only. Where ``access_audit`` is
    off nothing is added. Records are written within a second.
    """
    found = call.context
    found.require_admin(admin.TENANTS, RESOURCE)
    refuse_unknown(call.query, {"limit", "before", "tenant", "principal", "artifact_id"})
    tenant = call.query.get("tenant", found.caller.tenant)
    admin.require_reach(found, tenant)
    limit = whole(call.query, "limit", 100, 1, MAX_PAGE)
    audit = found.registry.resources.accesses
    assert audit is not None
    records = await admin.ask_store(
        found,
        audit.store.page,
        tenant,
        before=whole(call.query, "before", 0, 1, MAX_PLACE) or None,
        limit=limit + 1,
        principal=text(call.query, "principal", 256),
        artifact_id=text(call.query, "artifact_id", 64),
    )
    shown = records[:limit]
    following = shown[-1].id if len(records) > limit else None
    return json(AccessListAnswer([_answer(record) for record in shown], limit, following))


def _answer(record: AccessRecord) -> AccessLineAnswer:
    one = record.access
    read = one.artifact_id is not None and one.version is not None
    return AccessLineAnswer(
        id=record.id,
        at=iso(one.at) or "",
        tenant=one.tenant,
        principal=one.principal,
        request_id=one.request_id or None,
        action=one.action,
        outcome=one.outcome,
        artifact_uri=artifact_uri(one.artifact_id or "", one.version or 0) if read else None,
        rows=one.rows,
        bytes=one.nbytes,
        tables=[TableAccessAnswer(it.table, it.snapshot, it.rule, it.allowed) for it in one.tables],
        tables_cut=one.cut,
    )

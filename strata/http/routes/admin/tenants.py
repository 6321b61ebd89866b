"""Tenants: how they do, and what is done about it."""

from collections.abc import Callable

from quart import Blueprint, Response, request
from quart_schema import document_response, tag

from strata.config.tenants import is_tenant_id
from strata.http.api import administration as admin
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import json
from strata.http.api.schemas import StatsAnswer
from strata.http.api.schemas_admin import ActAnswer, TenantAnswer, TenantListAnswer, TenantSummary
from strata.http.door.context import context, principal
from strata.http.problems import Problem, ProblemError
from strata.outcomes import RefusalError, Refused
from strata.tenants import Registry
from strata.tenants.lifecycle import supervision as act
from strata.tenants.limits.overrides import Unfit

blueprint = Blueprint("admin_tenants", __name__)

RESOURCE = "admin/tenants"
MAX_PAGE = 1000


@blueprint.get("/v1/admin/tenants")
@tag(["administration"])
@document_response(TenantListAnswer)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    after={"type": "string", "pattern": "^(_default|[A-Za-z0-9][A-Za-z0-9_-]{0,63})$"},
)
@refuses(403)
async def tenants() -> Response:
    """List the tenants that are live, have had results, or have limits of their own; needs ``admin:tenants``.

    An administrator of one tenant sees that one.
    """
    admin.require_admin_of(admin.TENANTS, RESOURCE)
    refuse_unknown({"limit", "after"})
    limit, after = whole("limit", 100, 1, MAX_PAGE), request.args.get("after")
    if after is not None and not is_tenant_id(after):
        raise bad_parameter("after", "must be a tenant's id")
    page = await _page(after or "", limit + 1) if admin.is_operator() else _own(after or "")
    shown = page[:limit]
    following = shown[-1] if len(page) > limit else None
    return json(TenantListAnswer([_summary(tenant) for tenant in shown], limit, following))


def _own(after: str) -> list[str]:
    tenant = principal().tenant
    return [tenant] if tenant > after else []


async def _page(after: str, limit: int) -> list[str]:
    registry = admin.registry()
    known = {found.id for found in registry.tenants()} | admin.tenant_overrides().tenants() | registry.drained
    store = registry.resources.metadata
    try:
        stored = await admin.ask_store(store.list_tenants, after=after, limit=limit)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None
    return sorted({tenant for tenant in known if tenant > after} | set(stored))[:limit]


def _summary(tenant: str) -> TenantSummary:
    view = act.look(admin.registry(), tenant)
    return TenantSummary(
        tenant=tenant,
        state=view.state,
        enabled=view.enabled,
        drained=view.drained,
        live_since=None if view.seconds is None else admin.ago(view.seconds),
        restarts=view.restarts,
        waiting_callers=view.waiting,
        queued_questions=view.queued,
    )


@blueprint.get("/v1/admin/tenants/<tenant>")
@tag(["administration"])
@document_response(TenantAnswer)
@refuses(403, 404)
async def tenant(tenant: str) -> Response:
    """Describe a tenant: state, limits and their sources, usage, last errors; needs ``admin:tenants``."""
    admin.require_admin_of(admin.TENANTS, RESOURCE)
    await admin.require_known(tenant)
    registry = admin.registry()
    try:
        stats = await admin.ask_store(registry.resources.metadata.stats, tenant)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None
    view = await act.describe(registry, tenant)
    summary = _summary(tenant)
    return json(
        TenantAnswer(
            tenant=tenant,
            state=view.state,
            enabled=view.enabled,
            drained=view.drained,
            live_since=summary.live_since,
            restarts=view.restarts,
            waiting_callers=view.waiting,
            queued_questions=view.queued,
            limits=admin.limit_answers(admin.tenant_overrides().effective(tenant)),
            usage=admin.usage_answer(view.inside),
            last_errors=admin.error_answers(view.errors),
            artifacts=StatsAnswer(stats.total_artifacts, stats.total_bytes, dict(stats.by_state)),
        )
    )


@blueprint.post("/v1/admin/tenants/<tenant>/evict")
@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def evict(tenant: str) -> Response:
    """End the tenant's actor now, and with it what it is doing; the next request starts another one."""
    return await _supervise("evict", tenant, act.evict)


@blueprint.post("/v1/admin/tenants/<tenant>/restart")
@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def restart(tenant: str) -> Response:
    """End the tenant's actor and start another one, crashes forgiven; also ends a drain."""
    return await _supervise("restart", tenant, act.restart)


@blueprint.post("/v1/admin/tenants/<tenant>/drain")
@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def drain(tenant: str) -> Response:
    """Take no new work of the tenant on this server until it is restarted; what is under way ends."""
    return await _supervise("drain", tenant, act.drain)


async def _supervise(action: str, tenant: str, do: Callable[[Registry, str], bool]) -> Response:
    admin.require_admin_of(admin.TENANTS, RESOURCE)
    await admin.require_known(tenant)
    await admin.note_or_refuse(f"tenant.{action}", tenant)
    changed = do(admin.registry(), tenant)
    return json(ActAnswer(tenant, action, changed, act.look(admin.registry(), tenant).state))


@blueprint.post("/v1/admin/tenants/<tenant>/disable")
@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def disable(tenant: str) -> Response:
    """Answer the tenant's requests with 403 from now on, for good; what is under way ends. For operators."""
    return await _switch("disable", tenant, enabled=False)


@blueprint.post("/v1/admin/tenants/<tenant>/enable")
@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def enable(tenant: str) -> Response:
    """Serve the tenant again. For operators."""
    return await _switch("enable", tenant, enabled=True)


async def _switch(action: str, tenant: str, *, enabled: bool) -> Response:
    admin.require_admin_of(admin.TENANTS, RESOURCE)
    admin.require_reach(tenant)
    admin.require_operator()
    tenant_overrides = admin.tenant_overrides()
    before = tenant_overrides.enabled(tenant)

    async def note(_change: object) -> None:
        await admin.note(f"tenant.{action}", tenant, {"enabled": before}, {"enabled": enabled})

    context().admission.release()  # the file is read and written in a thread
    done = await tenant_overrides.change(tenant, {"enabled": enabled}, operator=True, note=note)
    if isinstance(done, Refused):
        raise ProblemError(Problem.of(done))
    assert not isinstance(done, Unfit)
    return json(ActAnswer(tenant, action, before != enabled, act.look(admin.registry(), tenant).state))

"""Tenants: their state, and operations on them."""

from collections.abc import Callable
from heapq import nsmallest

from quart_schema import document_response, tag

from strata.auth import DEFAULT_TENANT, TENANT_ID
from strata.config.tenants import is_tenant_id
from strata.http.api import administration as admin
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import json
from strata.http.api.schemas import stats_answer
from strata.http.api.schemas_admin import ActAnswer, TenantAnswer, TenantListAnswer, TenantSummary
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Refused
from strata.tenants import Registry
from strata.tenants.lifecycle import operator_actions as act
from strata.tenants.limits.overrides import Unfit

RESOURCE = "admin/tenants"
MAX_PAGE = 1000


@tag(["administration"])
@document_response(TenantListAnswer)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    after={"type": "string", "pattern": f"^({DEFAULT_TENANT}|{TENANT_ID})$"},
)
@refuses(403)
async def tenants(call: Call) -> Answer:
    """List the tenants that are live, have had results, or have limits of their own; needs ``admin:tenants``.

    An administrator of one tenant sees that one.
    """
    found = call.context
    found.require_admin(admin.TENANTS, RESOURCE)
    refuse_unknown(call.query, {"limit", "after"})
    limit, after = whole(call.query, "limit", 100, 1, MAX_PAGE), call.query.get("after")
    if after is not None and not is_tenant_id(after):
        raise bad_parameter("after", "must be a tenant's id")
    page = (
        await _page(found, after or "", limit + 1) if admin.is_operator(found) else _own(found, after or "")
    )
    shown = page[:limit]
    following = shown[-1] if len(page) > limit else None
    return json(TenantListAnswer([_summary(found, tenant) for tenant in shown], limit, following))


def _own(found: Context, after: str) -> list[str]:
    tenant = found.caller.tenant
    return [tenant] if tenant > after else []


async def _page(found: Context, after: str, limit: int) -> list[str]:
    registry = found.registry
    listing = registry.resources.metadata.list_tenants
    stored = await admin.ask_store(found, listing, after=after, limit=limit)
    live = (one.id for one in registry.tenants())
    # Of thousands only those of the page are put in order.
    first = [
        nsmallest(limit, (tenant for tenant in known if tenant > after))
        for known in (live, admin.tenant_overrides(found).tenants(), registry.drained)
    ]
    return nsmallest(limit, set(stored).union(*first))


def _summary(found: Context, tenant: str) -> TenantSummary:
    view = act.look(found.registry, tenant)
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


@tag(["administration"])
@document_response(TenantAnswer)
@refuses(403, 404)
async def tenant(call: Call) -> Answer:
    """Describe a tenant: state, limits and their sources, usage, last errors; needs ``admin:tenants``."""
    found, tenant = call.context, call.parts["tenant"]
    found.require_admin(admin.TENANTS, RESOURCE)
    await admin.require_known(found, tenant)
    stats = await admin.ask_store(found, found.registry.resources.metadata.stats, tenant)
    view = await act.describe(found.registry, tenant)
    summary = _summary(found, tenant)
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
            limits=admin.limit_answers(admin.tenant_overrides(found).effective(tenant)),
            usage=admin.usage_answer(view.inside),
            last_errors=admin.error_answers(view.errors),
            artifacts=stats_answer(stats),
        )
    )


@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def evict(call: Call) -> Answer:
    """End the tenant's actor now, and with it what it is doing; the next request starts another one."""
    return await _supervise(call, "evict", act.evict)


@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def restart(call: Call) -> Answer:
    """End the tenant's actor and start another one, crashes forgiven; also ends a drain."""
    return await _supervise(call, "restart", act.restart)


@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def drain(call: Call) -> Answer:
    """Take no new work of the tenant on this server until it is restarted; what is under way ends."""
    return await _supervise(call, "drain", act.drain)


async def _supervise(call: Call, action: str, do: Callable[[Registry, str], bool]) -> Answer:
    found, tenant = call.context, call.parts["tenant"]
    found.require_admin(admin.TENANTS, RESOURCE)
    await admin.require_known(found, tenant)
    await admin.note(found, f"tenant.{action}", tenant)
    changed = do(found.registry, tenant)
    return json(ActAnswer(tenant, action, changed, act.look(found.registry, tenant).state))


@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def disable(call: Call) -> Answer:
    """Answer the tenant's requests with 403 from now on, for good; what is under way ends. For operators."""
    return await _switch(call, "disable", enabled=False)


@tag(["administration"])
@document_response(ActAnswer)
@refuses(403, 404)
async def enable(call: Call) -> Answer:
    """Serve the tenant again. For operators."""
    return await _switch(call, "enable", enabled=True)


async def _switch(call: Call, action: str, *, enabled: bool) -> Answer:
    found, tenant = call.context, call.parts["tenant"]
    found.require_admin(admin.TENANTS, RESOURCE)
    admin.require_reach(found, tenant)
    admin.require_operator(found)
    tenant_overrides = admin.tenant_overrides(found)
    before = tenant_overrides.enabled(tenant)

    async def note(_change: object) -> None:
        await admin.note(found, f"tenant.{action}", tenant, {"enabled": before}, {"enabled": enabled})

    found.admission.release()  # the file is read and written in a thread
    done = await tenant_overrides.change(tenant, {"enabled": enabled}, operator=True, note=note)
    if isinstance(done, Refused):
        raise ProblemError(Problem.of(done))
    assert not isinstance(done, Unfit)
    return json(ActAnswer(tenant, action, before != enabled, act.look(found.registry, tenant).state))

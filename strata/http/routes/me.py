"""The caller's identity and limits as the server sees them, to find a wrong proxy in one request."""

import attrs
import trio
from quart_schema import document_response, tag

from strata.auth import DEFAULT_TENANT, Principal
from strata.http.api import administration as admin
from strata.http.api.responses import json
from strata.http.api.schemas_admin import CheckAnswer, HeaderAnswer, MeAnswer, StorageAnswer, UsageAnswer
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.problems import STATUS, ProblemError
from strata.outcomes import Reason, Refused
from strata.tenants.budgets.disk_space import FULL as DISK_FULL
from strata.tenants.lifecycle import operator_actions
from strata.tenants.lifecycle.handle import State, not_running
from strata.tenants.lifecycle.operator_actions import View
from strata.tenants.messages import Description
from strata.tenants.shared.authorizer import CACHE_RESOURCE

SCOPES = {
    "admin:cache": "POST /v1/cache/clear, GET /v1/cache/stats",
    "admin:metrics": "GET /metrics",
    "admin:tenants": "/v1/admin/tenants, /v1/admin/audit, /v1/admin/access-audit",
    "admin:limits": "/v1/admin/tenants/{tenant}/limits",
    "admin:workers": "/v1/admin/notebook-workers",
    "admin:*": "other tenants, and POST /v1/admin/drain",
}
"""The routes that each scope opens."""

STORE_SECONDS = 1.0
"""Seconds to ask the store what the tenant keeps; then that is left out."""

FULL = Refused(
    Reason.UNAVAILABLE, "The server serves as many tenants as it may (max_tenants).", code="too_many_tenants"
)
DRAINING = Refused(Reason.UNAVAILABLE, "The server is shutting down.", code="draining")


@tag(["administration"])
@document_response(MeAnswer)
async def me(call: Call) -> Answer:
    """Say who the caller is taken for, what that tenant may use and uses, and what would be refused and why.

    It works for a disabled tenant, too, and starts no actor: one that is absent has no usage.
    """
    found, who = call.context, call.context.caller
    view = await operator_actions.describe(found.registry, who.tenant)
    storage, unanswered = await _storage(found)
    return json(
        MeAnswer(
            principal=who.id,
            tenant=who.tenant,
            scopes=sorted(who.scopes),
            unrestricted=who.unrestricted,
            operator=admin.is_operator(found),
            headers=_headers(call),
            state=view.state,
            limits=admin.limit_answers(admin.tenant_overrides(found).effective(who.tenant)),
            usage=_usage(found, view.inside),
            storage=storage,
            checks=[
                *_work(found, view),
                _check("the database of results", unanswered),
                _check("direct writes", _writes(found)),
                *_scopes(who),
            ],
        )
    )


async def _storage(found: Context) -> tuple[StorageAnswer | None, Refused | None]:
    """Return what the tenant keeps, or the refusal of the database; neither if it does not answer in time."""
    usage = found.registry.resources.retention.usage
    try:
        with trio.move_on_after(STORE_SECONDS):
            kept = await admin.ask_store(found, usage, found.caller.tenant)
            return StorageAnswer(kept.stored_bytes, kept.versions), None
    except ProblemError as error:
        return None, Refused(Reason.UNAVAILABLE, error.problem.detail, code=error.problem.error)
    return None, None


def _usage(found: Context, inside: Description | None) -> UsageAnswer | None:
    """Return the tenant's usage without other principals' builds; its cache only to administrators."""
    if inside is None:
        return None
    who, authorizer = found.caller, found.registry.resources.authorizer
    own = tuple(build for build in inside.in_flight if who.id in build.principals)
    usage = admin.usage_answer(attrs.evolve(inside, in_flight=own))
    if usage is not None and not (
        who.has_scope("admin:cache") and authorizer.check_admin(who, CACHE_RESOURCE) is None
    ):
        usage.cache = None
    return usage


def _headers(call: Call) -> list[HeaderAnswer]:
    contract = call.context.contract
    assert contract is not None
    sent = {name for name, _ in call.headers}
    return [HeaderAnswer(field.shown, field.role, field.exact in sent) for field in contract.fields.values()]


def _writes(found: Context) -> Refused | None:
    """Return the refusal of a direct write by the caller, or None."""
    try:
        admin.require_writes(found)
    except ProblemError as error:
        return Refused(Reason.FORBIDDEN, error.problem.detail, code=error.problem.error)
    return None


def _work(context: Context, view: View) -> list[CheckAnswer]:
    """Check whether a request for a result would be answered, and whether slots and builds are free."""
    registry, tenant = context.registry, context.caller.tenant
    refused = DRAINING if registry.draining else registry.turned_away(tenant)
    found, resting = registry.find(tenant), registry.resting(tenant)
    if refused is None and found is not None and found.state in (State.DOWN, State.RESTARTING):
        refused = not_running(found) if resting is None or resting.rests else None
    if refused is None and (found is None or resting is not None) and registry.full:
        refused = FULL
    disk = registry.resources.disk_space
    if refused is None and disk is not None and disk.full:
        refused = DISK_FULL
    checks = [_check("POST /v1/materialize", refused)]
    if view.inside is not None:
        checks += _room(view.inside)
    if tenant == DEFAULT_TENANT and admin.tenant_overrides(context).settings.multi_tenant_enabled:
        detail = "No tenant header was sent: this is the tenant of all who send none."
        checks.append(CheckAnswer("a tenant of one's own", False, None, "no_tenant", detail))  # noqa: FBT003  # a field
    return checks


def _room(inside: Description) -> list[CheckAnswer]:
    checks = []
    for use in inside.slots:
        name = f"{use.tier}_slots"
        busy = Refused(
            Reason.BUSY,
            f"All {use.total} are in use and {use.waiting} wait: it would have to wait.",
            code=name,
        )
        checks.append(_check(f"a free slot for {use.tier} work", busy if use.used >= use.total else None))
    most = inside.limits.max_builds
    busy = Refused(Reason.BUSY, f"{most} builds are running.", code="max_concurrent_scans")
    checks.append(_check("another build", busy if len(inside.in_flight) >= most else None))
    return checks


def _scopes(who: Principal) -> list[CheckAnswer]:
    return [
        _check(
            f"{scope}: {what}",
            None
            if who.has_scope(scope)
            else Refused(Reason.FORBIDDEN, f"This needs the scope {scope}.", code="missing_scope"),
        )
        for scope, what in SCOPES.items()
    ]


def _check(what: str, refused: Refused | None) -> CheckAnswer:
    if refused is None:
        return CheckAnswer(what, True, None, None, None)  # noqa: FBT003  # a field
    return CheckAnswer(what, False, STATUS[refused.reason], refused.code, refused.detail)  # noqa: FBT003  # a field

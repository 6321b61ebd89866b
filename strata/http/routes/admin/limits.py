"""A tenant's limits, and how they are changed."""

from typing import Any

import msgspec
from msgspec import UNSET
from quart import Blueprint, Response
from quart_schema import document_request, document_response, tag

from strata.http.api import administration as admin
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import parse_body
from strata.http.api.schemas_admin import LimitsBody, TenantLimitsAnswer
from strata.http.door.context import context
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Refused
from strata.tenants.limits.overrides import Changed, Unfit

blueprint = Blueprint("admin_limits", __name__)

RESOURCE = "admin/limits"


@blueprint.get("/v1/admin/tenants/<tenant>/limits")
@tag(["administration"])
@document_response(TenantLimitsAnswer)
@refuses(403, 404)
async def limits(tenant: str) -> Response:
    """Show the tenant's limits, each with where it comes from; needs ``admin:limits``."""
    admin.require_admin_of(admin.LIMITS, RESOURCE)
    admin.require_reach(tenant)
    return _limits(tenant)


@blueprint.patch("/v1/admin/tenants/<tenant>/limits")
@tag(["administration"])
@document_request(LimitsBody)
@document_response(TenantLimitsAnswer)
@refuses(403, 404, 422)
async def change(tenant: str) -> Response:
    """Change some of the tenant's limits, at once and for good; needs ``admin:limits``.

    Operators are held to the maxima. An administrator of the tenant can only take less than it is given.
    """
    admin.require_admin_of(admin.LIMITS, RESOURCE)
    admin.require_reach(tenant)
    body: msgspec.Struct = await parse_body(LimitsBody)
    values = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    return await _change(tenant, values, "limits.change")


@blueprint.delete("/v1/admin/tenants/<tenant>/limits")
@tag(["administration"])
@document_response(TenantLimitsAnswer)
@refuses(403, 404, 422)
async def go_back(tenant: str) -> Response:
    """Go back to the limits of the configuration; an administrator of the tenant, to what it is given."""
    admin.require_admin_of(admin.LIMITS, RESOURCE)
    admin.require_reach(tenant)
    return await _change(tenant, None, "limits.reset")


async def _change(tenant: str, values: dict[str, Any] | None, action: str) -> Response:
    async def note(change: Changed) -> None:
        await admin.note(action, tenant, change.old, change.new)

    context().admission.release()  # the file is read and written in a thread
    done = await admin.tenant_overrides().change(tenant, values, operator=admin.is_operator(), note=note)
    if isinstance(done, Refused):
        raise ProblemError(Problem.of(done))
    if isinstance(done, Unfit):
        errors = [{"loc": ["body", problem.setting], "msg": problem.message} for problem in done.problems]
        detail = " ".join(str(problem) for problem in done.problems)
        raise ProblemError(Problem(422, detail, "limit_not_allowed", errors))
    return _limits(tenant)


def _limits(tenant: str) -> Response:
    return json(TenantLimitsAnswer(tenant, admin.limit_answers(admin.tenant_overrides().effective(tenant))))

"""A tenant's limits, and how they are changed."""

from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from quart_schema import document_request, document_response, tag

from strata.http.api import administration as admin
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import decode_body
from strata.http.api.schemas_admin import LimitsBody, TenantLimitsAnswer
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.outcomes import Refused
from strata.tenants.limits.overrides import Changed, Unfit

RESOURCE = "admin/limits"


@tag(["administration"])
@document_response(TenantLimitsAnswer)
@refuses(403, 404)
async def limits(call: Call) -> Answer:
    """Show the tenant's limits, each with where it comes from; needs ``admin:limits``."""
    tenant = _reached(call)
    return _limits(call.context, tenant)


@tag(["administration"])
@document_request(LimitsBody)
@document_response(TenantLimitsAnswer)
@refuses(403, 404, 422)
async def change(call: Call) -> Answer:
    """Change some of the tenant's limits, at once and for good; needs ``admin:limits``.

    Operators are held to the maxima. An administrator of the tenant can only take less than it is given.
    """
    tenant = _reached(call)
    decode = partial(decode_body, LimitsBody, call.body)
    body: msgspec.Struct = decode() if call.small else await call.context.compute(decode)
    values = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    return await _change(call.context, tenant, values, "limits.change")


@tag(["administration"])
@document_response(TenantLimitsAnswer)
@refuses(403, 404, 422)
async def go_back(call: Call) -> Answer:
    """Go back to the limits of the configuration; an administrator of the tenant, to what it is given."""
    tenant = _reached(call)
    return await _change(call.context, tenant, None, "limits.reset")


def _reached(call: Call) -> str:
    """Return the tenant of a call whose caller may administer its limits."""
    tenant: str = call.parts["tenant"]
    call.context.require_admin(admin.LIMITS, RESOURCE)
    admin.require_reach(call.context, tenant)
    return tenant


async def _change(found: Context, tenant: str, values: dict[str, Any] | None, action: str) -> Answer:
    async def note(change: Changed) -> None:
        await admin.note(found, action, tenant, change.old, change.new)

    found.admission.release()  # the file is read and written in a thread
    done = await admin.tenant_overrides(found).change(
        tenant, values, operator=admin.is_operator(found), note=note
    )
    if isinstance(done, Refused):
        raise ProblemError(Problem.of(done))
    if isinstance(done, Unfit):
        errors = [{"loc": ["body", problem.setting], "msg": problem.message} for problem in done.problems]
        detail = " ".join(str(problem) for problem in done.problems)
        raise ProblemError(Problem(422, detail, "limit_not_allowed", errors))
    return _limits(found, tenant)


def _limits(found: Context, tenant: str) -> Answer:
    return json(
        TenantLimitsAnswer(tenant, admin.limit_answers(admin.tenant_overrides(found).effective(tenant)))
    )

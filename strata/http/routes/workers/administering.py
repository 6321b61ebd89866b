"""The catalogue of workers for operators: how they are, what they can, and what is switched.

Workers are the configuration's: no route adds or removes one. A switch holds for all servers of the database,
and beyond restarts; it never gives more than the configuration does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart_schema import document_request, document_response, tag

from strata.artifacts import Act
from strata.http.api import administration as admin
from strata.http.api.notebooks.worker_schemas import AllowanceBody, EnabledBody, WorkersAnswer
from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import bad_parameter, refuse_unknown
from strata.http.api.responses import json
from strata.http.api.schemas import decode_body
from strata.http.door.context import Context
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.workers.answers import catalogue
from strata.notebooks.store.workers import WorkerState
from strata.outcomes import RefusalError, Refused
from strata.tenants.sessions.worker_catalogue import WorkerCatalogue

SCOPE: Final = "admin:workers"
OTHER_SCOPE: Final = "admin:notebook-workers"
"""The scope's name in other servers of this protocol, which counts as well."""

RESOURCE: Final = "admin/workers"

_REFRESH: Final[Mapping[str, Any]] = {
    "type": "string",
    "enum": ["true", "false"],
    "default": "false",
    "description": "Ask all executors; without it those whose last look is more than 5 seconds old.",
}


@tag(["administration"])
@document_response(WorkersAnswer)
@takes("query", refresh=_REFRESH)
@refuses(403)
async def workers(call: Call) -> Answer:
    """List the workers of notebooks with their health and what they can; needs ``admin:workers``."""
    found = _administered(call)
    refuse_unknown(call.query, {"refresh"})
    refresh = call.query.get("refresh", "false")
    if refresh not in ("true", "false"):
        raise bad_parameter("refresh", "must be true or false")
    found.admission.release()
    await WorkerCatalogue(found.registry.resources).look(refresh=refresh == "true")
    return json(catalogue(found))


@tag(["administration"])
@document_response(WorkersAnswer)
@refuses(403, 404)
async def refresh(call: Call) -> Answer:
    """Ask one worker how it is; needs ``admin:workers``."""
    found = _administered(call)
    refuse_unknown(call.query, set())
    name = _known(call)
    found.admission.release()
    await WorkerCatalogue(found.registry.resources).look(name, refresh=True)
    return json(catalogue(found))


@tag(["administration"])
@document_request(EnabledBody)
@document_response(WorkersAnswer)
@refuses(403, 404, 422)
async def change(call: Call) -> Answer:
    """Enable a worker, or disable it and interrupt its cells; needs ``admin:workers``."""
    _administered(call)
    refuse_unknown(call.query, set())
    _known(call)
    body = decode_body(EnabledBody, call.body)
    return await _switch(call, WorkerState.ENABLED if body.enabled else WorkerState.DISABLED)


@tag(["administration"])
@document_response(WorkersAnswer)
@refuses(403, 404)
async def drain(call: Call) -> Answer:
    """Let a worker end its cells and take no further ones, until it is enabled; needs ``admin:workers``."""
    _administered(call)
    refuse_unknown(call.query, set())
    _known(call)
    return await _switch(call, WorkerState.DRAINING)


@tag(["administration"])
@document_request(AllowanceBody)
@document_response(WorkersAnswer)
@refuses(403, 404, 422)
async def allow(call: Call) -> Answer:
    """Say how many cells of a tenant a worker runs at a time, 0 for none; needs ``admin:workers``.

    The lower one of it and ``max_concurrent_per_tenant`` counts. Only operators reach another tenant than
    their own.
    """
    _administered(call)
    refuse_unknown(call.query, set())
    _known(call)
    return await _allow(call, decode_body(AllowanceBody, call.body).max_concurrent)


@tag(["administration"])
@document_response(WorkersAnswer)
@refuses(403, 404)
async def take_back(call: Call) -> Answer:
    """Go back to the number of the configuration for a tenant; needs ``admin:workers``."""
    _administered(call)
    refuse_unknown(call.query, set())
    _known(call)
    return await _allow(call, None)


def _administered(call: Call) -> Context:
    """Return the request of a caller who may administer workers."""
    found = call.context
    found.require_admin(OTHER_SCOPE if found.caller.has_scope(OTHER_SCOPE) else SCOPE, RESOURCE)
    return found


def _known(call: Call) -> str:
    """Return the name of a worker that the configuration has."""
    name: str = call.parts["worker"]
    worker = WorkerCatalogue(call.context.registry.resources).find(name)
    if isinstance(worker, Refused):
        raise ProblemError(Problem.of(worker))
    return name


async def _switch(call: Call, state: WorkerState) -> Answer:
    found, name = call.context, call.parts["worker"]
    resources = found.registry.resources
    old = {"worker": name, "state": _state(found, name)}
    act = _act(found, "workers.switch", None, old, {"worker": name, "state": state.value})
    found.admission.release()
    try:
        await WorkerCatalogue(resources).switch(name, state, act)
    except RefusalError as error:
        raise ProblemError(Problem.of(error.refused)) from None
    return json(catalogue(found))


def _state(found: Context, name: str) -> str:
    switched = found.registry.resources.cells.switches.states.get(name)
    return (WorkerState.ENABLED if switched is None else switched.state).value


async def _allow(call: Call, places: int | None) -> Answer:
    found, name, tenant = call.context, call.parts["worker"], call.parts["tenant"]
    admin.require_reach(found, tenant)
    resources = found.registry.resources
    before = resources.cells.switches.allowances.get((name, tenant))
    old = {"worker": name, "max_concurrent": before}
    act = _act(found, "workers.allow", tenant, old, {"worker": name, "max_concurrent": places})
    found.admission.release()
    try:
        refused = await WorkerCatalogue(resources).allow(name, tenant, places, act)
    except RefusalError as error:
        refused = error.refused
    if refused is not None:
        raise ProblemError(Problem.of(refused))
    return json(catalogue(found))


def _act(found: Context, action: str, tenant: str | None, old: object, new: object) -> Act:
    return Act(
        tenant=tenant,
        principal=found.caller.id,
        principal_tenant=found.caller.tenant,
        action=action,
        request_id=found.request_id,
        old=msgspec.json.encode(old).decode(),
        new=msgspec.json.encode(new).decode(),
    )

"""The workers that a caller may use."""

from __future__ import annotations

from quart_schema import document_response, tag

from strata.http.api.notebooks.worker_schemas import UsableWorkerAnswer, UsableWorkersAnswer
from strata.http.api.openapi import refuses
from strata.http.api.query_params import refuse_unknown
from strata.http.api.responses import json
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.rights import READ, require_scope
from strata.http.routes.workers.answers import health_of
from strata.tenants.sessions.worker_catalogue import WorkerCatalogue


@tag(["notebooks"])
@document_response(UsableWorkersAnswer)
@refuses(403)
async def usable(call: Call) -> Answer:
    """List the workers that the caller's tenant may use, without their addresses. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, set())
    resources, tenant = call.context.registry.resources, call.context.caller.tenant
    cells, default = resources.cells, resources.cells.worker_for(tenant, None)
    listed = [
        UsableWorkerAnswer(
            name=worker.name,
            default=worker is default,
            available=cells.takes(worker, tenant),
            state=cells.state_of(worker).value,
            health=health_of(cells, worker),
            runtime_id=worker.runtime_id,
            max_concurrent_per_tenant=cells.places_of(worker, tenant),
            memory_bytes=worker.memory_bytes,
            cpu_seconds=worker.cpu_seconds,
            wall_seconds=worker.wall_seconds,
            output_bytes=worker.output_bytes,
            console_bytes=worker.console_bytes,
        )
        for worker in WorkerCatalogue(resources).usable(tenant)
    ]
    return json(UsableWorkersAnswer(listed))

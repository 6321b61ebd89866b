"""Builds."""

from quart_schema import document_response, tag

from strata.http.api.openapi import refuses
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import BuildAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import BuildStatus, GetBuild


@tag(["results"])
@document_response(BuildAnswer)
@refuses(404)
async def build(call: Call) -> Answer:
    """Describe a build."""
    found = await call.context.ask(GetBuild(call.context.caller, call.parts["build_id"]), BuildStatus)
    record = found.record
    return json(
        BuildAnswer(
            build_id=record.build_id,
            artifact_id=record.artifact_id,
            version=record.version,
            state=record.state.value,
            artifact_uri=artifact_uri(record.artifact_id, record.version),
            executor_ref=record.executor_ref,
            progress=found.progress,
            created_at=iso(record.created_at) or "",
            started_at=iso(record.started_at),
            completed_at=iso(record.completed_at),
            error_message=record.error_message,
            error_code=record.error_code,
        )
    )

"""Builds."""

from quart_schema import document_response, tag

from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import refuse_unknown, whole
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import BuildAnswer, BuildLogAnswer
from strata.http.api.schemas_registry import CancelledAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.discovery_messages import BuildLogPart, GetBuildLog
from strata.tenants.messages import BuildStatus, GetBuild
from strata.tenants.retention_messages import BuildCancelled, CancelBuild

MOST_WAIT = 20
"""Most seconds that a reader of a log can ask to wait."""

MOST_CHARACTERS = 10**15
"""The largest position in a log."""


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


@tag(["results"])
@document_response(BuildLogAnswer)
@refuses(404)
@takes(
    "query",
    after={"type": "integer", "minimum": 0, "default": 0},
    wait={"type": "integer", "minimum": 0, "maximum": MOST_WAIT, "default": 0},
)
async def log(call: Call) -> Answer:
    """Read what the transform of a build has printed, from a position on; ``wait`` seconds for more."""
    build_id = call.parts["build_id"]
    refuse_unknown(call.query, {"after", "wait"})
    after = whole(call.query, "after", 0, 0, MOST_CHARACTERS)
    wait = whole(call.query, "wait", 0, 0, MOST_WAIT)
    found = await call.context.ask(GetBuildLog(call.context.caller, build_id, after, wait), BuildLogPart)
    return json(
        BuildLogAnswer(build_id, found.start, found.text, found.start + len(found.text), ended=found.ended)
    )


@tag(["results"])
@document_response(CancelledAnswer)
@refuses(404)
async def cancel(call: Call) -> Answer:
    """End a build that the caller asked for; it goes on if others asked for the same result."""
    question = CancelBuild(call.context.caller, call.parts["build_id"])
    found = await call.context.ask(question, BuildCancelled)
    return json(CancelledAnswer(found.build_id, found.cancelled, found.state))

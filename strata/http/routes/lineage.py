"""Lineage of results: inputs, dependents, staleness."""

from quart_schema import document_response, tag

from strata.http.api.openapi import refuses, takes
from strata.http.api.query_params import refuse_unknown, whole
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import (
    ChangedInputAnswer,
    DependentsAnswer,
    EdgeAnswer,
    LineageAnswer,
    NameStatusAnswer,
    NodeAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import (
    Dependents,
    GetDependents,
    GetLineage,
    GetNameStatus,
    Lineage,
    NameStatus,
    Node,
)

MAX_DEPTH = 100


def _node(node: Node) -> NodeAnswer:
    return NodeAnswer(
        uri=node.uri,
        artifact_id=node.artifact_id,
        version=node.version,
        type=node.type,
        transform_ref=node.transform_ref,
        created_at=iso(node.created_at),
    )


@tag(["artifacts"])
@document_response(LineageAnswer)
@refuses(404)
@takes("query", max_depth={"type": "integer", "minimum": 1, "maximum": MAX_DEPTH, "default": 10})
async def lineage(call: Call) -> Answer:
    """Follow a result's inputs; those the caller may not see are redacted."""
    refuse_unknown(call.query, {"max_depth"})
    artifact_id, version = call.parts["artifact_id"], call.parts["version"]
    depth = whole(call.query, "max_depth", 10, 1, MAX_DEPTH)
    found = await call.context.ask(GetLineage(call.context.caller, artifact_id, version, depth), Lineage)
    return json(
        LineageAnswer(
            artifact_uri=artifact_uri(artifact_id, version),
            artifact_id=artifact_id,
            version=version,
            nodes=[_node(node) for node in found.nodes],
            edges=[EdgeAnswer(edge.source, edge.target, edge.version) for edge in found.edges],
            depth=found.depth,
            direct_inputs=list(found.direct),
            truncated=found.truncated,
        )
    )


@tag(["artifacts"])
@document_response(DependentsAnswer)
@refuses(404)
async def dependents(call: Call) -> Answer:
    """Find what was made of a result; only what the caller may read is found, and counted."""
    artifact_id, version = call.parts["artifact_id"], call.parts["version"]
    found = await call.context.ask(GetDependents(call.context.caller, artifact_id, version), Dependents)
    return json(
        DependentsAnswer(
            artifact_uri=artifact_uri(artifact_id, version),
            artifact_id=artifact_id,
            version=version,
            dependents=[_node(node) for node in found.dependents],
            total_count=found.total,
        )
    )


@tag(["names"])
@document_response(NameStatusAnswer)
@refuses(404)
async def status(call: Call) -> Answer:
    """Say whether what a name points at is what its inputs would give now."""
    found = await call.context.ask(GetNameStatus(call.context.caller, call.parts["name"]), NameStatus)
    record, artifact = found.name, found.artifact
    changed = [ChangedInputAnswer(one.uri, one.old_version, one.new_version) for one in found.changed]
    reason = None
    if changed:
        since = iso(artifact.created_at)
        reason = f"{len(changed)} of {len(artifact.inputs)} inputs changed since {since}."
    return json(
        NameStatusAnswer(
            name=record.name,
            artifact_uri=artifact_uri(artifact.artifact_id, artifact.version),
            artifact_id=artifact.artifact_id,
            version=artifact.version,
            state=artifact.state.value,
            updated_at=iso(record.updated_at) or "",
            input_versions=dict(artifact.inputs),
            is_stale=bool(changed),
            stale_reason=reason,
            changed_inputs=changed,
        )
    )

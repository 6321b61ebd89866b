"""Where results come from, and whether they are still what their inputs would give."""

from quart import Blueprint, Response
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
from strata.http.door.context import ask, principal
from strata.tenants.messages import (
    Dependents,
    GetDependents,
    GetLineage,
    GetNameStatus,
    Lineage,
    NameStatus,
    Node,
)

blueprint = Blueprint("lineage", __name__)

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


@blueprint.get("/v1/artifacts/<artifact_id>/v/<version:version>/lineage")
@tag(["artifacts"])
@document_response(LineageAnswer)
@refuses(404)
@takes("query", max_depth={"type": "integer", "minimum": 1, "maximum": MAX_DEPTH, "default": 10})
async def lineage(artifact_id: str, version: int) -> Response:
    """Follow a result's inputs; those the caller may not see are redacted."""
    refuse_unknown({"max_depth"})
    question = GetLineage(principal(), artifact_id, version, whole("max_depth", 10, 1, MAX_DEPTH))
    found = await ask(question, Lineage)
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


@blueprint.get("/v1/artifacts/<artifact_id>/v/<version:version>/dependents")
@tag(["artifacts"])
@document_response(DependentsAnswer)
@refuses(404)
async def dependents(artifact_id: str, version: int) -> Response:
    """Find what was made of a result; only what the caller may read is found, and counted."""
    found = await ask(GetDependents(principal(), artifact_id, version), Dependents)
    return json(
        DependentsAnswer(
            artifact_uri=artifact_uri(artifact_id, version),
            artifact_id=artifact_id,
            version=version,
            dependents=[_node(node) for node in found.dependents],
            total_count=found.total,
        )
    )


@blueprint.get("/v1/artifacts/names/<path:name>/status")
@tag(["names"])
@document_response(NameStatusAnswer)
@refuses(404)
async def status(name: str) -> Response:
    """Say whether what a name points at is what its inputs would give now."""
    found = await ask(GetNameStatus(principal(), name), NameStatus)
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

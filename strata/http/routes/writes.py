"""Direct writes: personal mode, or service mode with ``service_writes_enabled`` and a scope."""

from quart_schema import document_response, tag

from strata.http.api.administration import require_writes
from strata.http.api.openapi import refuses
from strata.http.api.responses import artifact_uri, json
from strata.http.api.schemas_registry import RemovedAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.retention_messages import ArtifactRemoved, RemoveArtifact


@tag(["artifacts"])
@document_response(RemovedAnswer)
@refuses(403, 404, 409)
async def delete_artifact(call: Call) -> Answer:
    """Remove a version of a result, unless something holds it; who reads it goes on reading."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    require_writes(found)
    question = RemoveArtifact(found.caller, artifact_id, version, found.request_id)
    removed = await found.ask(question, ArtifactRemoved)
    uri = artifact_uri(removed.artifact_id, removed.version)
    return json(RemovedAnswer("deleted", uri, removed.artifact_id, removed.version, removed.byte_size))

"""Finished results: what they are, and their bytes."""

from quart import Blueprint, Response, request
from quart_schema import document_response, tag

from strata.artifacts import ORDERS, SORTS, ArtifactRecord, ArtifactState, Page, Stats
from strata.http.api.openapi import answers, refuses, takes
from strata.http.api.query_params import moment, refuse_unknown, whole
from strata.http.api.responses import ARROW_STREAM, data_answer, iso, json, respond_in_part
from strata.http.api.schemas import ArtifactAnswer, ArtifactListAnswer, StatsAnswer
from strata.http.door.context import ask, context, principal
from strata.http.door.fast_routes import Answer, Call
from strata.tenants.messages import ArtifactStats, GetArtifact, ListArtifacts, OpenArtifact, Opened

blueprint = Blueprint("artifacts", __name__)

QUERY_KEYS = frozenset({"limit", "offset", "state", "name_prefix", "since", "sort", "order"})
MAX_PAGE = 1000
MAX_OFFSET = 2**53
DATA_HEADERS = ("ETag", "Accept-Ranges", "Cache-Control", "X-Strata-Artifact-Uri")


def _answer(record: ArtifactRecord) -> ArtifactAnswer:
    return ArtifactAnswer(
        artifact_id=record.artifact_id,
        version=record.version,
        state=record.state.value,
        arrow_schema=record.arrow_schema,
        row_count=record.row_count,
        byte_size=record.byte_size,
        created_at=iso(record.created_at) or "",
        content_sha256=record.content_sha256,
        provenance_hash=record.provenance_hash,
        transform_spec=record.transform_spec,
        input_versions=record.input_versions,
    )


@blueprint.get("/v1/artifacts")
@tag(["artifacts"])
@document_response(ArtifactListAnswer)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    offset={"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
    state={"type": "string", "enum": [state.value for state in ArtifactState]},
    name_prefix={"type": "string"},
    since={"type": "string", "description": "A moment in ISO 8601; UTC without an offset."},
    sort={"type": "string", "enum": list(SORTS), "default": "created_at"},
    order={"type": "string", "enum": list(ORDERS), "default": "desc"},
)
async def artifacts() -> Response:
    """List the tenant's artifacts, newest first unless asked otherwise."""
    refuse_unknown(QUERY_KEYS)
    question = ListArtifacts(
        principal(),
        limit=whole("limit", 100, 1, MAX_PAGE),
        offset=whole("offset", 0, 0, MAX_OFFSET),
        state=request.args.get("state"),
        name_prefix=request.args.get("name_prefix"),
        since=moment("since"),
        sort=request.args.get("sort", "created_at"),
        order=request.args.get("order", "desc"),
    )
    page = await ask(question, Page)
    answers = [_answer(record) for record in page.artifacts]
    return json(ArtifactListAnswer(answers, page.total, question.limit, question.offset))


@blueprint.get("/v1/artifacts/stats")
@blueprint.get("/v1/artifacts/usage")
@tag(["artifacts"])
@document_response(StatsAnswer)
async def stats() -> Response:
    """Count the tenant's artifacts and their bytes."""
    found = await ask(ArtifactStats(principal()), Stats)
    return json(StatsAnswer(found.total_artifacts, found.total_bytes, dict(found.by_state)))


@blueprint.get("/v1/artifacts/<artifact_id>/v/<version:version>")
@tag(["artifacts"])
@document_response(ArtifactAnswer)
@refuses(404)
async def artifact(artifact_id: str, version: int) -> Response:
    """Describe one version of an artifact."""
    return json(_answer(await ask(GetArtifact(principal(), artifact_id, version), ArtifactRecord)))


@blueprint.get("/v1/artifacts/<artifact_id>/v/<version:version>/data")
@tag(["artifacts"])
@answers(200, "The Arrow IPC stream.", ARROW_STREAM, headers=(*DATA_HEADERS, "Content-Length"))
@answers(206, "A range of its bytes.", ARROW_STREAM, headers=(*DATA_HEADERS, "Content-Range"))
@answers(304, "The caller has it already.", headers=("ETag",))
@refuses(404, 416)
@takes("header", Range={"type": "string"}, If_None_Match={"type": "string"})
async def data(artifact_id: str, version: int) -> Response:
    """Read a finished result; ranges and ``If-None-Match`` are honoured. Also answers HEAD."""
    return await respond_in_part(await read_data(Call(context(), (artifact_id, str(version)))))


async def read_data(call: Call) -> Answer:
    """Answer with a finished result."""
    found, (artifact_id, version) = call.context, call.parts
    return data_answer(await found.ask(OpenArtifact(found.caller, artifact_id, int(version)), Opened))

"""Finished results: what they are, and their bytes."""

from quart_schema import document_response, tag

from strata.artifacts import ORDERS, SORTS, ArtifactRecord, ArtifactState, Page, Stats
from strata.http.api.openapi import answers, refuses, takes
from strata.http.api.query_params import moment, refuse_unknown, whole
from strata.http.api.responses import ARROW_STREAM, data_answer, iso, json
from strata.http.api.schemas import ArtifactAnswer, ArtifactListAnswer, StatsAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import ArtifactStats, GetArtifact, ListArtifacts, OpenArtifact, Opened

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
async def artifacts(call: Call) -> Answer:
    """List the tenant's artifacts, newest first unless asked otherwise."""
    refuse_unknown(call.query, QUERY_KEYS)
    question = ListArtifacts(
        call.context.caller,
        limit=whole(call.query, "limit", 100, 1, MAX_PAGE),
        offset=whole(call.query, "offset", 0, 0, MAX_OFFSET),
        state=call.query.get("state"),
        name_prefix=call.query.get("name_prefix"),
        since=moment(call.query, "since"),
        sort=call.query.get("sort", "created_at"),
        order=call.query.get("order", "desc"),
    )
    page = await call.context.ask(question, Page)
    answers = [_answer(record) for record in page.artifacts]
    return json(ArtifactListAnswer(answers, page.total, question.limit, question.offset))


@tag(["artifacts"])
@document_response(StatsAnswer)
async def stats(call: Call) -> Answer:
    """Count the tenant's artifacts and their bytes."""
    found = await call.context.ask(ArtifactStats(call.context.caller), Stats)
    return json(StatsAnswer(found.total_artifacts, found.total_bytes, dict(found.by_state)))


@tag(["artifacts"])
@document_response(ArtifactAnswer)
@refuses(404)
async def artifact(call: Call) -> Answer:
    """Describe one version of an artifact."""
    question = GetArtifact(call.context.caller, call.parts["artifact_id"], call.parts["version"])
    return json(_answer(await call.context.ask(question, ArtifactRecord)))


@tag(["artifacts"])
@answers(200, "The Arrow IPC stream.", ARROW_STREAM, headers=(*DATA_HEADERS, "Content-Length"))
@answers(206, "A range of its bytes.", ARROW_STREAM, headers=(*DATA_HEADERS, "Content-Range"))
@answers(304, "The caller has it already.", headers=("ETag",))
@refuses(404, 416)
@takes("header", Range={"type": "string"}, If_None_Match={"type": "string"})
async def data(call: Call) -> Answer:
    """Read a finished result; ranges and ``If-None-Match`` are honoured. Also answers HEAD."""
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    return data_answer(await found.ask(OpenArtifact(found.caller, artifact_id, version), Opened))

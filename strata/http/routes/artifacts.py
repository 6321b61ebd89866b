"""Finished results: what they are, their bytes and their receipts."""

import hashlib
from collections.abc import Sequence
from functools import partial

import attrs
import msgspec
from quart_schema import document_response, tag

from strata.artifacts import ORDERS, SORTS, ArtifactRecord, ArtifactState, Page, Stats
from strata.http.api.openapi import answers, refuses, takes
from strata.http.api.pages import page_answer, place_token, token_place
from strata.http.api.query_params import bad_parameter, moment, refuse_unknown, whole
from strata.http.api.responses import ARROW_STREAM, artifact_uri, data_answer, iso, json
from strata.http.api.schemas import (
    ArtifactAnswer,
    ArtifactListAnswer,
    ReceiptAnswer,
    ReceiptInput,
    StatsAnswer,
    stats_answer,
)
from strata.http.door.routing import Answer, Call
from strata.http.formats.accelerated import may_sign
from strata.http.formats.answers import finished_answer
from strata.http.formats.negotiation import MEDIA, RESULT_PARAMETERS, STORED, form_of
from strata.tables import snapshot_of, view_of
from strata.tenants.messages import ArtifactStats, GetArtifact, ListArtifacts, OpenArtifact, Opened
from strata.tenants.shared.artifact_inputs import all_inputs
from strata.transforms.sql_settings import ordered_of

QUERY_KEYS = frozenset({"limit", "offset", "state", "name_prefix", "since", "sort", "order", "page_token"})
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
        ordered=ordered_of(record.arrow_schema),
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
    page_token={
        "type": "string",
        "description": "`next_page_token` of the page before; no `offset` then.",
    },
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
    token = call.query.get("page_token")
    if token is not None:
        if question.offset:
            raise bad_parameter("page_token", "takes the place of offset")
        after, total = token_place(token, question.sort, question.order)
        question = attrs.evolve(question, after=after, total=total)
    page = await call.context.ask(question, Page)
    return await page_answer(call.context, page.artifacts, partial(_page, page, question))


def _page(page: Page, question: ListArtifacts, records: Sequence[ArtifactRecord]) -> Answer:
    following = None
    if page.last is not None:
        following = place_token(page.last, page.total, question.sort, question.order)
    answers = [_answer(record) for record in records]
    # The limit of a page that ended early is its length: clients that go on from offset + limit miss nothing.
    ended_early = page.last is not None and len(answers) < question.limit
    limit = len(answers) if answers and ended_early else question.limit
    return json(ArtifactListAnswer(answers, page.total, limit, question.offset, following))


@tag(["artifacts"])
@document_response(StatsAnswer)
async def stats(call: Call) -> Answer:
    """Count the tenant's artifacts and their bytes."""
    found = await call.context.ask(ArtifactStats(call.context.caller), Stats)
    return json(stats_answer(found))


@tag(["artifacts"])
@document_response(ArtifactAnswer)
@refuses(404)
async def artifact(call: Call) -> Answer:
    """Describe one version of an artifact."""
    question = GetArtifact(call.context.caller, call.parts["artifact_id"], call.parts["version"])
    return json(_answer(await call.context.ask(question, ArtifactRecord)))


@tag(["artifacts"])
@answers(
    200, "The result; as an Arrow IPC stream unless asked otherwise.", *MEDIA.values(), headers=DATA_HEADERS
)
@answers(206, "A range of its bytes.", ARROW_STREAM, headers=(*DATA_HEADERS, "Content-Range"))
@answers(304, "The caller has it already.", headers=("ETag", "Cache-Control"))
@refuses(404, 406, 412, 416)
@takes("query", **RESULT_PARAMETERS)
@takes(
    "header",
    Accept={"type": "string"},
    Range={"type": "string"},
    If_Range={"type": "string"},
    If_Match={"type": "string"},
    If_None_Match={"type": "string"},
)
async def data(call: Call) -> Answer:
    """Read a finished result, in the format asked for. Also answers HEAD.

    Of the stored Arrow stream one range of bytes and preconditions are honoured.
    """
    found, artifact_id, version = call.context, call.parts["artifact_id"], int(call.parts["version"])
    form = form_of(call.headers, call.query)
    signed = form.stored and may_sign(found)
    opened = await found.ask(OpenArtifact(found.caller, artifact_id, version, signed), Opened)
    if form is STORED and found.registry.resources.published is None and not signed:
        return data_answer(opened)  # as nearly all
    return await finished_answer(opened, found, form)


@tag(["artifacts"])
@document_response(ReceiptAnswer)
@refuses(404)
async def receipt(call: Call) -> Answer:
    """Return rows, bytes and SHA-256 of a finished result, and what it was made of."""
    who, parts = call.context.caller, call.parts
    question = GetArtifact(who, parts["artifact_id"], int(parts["version"]), finished=True)
    record = await call.context.ask(question, ArtifactRecord)
    versions = dict(all_inputs(record.inputs))  # with those that its inputs were made of
    views = {uri: view for uri, version in versions.items() if (view := view_of(version))}
    policy = msgspec.json.encode(views, order="sorted")
    return json(
        ReceiptAnswer(
            artifact_uri=artifact_uri(record.artifact_id, record.version),
            rows=record.row_count or 0,
            bytes=record.byte_size or 0,
            sha256=record.content_sha256 or "",
            policy_hash=hashlib.sha256(policy).hexdigest() if views else None,
            inputs=[ReceiptInput(uri, version, snapshot_of(version)) for uri, version in versions.items()],
        )
    )

"""Look results up: by name with aliases and tags, by tag, by provenance."""

from __future__ import annotations

import re
from typing import Final

from quart_schema import document_response, tag

from strata.artifacts import ArtifactRecord
from strata.http.api.openapi import refuses, takes
from strata.http.api.pages import no_token, text_token, token_text
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import ARROW_STREAM, artifact_uri, iso, json
from strata.http.api.schemas_registry import (
    ProvenanceAnswer,
    SummaryAnswer,
    SummaryItem,
    TaggedItem,
    TaggedListAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.registry.changes import LIMIT, MAX_PAGE, TOKEN
from strata.tenants.registry_messages import FindByProvenance, FindTagged, Summarize, Summary

_HASH: Final = re.compile("[0-9a-f]{64}")
_PLACE: Final = re.compile("(?P<id>[A-Za-z0-9_-]{1,128})@v=(?P<version>[1-9][0-9]{0,17})")


@tag(["registry"])
@document_response(SummaryAnswer)
@takes("query", limit=LIMIT | {"default": MAX_PAGE}, page_token=TOKEN)
async def summary(call: Call) -> Answer:
    """List names with what they point at, their aliases and tags."""
    refuse_unknown(call.query, {"limit", "page_token"})
    found, limit = call.context, whole(call.query, "limit", MAX_PAGE, 1, MAX_PAGE)
    after = token_text(call.query["page_token"]) if "page_token" in call.query else ""
    listed = await found.ask(Summarize(found.caller, after, limit + 1), tuple)
    page: tuple[Summary, ...] = listed[:limit]
    following = text_token(page[-1].name.name) if len(listed) > limit else None
    return json(SummaryAnswer([_summary(found.caller.tenant, one) for one in page], following))


def _summary(tenant: str, one: Summary) -> SummaryItem:
    record = one.name
    return SummaryItem(
        tenant=tenant,
        name=record.name,
        artifact_id=record.artifact_id,
        version=record.version,
        uri=artifact_uri(record.artifact_id, record.version),
        aliases={alias.alias: alias.version for alias in one.aliases},
        alias_uris={alias.alias: artifact_uri(alias.artifact_id, alias.version) for alias in one.aliases},
        tags=dict(one.tags),
        readers=[],
        owner=record.owner,
    )


@tag(["registry"])
@document_response(TaggedListAnswer)
@takes(
    "query",
    tag_key={"type": "string", "minLength": 1, "description": "Key of the tag; required."},
    tag_value={"type": "string", "description": "Value of the tag; any without it."},
    limit=LIMIT,
    page_token=TOKEN,
)
async def tagged(call: Call) -> Answer:
    """List results with a tag."""
    refuse_unknown(call.query, {"tag_key", "tag_value", "limit", "page_token"})
    key = call.query.get("tag_key", "")
    if not key:
        raise bad_parameter("tag_key", "is required")
    after = None
    if "page_token" in call.query:
        place = _PLACE.fullmatch(token_text(call.query["page_token"]))
        if place is None:
            raise no_token()
        after = (place["id"], int(place["version"]))
    found, limit = call.context, whole(call.query, "limit", 100, 1, MAX_PAGE)
    question = FindTagged(found.caller, key, call.query.get("tag_value"), after, limit + 1)
    listed = await found.ask(question, tuple)
    page = listed[:limit]
    following = text_token(f"{page[-1].artifact_id}@v={page[-1].version}") if len(listed) > limit else None
    items = [
        TaggedItem(
            one.artifact_id,
            one.version,
            artifact_uri(one.artifact_id, one.version),
            list(one.names),
            dict(one.tags),
            one.value,
        )
        for one in page
    ]
    return json(TaggedListAnswer(items, following))


@tag(["artifacts"])
@document_response(ProvenanceAnswer)
@refuses(404)
async def by_provenance(call: Call) -> Answer:
    """Find the newest ready result with a provenance hash (64 hexadecimal digits)."""
    found, digest = call.context, call.parts["provenance_hash"]
    record = None
    if _HASH.fullmatch(digest):
        try:
            record = await found.ask(FindByProvenance(found.caller, digest), ArtifactRecord)
        except ProblemError as error:
            if error.problem.status != 404:  # noqa: PLR2004  # not found
                raise
    if record is None:
        headers = (("X-Strata-Provenance-Miss", "1"),)
        raise ProblemError(Problem(404, "Artifact not found", headers=headers))
    return json(
        ProvenanceAnswer(
            artifact_id=record.artifact_id,
            version=record.version,
            provenance_hash=record.provenance_hash,
            content_type=ARROW_STREAM,
            state=record.state.value,
            arrow_schema=record.arrow_schema,
            row_count=record.row_count,
            byte_size=record.byte_size,
            created_at=iso(record.created_at) or "",
            content_sha256=record.content_sha256,
        )
    )

"""Names of results."""

from collections.abc import Sequence
from functools import partial

from quart_schema import document_response, tag

from strata.artifacts import NameRecord
from strata.http.api.openapi import refuses, takes
from strata.http.api.pages import encoded_list, page_answer, text_token, token_text
from strata.http.api.query_params import refuse_unknown, whole
from strata.http.api.responses import artifact_uri, iso, json
from strata.http.api.schemas import NameAnswer, NameListAnswer
from strata.http.door.routing import Answer, Call
from strata.tenants.messages import GetName, ListNames


def _answer(record: NameRecord) -> NameAnswer:
    uri = artifact_uri(record.artifact_id, record.version)
    return NameAnswer(record.name, uri, record.version, iso(record.updated_at) or "")


MAX_PAGE = 1000


@tag(["names"])
@document_response(NameListAnswer)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "description": "Without it, all names."},
    page_token={"type": "string", "description": "`next_page_token` of the page before."},
)
async def names(call: Call) -> Answer:
    """List the tenant's names in order; all of them, or a page of ``limit``."""
    refuse_unknown(call.query, {"limit", "page_token"})
    limit = whole(call.query, "limit", MAX_PAGE, 1, MAX_PAGE) if "limit" in call.query else None
    after = token_text(call.query["page_token"]) if "page_token" in call.query else ""
    # One more than the page tells whether there are further ones.
    question = ListNames(call.context.caller, after, None if limit is None else limit + 1)
    found = await call.context.ask(question, tuple)
    return await page_answer(call.context, found, partial(_page, limit))


def _page(limit: int | None, found: Sequence[NameRecord]) -> Answer:
    page = found[:limit]
    following = text_token(page[-1].name) if len(page) < len(found) else None
    return json(NameListAnswer(encoded_list(map(_answer, page)), following))


@tag(["names"])
@document_response(NameAnswer)
@refuses(404)
async def name(call: Call) -> Answer:
    """Resolve a name; names may contain slashes."""
    question = GetName(call.context.caller, call.parts["name"])
    return json(_answer(await call.context.ask(question, NameRecord)))

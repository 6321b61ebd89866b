"""Revisions of a notebook, and their differences."""

from __future__ import annotations

from functools import partial
from typing import Any

from quart_schema import document_response, tag

from strata.http.api.notebooks.schemas import (
    CellChangeAnswer,
    ComparisonAnswer,
    RevisionAnswer,
    RevisionListAnswer,
)
from strata.http.api.openapi import needs, refuses, takes
from strata.http.api.pages import page_answer, text_token, token_text
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import iso, json
from strata.http.door.routing import Answer, Call
from strata.http.routes.notebooks.answers import cell_answer
from strata.http.routes.notebooks.notebooks import MAX_PAGE, MAX_REVISION
from strata.http.routes.notebooks.rights import READ, require_scope
from strata.tenants.notebooks import messages as m

_REVISION: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_REVISION}


@tag(["notebooks"])
@document_response(RevisionListAnswer)
@refuses(403, 404)
@takes(
    "query",
    limit={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 100},
    page_token={"type": "string", "description": "`next_page_token` of the page before."},
)
async def revisions(call: Call) -> Answer:
    """List the revisions of a notebook, the latest first. Needs ``notebook:read``."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"limit", "page_token"})
    limit = whole(call.query, "limit", 100, 1, MAX_PAGE)
    before = None
    if "page_token" in call.query:
        text = token_text(call.query["page_token"])
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_REVISION))):
            raise bad_parameter("page_token", "is not a token of this listing")
        before = int(text)
    question = m.ListRevisions(
        principal=call.context.caller, name=call.parts["notebook"], before=before, limit=limit + 1
    )
    found = await call.context.ask(question, tuple)
    return await page_answer(call.context, found, partial(_page, limit))


def _page(limit: int, found: Any) -> Answer:
    page = found[:limit]
    following = text_token(str(page[-1].revision)) if len(page) < len(found) else None
    answers = [RevisionAnswer(one.revision, one.author, iso(one.at) or "", one.nbytes) for one in page]
    return json(RevisionListAnswer(answers, following))


@tag(["notebooks"])
@document_response(ComparisonAnswer)
@refuses(403, 404)
@needs("query", before=_REVISION, after=_REVISION)
async def compare(call: Call) -> Answer:
    """Compare two revisions, cell by cell. Needs ``notebook:read``, and both numbers."""
    require_scope(call, READ)
    refuse_unknown(call.query, {"before", "after"})
    for key in ("before", "after"):
        if key not in call.query:
            raise bad_parameter(key, "must be given")
    before, after = (whole(call.query, key, 1, 1, MAX_REVISION) for key in ("before", "after"))
    question = m.CompareRevisions(
        principal=call.context.caller, name=call.parts["notebook"], before=before, after=after
    )
    found = await call.context.ask(question, m.Comparison)
    return await call.context.compute(partial(_comparison, found, before, after))


def _comparison(found: m.Comparison, before: int, after: int) -> Answer:
    old, new = found.before, found.after
    titled, described = old.title != new.title, old.metadata != new.metadata
    return json(
        ComparisonAnswer(
            before_revision=before,
            after_revision=after,
            before_title=old.title if titled else None,
            after_title=new.title if titled else None,
            before_metadata=dict(old.metadata) if described else None,
            after_metadata=dict(new.metadata) if described else None,
            cells=[
                CellChangeAnswer(
                    kind=change.kind.value,
                    cell_id=change.cell_id,
                    before=None if change.before is None else cell_answer(change.before),
                    after=None if change.after is None else cell_answer(change.after),
                    before_place=change.before_place,
                    after_place=change.after_place,
                )
                for change in found.changes
            ],
        )
    )

"""The catalogs and tables that the caller may read."""

from __future__ import annotations

import json as text_json
from collections.abc import Sequence
from functools import partial
from typing import Any

from quart_schema import document_response, tag

from strata.http.api.openapi import refuses, takes
from strata.http.api.pages import no_token, page_answer, text_token, token_text
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import json
from strata.http.api.schemas_tables import (
    CatalogAnswer,
    CatalogListAnswer,
    ListedTableAnswer,
    TableListAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.tables import Listed, Place, split_name, table_uri
from strata.tenants.discovery_messages import CatalogList, ListCatalogs, ListTables, TableList

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_WORDS = 256
MAX_NAME = 2048

PAGE_PARAMETERS: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE},
    "page_token": {"type": "string", "description": "`next_page_token` of the page before."},
}


@tag(["tables"])
@document_response(CatalogListAnswer)
async def catalogs(call: Call) -> Answer:
    """List the catalogs of which the access rules allow the caller a table."""
    refuse_unknown(call.query, ())
    found = await call.context.ask(ListCatalogs(call.context.caller), CatalogList)
    return json(CatalogListAnswer([CatalogAnswer(name, kind) for name, kind in found.kinds.items()]))


@tag(["tables"])
@document_response(TableListAnswer)
@refuses(404, 504)
@takes(
    "query",
    catalog={"type": "string", "description": "Only tables of this catalog."},
    namespace={"type": "string", "description": "Only tables of this namespace, its levels joined by dots."},
    q={"type": "string", "maxLength": MAX_WORDS, "description": "Only names with this text, in any case."},
    **PAGE_PARAMETERS,
)
async def tables(call: Call) -> Answer:
    """List a page of the tables and views that the caller may read, by catalog, namespace and name."""
    query = call.query
    refuse_unknown(query, {"catalog", "namespace", "q", "limit", "page_token"})
    question = ListTables(
        call.context.caller,
        whole(query, "limit", DEFAULT_PAGE, 1, MAX_PAGE),
        _text(query.get("catalog"), "catalog", MAX_NAME),
        _namespace(query.get("namespace")),
        _text(query.get("q"), "q", MAX_WORDS) or "",
        None if "page_token" not in query else token_place(query["page_token"]),
    )
    found = await call.context.ask(question, TableList)
    return await page_answer(call.context, found.tables, partial(_page, found.more))


def _page(more: bool, found: Sequence[Listed]) -> Answer:  # noqa: FBT001  # bound by `partial`
    listed = [
        ListedTableAnswer(
            uri=table_uri(one.ref) or "",
            catalog=one.ref.catalog,
            namespace=list(one.ref.namespace),
            name=one.ref.table,
            kind="view" if one.kind == "view" else "table",
        )
        for one in found
    ]
    return json(TableListAnswer(listed, place_token(found[-1]) if more else None))


def place_token(one: Listed) -> str:
    """Return the token of the page behind a table."""
    return text_token(text_json.dumps([one.ref.catalog, *one.place.namespace, one.place.name]))


def token_place(token: str) -> tuple[str, Place]:
    """Return the catalog and the place in it that a token names.

    Raises:
        ProblemError: 400 for a text that is no token.
    """
    try:
        parts = text_json.loads(token_text(token))
    except (ValueError, RecursionError):
        raise no_token() from None
    if not isinstance(parts, list) or len(parts) < 3:  # noqa: PLR2004  # catalog, namespace, name
        raise no_token()
    if not all(isinstance(part, str) and _is_text(part) for part in parts):
        raise no_token()
    return parts[0], Place(tuple(parts[1:-1]), parts[-1])


def _is_text(text: str) -> bool:
    """Whether a text can be sent to a database: it has no half of a surrogate pair, and no NUL."""
    return "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def _text(text: str | None, key: str, most: int) -> str | None:
    if text is not None and (not text or len(text) > most or not _is_text(text)):
        raise bad_parameter(key, f"must be a text of 1 to {most} characters")
    return text


def _namespace(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    parts = split_name(_text(text, "namespace", MAX_NAME) or "")
    if parts is None:
        raise bad_parameter("namespace", "must be the levels of a namespace joined by dots")
    return parts

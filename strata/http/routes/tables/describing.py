"""One table: its description, snapshots, branches and tags, and history."""

from __future__ import annotations

import json as text_json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from quart_schema import document_response, tag

from strata.http.api.openapi import needs, refuses, takes
from strata.http.api.pages import no_token, page_answer, text_token, token_text
from strata.http.api.query_params import bad_parameter, refuse_unknown, whole
from strata.http.api.responses import iso, json
from strata.http.api.schemas_tables import (
    HistoryAnswer,
    HistoryEntryAnswer,
    RefAnswer,
    RefListAnswer,
    SnapshotAnswer,
    SnapshotListAnswer,
    TableAnswer,
)
from strata.http.door.routing import Answer, Call
from strata.http.routes.tables.listing import DEFAULT_PAGE, MAX_PAGE, PAGE_PARAMETERS
from strata.tables import table_uri
from strata.tenants.discovery_messages import (
    DescribeTable,
    HistoryEntry,
    HistoryList,
    ListHistory,
    ListRefs,
    ListSnapshots,
    RefInfo,
    RefList,
    SnapshotInfo,
    SnapshotList,
    TableDescribed,
)

_MS = 1000
_URI = {"type": "string", "description": "The table's URI, as in the inputs of a scan."}
_LARGEST = 2**63 - 1


@tag(["tables"])
@document_response(TableAnswer)
@refuses(404, 501)
@needs("query", uri=_URI)
@takes(
    "query",
    snapshot_id={"type": "string", "pattern": "^[0-9]{1,19}$", "description": "At this snapshot."},
    ref={"type": "string", "minLength": 1, "description": "At this branch or tag."},
    as_of={"type": "string", "description": "At this moment, with its offset from UTC."},
)
async def describe(call: Call) -> Answer:
    """Describe a table as the caller may read it."""
    query = call.query
    refuse_unknown(query, {"uri", "snapshot_id", "ref", "as_of"})
    version = {key: query[key] for key in ("snapshot_id", "ref", "as_of") if key in query}
    found = await call.context.ask(DescribeTable(call.context.caller, _uri(query), version), TableDescribed)
    return await call.context.compute(partial(_described, found, query["uri"]))


def _described(found: TableDescribed, uri: str) -> Answer:
    table, size = found.table, found.size
    return json(
        TableAnswer(
            uri=table_uri(table.ref) or uri,
            catalog=table.ref.catalog,
            namespace=list(table.ref.namespace),
            name=table.ref.table,
            kind="table",
            uuid=table.uuid,
            format_version=table.format_version,
            restricted=table.restricted,
            snapshot_id=_id(table.snapshot_id),
            snapshot_timestamp=_time(table.snapshot_ms),
            last_updated=_time(table.updated_ms) or "",
            schema=table.schema,
            partition_spec=table.partition_spec,
            sort_order=table.sort_order,
            properties=table.properties,
            rows=size.rows,
            bytes=size.nbytes,
            files=size.files,
        )
    )


@tag(["tables"])
@document_response(SnapshotListAnswer)
@refuses(404, 501)
@needs("query", uri=_URI)
@takes("query", **PAGE_PARAMETERS)
async def snapshots(call: Call) -> Answer:
    """List a page of a table's snapshots, the newest first."""
    uri, limit, behind = _page_of(call)
    question = ListSnapshots(call.context.caller, uri, limit, None if behind is None else _moment(behind))
    found = await call.context.ask(question, SnapshotList)
    return await page_answer(call.context, found.snapshots, partial(_snapshot_page, found.more))


def _snapshot_page(more: bool, found: Sequence[SnapshotInfo]) -> Answer:  # noqa: FBT001  # bound by `partial`
    page = [
        SnapshotAnswer(
            snapshot_id=str(one.snapshot_id),
            parent_id=_id(one.parent_id),
            sequence_number=one.sequence_number,
            timestamp=_time(one.timestamp_ms) or "",
            schema_id=one.schema_id,
            summary=None if one.summary is None else dict(one.summary),
        )
        for one in found
    ]
    return json(SnapshotListAnswer(page, _moment_token(found[-1]) if more else None))


@tag(["tables"])
@document_response(RefListAnswer)
@refuses(404, 501)
@needs("query", uri=_URI)
@takes("query", **PAGE_PARAMETERS)
async def refs(call: Call) -> Answer:
    """List a page of a table's branches and tags in the order of their names."""
    uri, limit, behind = _page_of(call)
    found = await call.context.ask(ListRefs(call.context.caller, uri, limit, behind or ""), RefList)
    return await page_answer(call.context, found.refs, partial(_ref_page, found.more))


def _ref_page(more: bool, found: Sequence[RefInfo]) -> Answer:  # noqa: FBT001  # bound by `partial`
    page = [
        RefAnswer(
            name=one.name,
            type="tag" if one.kind == "tag" else "branch",
            snapshot_id=str(one.snapshot_id),
            max_ref_age_ms=one.max_ref_age_ms,
            max_snapshot_age_ms=one.max_snapshot_age_ms,
            min_snapshots_to_keep=one.min_snapshots_to_keep,
        )
        for one in found
    ]
    return json(RefListAnswer(page, text_token(found[-1].name) if more else None))


@tag(["tables"])
@document_response(HistoryAnswer)
@refuses(404, 501)
@needs("query", uri=_URI)
@takes("query", **PAGE_PARAMETERS)
async def history(call: Call) -> Answer:
    """List a page of the changes of a table's current snapshot, the latest first."""
    uri, limit, behind = _page_of(call)
    question = ListHistory(call.context.caller, uri, limit, None if behind is None else _moment(behind))
    found = await call.context.ask(question, HistoryList)
    return await page_answer(call.context, found.entries, partial(_history_page, found.more))


def _history_page(more: bool, found: Sequence[HistoryEntry]) -> Answer:  # noqa: FBT001  # bound by `partial`
    page = [
        HistoryEntryAnswer(_time(one.timestamp_ms) or "", str(one.snapshot_id), one.is_current_ancestor)
        for one in found
    ]
    return json(HistoryAnswer(page, _moment_token(found[-1]) if more else None))


def _page_of(call: Call) -> tuple[str, int, str | None]:
    """Return the URI, the limit and the text of the page token of a query."""
    query = call.query
    refuse_unknown(query, {"uri", "limit", "page_token"})
    limit = whole(query, "limit", DEFAULT_PAGE, 1, MAX_PAGE)
    return _uri(query), limit, None if "page_token" not in query else token_text(query["page_token"])


def _uri(query: Mapping[str, str]) -> str:
    if "uri" not in query:
        raise bad_parameter("uri", "is missing: name a table, such as uri=demo:nyc.flights")
    return query["uri"]


def _moment_token(one: SnapshotInfo | HistoryEntry) -> str:
    return text_token(text_json.dumps([one.timestamp_ms, one.snapshot_id]))


def _moment(text: str) -> tuple[int, int]:
    try:
        found: Any = text_json.loads(text)
    except (ValueError, RecursionError):
        raise no_token() from None
    match found:
        case [int(moment), int(snapshot_id)] if max(abs(moment), abs(snapshot_id)) <= _LARGEST:
            return moment, snapshot_id
    raise no_token()


def _id(snapshot_id: int | None) -> str | None:
    return None if snapshot_id is None else str(snapshot_id)


def _time(ms: int | None) -> str | None:
    return None if ms is None else iso(ms / _MS)

"""The JSON of answers about tables (``wire-contract.md``, "Discovery").

Snapshot ids are texts: they have 63 bits, of which JavaScript's numbers keep 53. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

SnapshotId = Annotated[str, Meta(pattern="^[0-9]{1,19}$")]


class CatalogAnswer(msgspec.Struct):
    """A catalog; ``type`` is ``warehouse``, or that of its client: ``sql``, ``rest``, ``glue`` and others."""

    name: str
    type: str


class CatalogListAnswer(msgspec.Struct):
    """The catalogs of which the access rules allow the caller a table."""

    catalogs: list[CatalogAnswer]


class ListedTableAnswer(msgspec.Struct):
    """A table or view; ``uri`` is what a scan takes among its inputs."""

    uri: str
    catalog: str
    namespace: list[str]
    name: str
    kind: Literal["table", "view"]


class TableListAnswer(msgspec.Struct):
    """A page of the tables that the caller may read; ``next_page_token``: where the next one begins."""

    tables: list[ListedTableAnswer]
    next_page_token: str | None


class TableAnswer(msgspec.Struct):
    """A table as the caller may read it; ``restricted``: not in whole.

    ``schema``, ``partition_spec`` and ``sort_order`` are Iceberg's own JSON, of the columns that the caller
    may read. ``rows``, ``bytes`` and ``files`` are exact; null where they are not known without reading data,
    or not for the caller.
    """

    uri: str
    catalog: str
    namespace: list[str]
    name: str
    kind: Literal["table"]
    uuid: str
    format_version: int
    restricted: bool
    snapshot_id: SnapshotId | None
    snapshot_timestamp: str | None
    last_updated: str
    schema: dict[str, Any]
    partition_spec: list[dict[str, Any]]
    sort_order: list[dict[str, Any]]
    properties: dict[str, str]
    rows: int | None
    bytes: int | None
    files: int | None


class SnapshotAnswer(msgspec.Struct):
    """A snapshot; ``summary`` is what its writer noted, null for a caller who may not read all cells."""

    snapshot_id: SnapshotId
    parent_id: SnapshotId | None
    sequence_number: int
    timestamp: str
    schema_id: int | None
    summary: dict[str, str] | None


class SnapshotListAnswer(msgspec.Struct):
    """A page of a table's snapshots, the newest first."""

    snapshots: list[SnapshotAnswer]
    next_page_token: str | None


class RefAnswer(msgspec.Struct):
    """A branch or tag, and how long it and its snapshots are kept."""

    name: str
    type: Literal["branch", "tag"]
    snapshot_id: SnapshotId
    max_ref_age_ms: int | None
    max_snapshot_age_ms: int | None
    min_snapshots_to_keep: int | None


class RefListAnswer(msgspec.Struct):
    """A page of a table's branches and tags in the order of their names."""

    refs: list[RefAnswer]
    next_page_token: str | None


class HistoryEntryAnswer(msgspec.Struct):
    """A change of a table's current snapshot."""

    timestamp: str
    snapshot_id: SnapshotId
    is_current_ancestor: bool


class HistoryAnswer(msgspec.Struct):
    """A page of the changes of a table's current snapshot, the latest first."""

    history: list[HistoryEntryAnswer]
    next_page_token: str | None

"""What there is to read: answers about tables, and the operations that ask for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlencode

import attrs

from strata.client.answers import Me, parse_answer
from strata.client.display.html import Listing, Shown, table_html
from strata.client.errors import StrataError
from strata.client.filters import encode_moment
from strata.client.operations import ClientEnvironment, Operation, Send, exchange

T = TypeVar("T")

PAGE = 1000
"""Entries of a listing that one request asks for."""

_HIDDEN = (403, 404)


@attrs.frozen
class Catalog:
    """A catalog; ``type`` is ``warehouse``, ``sql``, ``rest``, ``glue`` or another one."""

    name: str
    type: str


@attrs.frozen
class Table:
    """A table or view that the caller may read.

    Attributes:
        uri: What a scan takes among its inputs.
        catalog: Name of the catalog.
        namespace: Levels of the namespace, outermost first.
        name: Name without the namespace.
        kind: ``table`` or ``view``.
    """

    uri: str
    catalog: str
    namespace: tuple[str, ...]
    name: str
    kind: str = "table"


@attrs.frozen
class Column:
    """A column of a table.

    Attributes:
        id: Iceberg's field id, which stays when the column is renamed.
        name: The name.
        type: The type as text, such as ``long`` or ``struct<city: string>``.
        required: Whether it has no nulls.
        doc: Its comment.
        default: The value of rows that are older than the column, as JSON.
    """

    id: int
    name: str
    type: str
    required: bool
    doc: str | None = None
    default: Any = None


@attrs.frozen
class Description:
    """A table as the caller may read it.

    Attributes:
        uri: The table's URI.
        schema: The columns as Iceberg's JSON; :attr:`columns` has them as values.
        partition_spec: The partition fields as Iceberg's JSON.
        sort_order: The sort fields as Iceberg's JSON.
        properties: Iceberg's settings of the table, and texts for people.
        rows: Exact number of rows; None if it is not known without reading data, or not for the caller.
        bytes: Bytes of the data files; None as for ``rows``.
        files: Number of the data files; None as for ``rows``.
        snapshot_id: The described snapshot.
        snapshot_timestamp: When it was made, ISO 8601.
        last_updated: When the table was last changed, ISO 8601.
        restricted: Whether the caller may not read all columns and rows.
    """

    uri: str
    schema: Mapping[str, Any]
    partition_spec: tuple[Mapping[str, Any], ...] = ()
    sort_order: tuple[Mapping[str, Any], ...] = ()
    properties: Mapping[str, str] = attrs.field(factory=dict)
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    snapshot_id: str | None = None
    snapshot_timestamp: str | None = None
    last_updated: str | None = None
    restricted: bool = False

    def _repr_html_(self) -> str:
        rows = [
            (column.name, column.type, "required" if column.required else None, column.doc)
            for column in self.columns
        ]
        facts = [f"{value:,} {what}" for what, value in self._sizes() if value is not None]
        return table_html(("column", "type", "", "comment"), rows, ", ".join([self.uri, *facts]))

    def _sizes(self) -> tuple[tuple[str, int | None], ...]:
        return ("rows", self.rows), ("files", self.files), ("bytes", self.bytes)

    @property
    def columns(self) -> Listing[Column]:
        """The columns that the caller may read."""
        return Listing(
            Column(
                id=field["id"],
                name=field["name"],
                type=type_text(field["type"]),
                required=bool(field.get("required")),
                doc=field.get("doc"),
                default=field.get("initial-default"),
            )
            for field in self.schema.get("fields", ())
        )


@attrs.frozen
class Snapshot:
    """A snapshot of a table; ``summary`` is None for a caller who may not read all of the table."""

    snapshot_id: str
    timestamp: str
    parent_id: str | None = None
    sequence_number: int = 0
    schema_id: int | None = None
    summary: Mapping[str, str] | None = None


@attrs.frozen
class Ref:
    """A branch or tag of a table."""

    name: str
    type: str
    snapshot_id: str


@attrs.frozen
class NamedResult:
    """A name, and the artifact that it points at."""

    name: str
    artifact_uri: str
    version: int
    updated_at: str | None = None


@attrs.frozen
class Why(Shown):
    """Whether the caller may read a table, in one sentence.

    Attributes:
        uri: The table.
        readable: Whether the caller may read it, or a part of it.
        restricted: Whether only some columns or rows.
        principal: The caller, as the server identifies it.
        tenant: Its tenant.
        sentence: The answer for people.
    """

    uri: str
    readable: bool
    restricted: bool
    principal: str
    tenant: str
    sentence: str


class VersionOptions(TypedDict, total=False):
    """Which version of a table is meant, as keyword arguments; without any, the current one."""

    snapshot_id: int | str | None
    ref: str | None
    as_of: dt.datetime | None


@attrs.frozen
class _Catalogs:
    catalogs: tuple[Catalog, ...]


@attrs.frozen
class _Tables:
    tables: tuple[Table, ...]
    next_page_token: str | None = None


@attrs.frozen
class _Snapshots:
    snapshots: tuple[Snapshot, ...]
    next_page_token: str | None = None


@attrs.frozen
class _Refs:
    refs: tuple[Ref, ...]
    next_page_token: str | None = None


@attrs.frozen
class _Names:
    names: tuple[NamedResult, ...]
    next_page_token: str | None = None


def catalogs(env: ClientEnvironment) -> Operation[Listing[Catalog]]:
    """Return the catalogs of which the caller may read a table."""
    return Listing((yield from _get(env, _Catalogs, "/v1/catalogs", {})).catalogs)


def tables(
    env: ClientEnvironment, catalog: str | None, namespace: str | None, text: str | None
) -> Operation[Listing[Table]]:
    """Return the tables that the caller may read."""
    chosen = {"catalog": catalog, "namespace": namespace, "q": text}
    pages = yield from _pages(env, _Tables, "/v1/tables", chosen)
    return Listing(one for page in pages for one in page.tables)


def describe(env: ClientEnvironment, uri: str, version: VersionOptions) -> Operation[Description]:
    """Return the description of a table."""
    as_of = version.get("as_of")
    chosen = {**version, "as_of": None if as_of is None else encode_moment(as_of)}
    return (yield from _get(env, Description, "/v1/tables/describe", {"uri": uri, **chosen}))


def snapshots(env: ClientEnvironment, uri: str) -> Operation[Listing[Snapshot]]:
    """Return the snapshots of a table, the newest first."""
    pages = yield from _pages(env, _Snapshots, "/v1/tables/snapshots", {"uri": uri})
    return Listing(one for page in pages for one in page.snapshots)


def refs(env: ClientEnvironment, uri: str) -> Operation[Listing[Ref]]:
    """Return the branches and tags of a table, by name."""
    pages = yield from _pages(env, _Refs, "/v1/tables/refs", {"uri": uri})
    return Listing(one for page in pages for one in page.refs)


def names(env: ClientEnvironment) -> Operation[Listing[NamedResult]]:
    """Return the names of the tenant's results, in order."""
    pages = yield from _pages(env, _Names, "/v1/names", {})
    return Listing(one for page in pages for one in page.names)


def why(env: ClientEnvironment, uri: str) -> Operation[Why]:
    """Return whether the caller may read a table.

    Raises:
        StrataError: If the server answers otherwise than with the table, or without it.
    """
    found: Description | None = None
    try:
        found = yield from describe(env, uri, {})
    except StrataError as error:
        if error.status not in _HIDDEN:
            raise
    reply = yield from exchange(env, Send("GET", "/v1/me"))
    me = parse_answer(Me, reply.body)
    who = f"{me.principal} of tenant {me.tenant}"
    if found is None:
        sentence = f"For {who} there is no {uri}: it does not exist, or the access rules do not allow it."
    elif found.restricted:
        sentence = f"{who} may read some columns or rows of {uri}: {len(found.columns)} columns."
    else:
        sentence = f"{who} may read all of {uri}."
    restricted = found is not None and found.restricted
    return Why(uri, found is not None, restricted, me.principal, me.tenant, sentence)


def type_text(kind: Any) -> str:
    """Return a type of Iceberg's JSON as text."""
    if not isinstance(kind, Mapping):
        return str(kind)
    match kind.get("type"):
        case "struct":
            inner = (f"{field['name']}: {type_text(field['type'])}" for field in kind["fields"])
            return f"struct<{', '.join(inner)}>"
        case "list":
            return f"list<{type_text(kind['element'])}>"
        case "map":
            return f"map<{type_text(kind['key'])}, {type_text(kind['value'])}>"
    return str(kind.get("type"))


def _pages(
    env: ClientEnvironment, kind: type[T], path: str, query: Mapping[str, object]
) -> Operation[list[T]]:
    found: list[T] = []
    token: str | None = None
    while True:
        page = yield from _get(env, kind, path, {**query, "limit": PAGE, "page_token": token})
        found.append(page)
        following: str | None = getattr(page, "next_page_token", None)
        if following is None or following == token:
            return found
        token = following


def _get(env: ClientEnvironment, kind: type[T], path: str, query: Mapping[str, object]) -> Operation[T]:
    given = {key: value for key, value in query.items() if value is not None}
    reply = yield from exchange(env, Send("GET", f"{path}?{urlencode(given)}" if given else path))
    return parse_answer(kind, reply.body)

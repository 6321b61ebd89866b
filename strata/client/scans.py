"""Scans and queries as bodies of requests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import attrs

from strata.client.filters import FilterLike, encode_filters, encode_moment


class ScanOptions(TypedDict, total=False):
    """Optional fields of :class:`Scan`, as keyword arguments."""

    columns: Iterable[str] | None
    filters: Iterable[FilterLike]
    snapshot_id: int | str | None
    ref: str | None
    as_of: dt.datetime | None
    limit: int | None
    name: str | None


@attrs.frozen
class Scan:
    """A scan to materialize, fetch or explain.

    Attributes:
        inputs: A table URI, or several.
        columns: Columns in the order of the result; ``None``: all; empty: none.
        filters: AND-ed conditions.
        snapshot_id: Read this snapshot.
        ref: Read the current snapshot of this branch or tag.
        as_of: Read the snapshot that was current at this time (timezone-aware).
        limit: Return at most this number of rows, the first; ``None``: all.
        name: Name for the result.
    """

    inputs: str | Iterable[str]
    columns: Iterable[str] | None = attrs.field(default=None, kw_only=True)
    filters: Iterable[FilterLike] = attrs.field(default=(), kw_only=True)
    snapshot_id: int | str | None = attrs.field(default=None, kw_only=True)
    ref: str | None = attrs.field(default=None, kw_only=True)
    as_of: dt.datetime | None = attrs.field(default=None, kw_only=True)
    limit: int | None = attrs.field(default=None, kw_only=True)
    name: str | None = attrs.field(default=None, kw_only=True)

    def body(self) -> dict[str, Any]:
        """Return the request's body; fields that are not set are left out.

        Raises:
            ValueError: For a filter value no column can be compared with, or ``as_of`` without time zone.
            TypeError: For ``columns`` as one string, or a filter value of an unsupported type.
        """
        if isinstance(self.columns, str):
            raise TypeError("columns must be a list of names, not one string")
        filters = encode_filters(self.filters)
        params: dict[str, Any] = {
            "columns": None if self.columns is None else list(self.columns),
            "filters": filters or None,
            "snapshot_id": self.snapshot_id,
            "ref": self.ref,
            "as_of": None if self.as_of is None else encode_moment(self.as_of),
            "limit": self.limit,
        }
        body: dict[str, Any] = {
            "inputs": [self.inputs] if isinstance(self.inputs, str) else list(self.inputs),
            "transform": {
                "executor": "scan@v1",
                "params": {key: value for key, value in params.items() if value is not None},
            },
        }
        return body if self.name is None else {**body, "name": self.name}


@attrs.frozen
class Query:
    """A query to run.

    Attributes:
        sql: One SELECT statement.
        inputs: URIs of tables and results, which the query calls ``input0``, ``input1`` and so on.
        named: URIs of further inputs by the name that the query calls them.
        name: Name for the result.
    """

    sql: str
    inputs: Sequence[str] = ()
    named: Mapping[str, str] = attrs.field(factory=dict)
    name: str | None = attrs.field(default=None, kw_only=True)

    def body(self) -> dict[str, Any]:
        """Return the request's body.

        Raises:
            TypeError: For a query, or a URI, that is no text.
        """
        uris = [*self.inputs, *self.named.values()]
        if not all(isinstance(text, str) for text in (self.sql, *uris)):
            raise TypeError("a query and its inputs are texts: sql('SELECT …', flights='demo:nyc.flights')")
        params: dict[str, Any] = {"sql": self.sql}
        if self.named:
            params["input_names"] = [*(f"input{index}" for index in range(len(self.inputs))), *self.named]
        body: dict[str, Any] = {"inputs": uris, "transform": {"executor": "duckdb_sql@v1", "params": params}}
        return body if self.name is None else {**body, "name": self.name}

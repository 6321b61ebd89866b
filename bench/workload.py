"""The measured requests, for any server with the same wire contract."""

from __future__ import annotations

import time
from typing import Any

import attrs
import pyarrow as pa
import wire

FULL: dict[str, Any] = {}
SMALL: dict[str, Any] = {
    "columns": ["id", "value"],
    "filters": [{"column": "id", "op": "<", "value": 100}],
}
COLUMNS = ("id", "value")
ABOVE = ("value", 1.0)
"""Some 16 % of the rows: the values are normally distributed, and no file or row group is without one."""

OTHERS: dict[str, dict[str, Any]] = {
    "two columns, of cached segments": {"columns": [*COLUMNS]},
    "a filter of 16 %, of cached segments": {"filters": [{"column": ABOVE[0], "op": ">", "value": ABOVE[1]}]},
}
"""Scans that were not asked for before, of a table whose segments are cached."""

READY_SECONDS = 60.0


@attrs.frozen
class Scan:
    """One materialize and fetch.

    Attributes:
        hit: The result was ready.
        artifact_uri: The result.
        size: Bytes of the Arrow stream.
        first_byte: Seconds from the request to the first byte of the stream.
        first_rows: Seconds from the request to the first byte after the schema.
        total: Seconds from the request to the last byte.
        body: The stream's bytes, if they were to be kept.
    """

    hit: bool
    artifact_uri: str
    size: int
    first_byte: float
    first_rows: float
    total: float
    body: bytes


def scan(
    connection: wire.Connection,
    uri: str,
    params: dict[str, Any],
    *,
    refresh: bool = False,
    keep: bool = False,
) -> Scan:
    """Materialize a scan of ``uri`` and read the whole result.

    Raises:
        WireError: If the server refuses, or the stream is not an Arrow stream.
    """
    began = time.perf_counter()
    answer = materialize(connection, uri, params, refresh=refresh)
    reply = connection.get(answer["stream_url"], keep=keep)
    _expect(reply, "the stream")
    if reply.first_rows is None:
        raise wire.WireError("the answer has no bytes of rows: it is no Arrow stream")
    return Scan(
        answer["hit"],
        answer["artifact_uri"],
        reply.size,
        reply.first_byte - began,
        reply.first_rows - began,
        reply.last_byte - began,
        reply.body,
    )


def materialize(
    connection: wire.Connection, uri: str, params: dict[str, Any], *, refresh: bool = False
) -> dict[str, Any]:
    """POST a materialize request in stream mode and return the answer."""
    body = {"inputs": [uri], "transform": {"executor": "scan@v1", "params": params}, "mode": "stream"}
    reply = connection.post("/v1/materialize", body | ({"refresh": True} if refresh else {}))
    _expect(reply, "materialize")
    answer: dict[str, Any] = reply.json()
    return answer


def settle(connection: wire.Connection, uri: str, params: dict[str, Any]) -> None:
    """Build the result if necessary, and return once a pair for it is a hit: no background work is left.

    The hit is also fetched, as by a dashboard that has already shown it.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not (answer := materialize(connection, uri, params))["hit"]:
        _expect(connection.get(answer["stream_url"]), "the stream")
        if time.monotonic() > deadline:
            raise wire.WireError("a finished result never became a hit")
    _expect(connection.get(answer["stream_url"]), "the result")


def clear_cache(connection: wire.Connection) -> None:
    """Drop the cached segments of the caller's tenant; needs ``admin:cache``."""
    _expect(connection.post("/v1/cache/clear"), "clearing the cache")


def pairs_per_second(connection: wire.Connection, uri: str, params: dict[str, Any], count: int) -> float:
    """Return how many materialize + fetch pairs of a ready result are answered per second."""
    began = time.perf_counter()
    for _ in range(count):
        if not scan(connection, uri, params).hit:
            raise wire.WireError("a ready result was built again")
    return count / (time.perf_counter() - began)


def gets_per_second(connection: wire.Connection, count: int) -> float:
    """Return how many GETs of a constant answer a bare server answers per second."""
    began = time.perf_counter()
    for _ in range(count):
        _expect(connection.get("/"), "the baseline")
    return count / (time.perf_counter() - began)


def seconds_of_get(connection: wire.Connection, path: str = "/") -> float:
    """Return how long a bare server takes to send its answer."""
    began = time.perf_counter()
    reply = connection.get(path)
    _expect(reply, "the baseline")
    return reply.last_byte - began


def rows_of(stream: bytes) -> int:
    """Return the rows of an Arrow stream, decoded to its end-of-stream marker."""
    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        return sum(batch.num_rows for batch in reader)


def _expect(reply: wire.Reply, what: str) -> None:
    if reply.status != 200:
        shown = reply.body[:500].decode(errors="replace")
        raise wire.WireError(f"{what} was answered with {reply.status}: {shown}")

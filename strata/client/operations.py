"""What a client does, without doing it: operations that yield requests and pauses, and are sent the answers.

An operation is a generator. :mod:`strata.client.sync` and :mod:`strata.client.asynchronous` drive it: they
perform each command it yields, send the reply in, and get its result in the end. So both clients behave the
same to the last retry.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote, urlencode

import attrs

from strata.client.answers import (
    Artifact,
    ArtifactPage,
    Build,
    CacheStats,
    Explanation,
    Materialized,
    Me,
    Name,
    Status,
    artifact_path,
    name_path,
    parse_answer,
)
from strata.client.errors import BadAnswerError, BuildFailedError, WaitTimeoutError, error_from_answer
from strata.client.filters import FilterLike, encode_filters, encode_moment
from strata.client.results import ARROW_STREAM
from strata.client.retry import RetryPolicy, next_wait

T = TypeVar("T")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


@attrs.frozen
class Send:
    """Make this request.

    Attributes:
        method: HTTP method.
        path: Path and query, below the server's address.
        body: JSON, or nothing.
        accept: What the answer may be. An Arrow stream is handed on unread.
    """

    method: str
    path: str
    body: bytes | None = None
    accept: str = "application/json"


@attrs.frozen
class Pause:
    """Wait for so many seconds."""

    seconds: float


@attrs.frozen
class Reply:
    """An answer.

    Attributes:
        status: HTTP status.
        headers: With names in lower case.
        body: Read whole; empty where ``stream`` is.
        stream: The driver's handle of an Arrow stream that is still to be read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    stream: Any = None


Operation = Generator[Send | Pause, Reply | None, T]


@attrs.frozen
class ClientEnvironment:
    """Where an operation gets time and chance from.

    Attributes:
        retry: How long to insist on a busy server.
        clock: Seconds on a monotonic clock.
        wall: The time of day, aware.
        chance: For the jitter of retries.
    """

    retry: RetryPolicy
    clock: Callable[[], float]
    wall: Callable[[], dt.datetime]
    chance: random.Random


class ScanOptions(TypedDict, total=False):
    """What of its inputs a scan reads: the optional fields of :class:`Scan`, as keyword arguments."""

    columns: Iterable[str] | None
    filters: Iterable[FilterLike]
    snapshot_id: int | None
    ref: str | None
    as_of: dt.datetime | None
    name: str | None


@attrs.frozen
class Scan:
    """A scan to materialize, fetch or explain.

    Attributes:
        inputs: Table URIs; one is enough, as itself.
        columns: Columns in the order of the result; ``None`` means all, an empty list none.
        filters: AND-ed conditions.
        snapshot_id: Read this snapshot.
        ref: Read the snapshot of this branch or tag.
        as_of: Read the snapshot that was current then (aware).
        name: Name the result.
    """

    inputs: str | Iterable[str]
    columns: Iterable[str] | None = attrs.field(default=None, kw_only=True)
    filters: Iterable[FilterLike] = attrs.field(default=(), kw_only=True)
    snapshot_id: int | None = attrs.field(default=None, kw_only=True)
    ref: str | None = attrs.field(default=None, kw_only=True)
    as_of: dt.datetime | None = attrs.field(default=None, kw_only=True)
    name: str | None = attrs.field(default=None, kw_only=True)

    def body(self) -> dict[str, Any]:
        """Return the request's body; what is left out stays out.

        Raises:
            ValueError: For filter values that cannot be compared with.
            TypeError: For columns given as one string, and for filter values of a type that cannot travel.
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
        }
        body: dict[str, Any] = {
            "inputs": [self.inputs] if isinstance(self.inputs, str) else list(self.inputs),
            "transform": {
                "executor": "scan@v1",
                "params": {key: value for key, value in params.items() if value is not None},
            },
        }
        return body if self.name is None else {**body, "name": self.name}


def exchange(here: ClientEnvironment, request: Send) -> Operation[Reply]:
    """Make a request, again while the server says so. Every request here is safe to repeat.

    Raises:
        StrataError: For an answer that is no success.
    """
    begun = here.clock()
    for attempt in itertools.count(1):
        reply = yield request
        assert isinstance(reply, Reply)
        if 200 <= reply.status < 300:  # noqa: PLR2004 - the successes
            return reply
        wait = next_wait(
            here.retry,
            status=reply.status,
            retry_after=reply.headers.get("retry-after"),
            attempt=attempt,
            elapsed=here.clock() - begun,
            now=here.wall(),
            chance=here.chance.random(),
        )
        if wait is None:
            raise error_from_answer(reply.status, reply.headers, reply.body)
        yield Pause(wait)
    raise AssertionError  # the loop has no end


def materialize(here: ClientEnvironment, scan: Scan, mode: str, *, refresh: bool) -> Operation[Materialized]:
    """Build the result, or find it."""
    return (yield from _ask(here, Materialized, _materialize_request(scan, mode, refresh=refresh)))


def explain(here: ClientEnvironment, scan: Scan) -> Operation[Explanation]:
    """Say what :func:`materialize` would do."""
    request = Send("POST", "/v1/artifacts/explain-materialize", _json(scan.body()))
    return (yield from _ask(here, Explanation, request))


def open_scan(here: ClientEnvironment, scan: Scan, *, refresh: bool) -> Operation[Reply]:
    """Ask for a scan's bytes in one round trip, or in two from a server that does not know how."""
    request = _materialize_request(scan, "stream", refresh=refresh)
    reply = yield from exchange(here, attrs.evolve(request, accept=ARROW_STREAM))
    if reply.stream is not None:
        return reply
    return (yield from open_result(here, parse_answer(Materialized, reply.body)))


def open_result(here: ClientEnvironment, source: Materialized | str) -> Operation[Reply]:
    """Ask for the bytes of a result, or of an artifact by its URI; waits for a build in artifact mode."""
    if isinstance(source, str):
        path = f"{(yield from _resolve(here, source))}/data"
    elif source.stream_url is not None:
        path = source.stream_url
    else:
        if source.build_id is not None:
            yield from wait(here, source.build_id, None)
        path = f"{(yield from _resolve(here, source.artifact_uri))}/data"
    reply = yield from exchange(here, Send("GET", path, accept=ARROW_STREAM))
    if reply.stream is None:
        raise BadAnswerError("The server did not answer with an Arrow stream.")
    return reply


def build(here: ClientEnvironment, build_id: str) -> Operation[Build]:
    """Look how a build goes."""
    request = Send("GET", f"/v1/artifacts/builds/{quote(build_id, safe='')}")
    return (yield from _ask(here, Build, request))


def wait(here: ClientEnvironment, build_id: str, timeout: float | None) -> Operation[Build]:
    """Wait until a build is ready.

    Raises:
        BuildFailedError: If it failed.
        WaitTimeoutError: If it is not over after ``timeout`` seconds.
    """
    begun = here.clock()
    pause = _FIRST_PAUSE
    while True:
        found = yield from build(here, build_id)
        if found.state == "ready":
            return found
        if found.state == "failed":
            detail = found.error_message or "The build failed."
            raise BuildFailedError(detail, title="Build failed", error=found.error_code)
        if timeout is not None:
            left = timeout - (here.clock() - begun)
            if left <= 0:
                raise WaitTimeoutError(f"Build {build_id} is still {found.state} after {timeout:g} s.")
            pause = min(pause, left)
        yield Pause(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def artifact(here: ClientEnvironment, uri: str) -> Operation[Artifact]:
    """Describe an artifact by its URI or by its name's."""
    path = yield from _resolve(here, uri)
    return (yield from _ask(here, Artifact, Send("GET", path)))


def artifacts(here: ClientEnvironment, options: Mapping[str, str | int]) -> Operation[ArtifactPage]:
    """List the tenant's artifacts."""
    query = f"?{urlencode(options)}" if options else ""
    return (yield from _ask(here, ArtifactPage, Send("GET", f"/v1/artifacts{query}")))


def cache_stats(here: ClientEnvironment) -> Operation[CacheStats]:
    """Count the tenant's cache."""
    return (yield from _ask(here, CacheStats, Send("GET", "/v1/cache/stats")))


def me(here: ClientEnvironment) -> Operation[Me]:
    """Ask who one is."""
    return (yield from _ask(here, Me, Send("GET", "/v1/me")))


def clear_cache(here: ClientEnvironment) -> Operation[None]:
    """Empty the tenant's cache."""
    yield from _ask(here, Status, Send("POST", "/v1/cache/clear"))


def _resolve(here: ClientEnvironment, uri: str) -> Operation[str]:
    path = artifact_path(uri)
    named = name_path(uri)
    if path is None and named is not None:
        found = yield from _ask(here, Name, Send("GET", named))
        path = artifact_path(found.artifact_uri)
    if path is None:
        raise ValueError("an artifact is named strata://artifact/<id>@v=<n> or strata://name/<name>")
    return path


def _ask(here: ClientEnvironment, kind: type[T], request: Send) -> Operation[T]:
    reply = yield from exchange(here, request)
    return parse_answer(kind, reply.body)


def _materialize_request(scan: Scan, mode: str, *, refresh: bool) -> Send:
    body = {**scan.body(), "mode": mode, "refresh": refresh}
    return Send("POST", "/v1/materialize", _json(body))


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()

"""Client operations without I/O: generators that yield requests and pauses, and receive the answers.

:mod:`strata.client.sync` and :mod:`strata.client.asynchronous` drive the generators: they perform each
command, send the reply in, and get the result at the end. So both clients behave identically.
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
"""Seconds between the first two polls of a build; doubles with each poll."""
_LONGEST_PAUSE = 2.0
"""Maximum seconds between two polls of a build."""


@attrs.frozen
class Send:
    """Command: send this request.

    Attributes:
        method: HTTP method.
        path: Path and query, below the server's address.
        body: JSON, or ``None``.
        accept: Accepted content type; an Arrow stream is handed on unread.
    """

    method: str
    path: str
    body: bytes | None = None
    accept: str = "application/json"


@attrs.frozen
class Pause:
    """Command: wait ``seconds``."""

    seconds: float


@attrs.frozen
class Reply:
    """Answer to a request.

    Attributes:
        status: HTTP status.
        headers: Headers with names in lower case.
        body: The complete body; empty if ``stream`` is set.
        stream: The driver's handle of an unread Arrow stream.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    stream: Any = None


Operation = Generator[Send | Pause, Reply | None, T]


@attrs.frozen
class ClientEnvironment:
    """Retry policy, clocks and random numbers of a client.

    Attributes:
        retry: Limits on repeating requests to a busy server.
        clock: Returns seconds on a monotonic clock.
        wall: Returns the time of day as an aware datetime.
        chance: Random numbers for the jitter of retries.
    """

    retry: RetryPolicy
    clock: Callable[[], float]
    wall: Callable[[], dt.datetime]
    chance: random.Random


class ScanOptions(TypedDict, total=False):
    """Optional fields of :class:`Scan`, as keyword arguments."""

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
        inputs: A table URI, or several.
        columns: Columns in the order of the result; ``None``: all; empty: none.
        filters: AND-ed conditions.
        snapshot_id: Read this snapshot.
        ref: Read the current snapshot of this branch or tag.
        as_of: Read the snapshot that was current at this time (timezone-aware).
        name: Name for the result.
    """

    inputs: str | Iterable[str]
    columns: Iterable[str] | None = attrs.field(default=None, kw_only=True)
    filters: Iterable[FilterLike] = attrs.field(default=(), kw_only=True)
    snapshot_id: int | None = attrs.field(default=None, kw_only=True)
    ref: str | None = attrs.field(default=None, kw_only=True)
    as_of: dt.datetime | None = attrs.field(default=None, kw_only=True)
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
        }
        body: dict[str, Any] = {
            "inputs": [self.inputs] if isinstance(self.inputs, str) else list(self.inputs),
            "transform": {
                "executor": "scan@v1",
                "params": {key: value for key, value in params.items() if value is not None},
            },
        }
        return body if self.name is None else {**body, "name": self.name}


def exchange(env: ClientEnvironment, request: Send) -> Operation[Reply]:
    """Send a request, and repeat it while the server is busy, as the retry policy allows; always idempotent.

    Raises:
        StrataError: For an answer that is not a success.
    """
    begun = env.clock()
    for attempt in itertools.count(1):
        reply = yield request
        assert isinstance(reply, Reply)
        if 200 <= reply.status < 300:  # noqa: PLR2004 - the successes
            return reply
        wait = next_wait(
            env.retry,
            status=reply.status,
            retry_after=reply.headers.get("retry-after"),
            attempt=attempt,
            elapsed=env.clock() - begun,
            now=env.wall(),
            chance=env.chance.random(),
        )
        if wait is None:
            raise error_from_answer(reply.status, reply.headers, reply.body)
        yield Pause(wait)
    raise AssertionError  # the loop has no end


def materialize(env: ClientEnvironment, scan: Scan, mode: str, *, refresh: bool) -> Operation[Materialized]:
    """Build a result, or find an existing one."""
    return (yield from _ask(env, Materialized, _materialize_request(scan, mode, refresh=refresh)))


def explain(env: ClientEnvironment, scan: Scan) -> Operation[Explanation]:
    """Return what :func:`materialize` would do."""
    request = Send("POST", "/v1/artifacts/explain-materialize", _json(scan.body()))
    return (yield from _ask(env, Explanation, request))


def open_scan(env: ClientEnvironment, scan: Scan, *, refresh: bool) -> Operation[Reply]:
    """Request the bytes of a scan; one round trip, or two if the server does not stream at once."""
    request = _materialize_request(scan, "stream", refresh=refresh)
    reply = yield from exchange(env, attrs.evolve(request, accept=ARROW_STREAM))
    if reply.stream is not None:
        return reply
    return (yield from open_result(env, parse_answer(Materialized, reply.body)))


def open_result(env: ClientEnvironment, source: Materialized | str) -> Operation[Reply]:
    """Request the bytes of a result or of an artifact URI; waits for a build in artifact mode.

    Raises:
        BadAnswerError: If the answer is not an Arrow stream.
    """
    if isinstance(source, str):
        path = f"{(yield from _resolve(env, source))}/data"
    elif source.stream_url is not None:
        path = source.stream_url
    else:
        if source.build_id is not None:
            yield from wait(env, source.build_id, None)
        path = f"{(yield from _resolve(env, source.artifact_uri))}/data"
    reply = yield from exchange(env, Send("GET", path, accept=ARROW_STREAM))
    if reply.stream is None:
        raise BadAnswerError("The server did not answer with an Arrow stream.")
    return reply


def build(env: ClientEnvironment, build_id: str) -> Operation[Build]:
    """Return the current state of a build."""
    request = Send("GET", f"/v1/artifacts/builds/{quote(build_id, safe='')}")
    return (yield from _ask(env, Build, request))


def wait(env: ClientEnvironment, build_id: str, timeout: float | None) -> Operation[Build]:
    """Wait until a build is ready, and return it.

    Raises:
        BuildFailedError: If the build failed.
        WaitTimeoutError: If the build is not ready after ``timeout`` seconds.
    """
    begun = env.clock()
    pause = _FIRST_PAUSE
    while True:
        found = yield from build(env, build_id)
        if found.state == "ready":
            return found
        if found.state == "failed":
            detail = found.error_message or "The build failed."
            raise BuildFailedError(detail, title="Build failed", error=found.error_code)
        if timeout is not None:
            left = timeout - (env.clock() - begun)
            if left <= 0:
                raise WaitTimeoutError(f"Build {build_id} is still {found.state} after {timeout:g} s.")
            pause = min(pause, left)
        yield Pause(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def artifact(env: ClientEnvironment, uri: str) -> Operation[Artifact]:
    """Return an artifact's metadata by its URI or the URI of its name."""
    path = yield from _resolve(env, uri)
    return (yield from _ask(env, Artifact, Send("GET", path)))


def artifacts(env: ClientEnvironment, options: Mapping[str, str | int]) -> Operation[ArtifactPage]:
    """Return a page of the tenant's artifacts."""
    query = f"?{urlencode(options)}" if options else ""
    return (yield from _ask(env, ArtifactPage, Send("GET", f"/v1/artifacts{query}")))


def cache_stats(env: ClientEnvironment) -> Operation[CacheStats]:
    """Return the counters of the tenant's cache."""
    return (yield from _ask(env, CacheStats, Send("GET", "/v1/cache/stats")))


def me(env: ClientEnvironment) -> Operation[Me]:
    """Return the caller as the server identifies it."""
    return (yield from _ask(env, Me, Send("GET", "/v1/me")))


def clear_cache(env: ClientEnvironment) -> Operation[None]:
    """Empty the tenant's cache."""
    yield from _ask(env, Status, Send("POST", "/v1/cache/clear"))


def _resolve(env: ClientEnvironment, uri: str) -> Operation[str]:
    path = artifact_path(uri)
    named = name_path(uri)
    if path is None and named is not None:
        found = yield from _ask(env, Name, Send("GET", named))
        path = artifact_path(found.artifact_uri)
    if path is None:
        raise ValueError(f"{uri!r} is no artifact: use strata://artifact/<id>@v=<n> or strata://name/<name>")
    return path


def _ask(env: ClientEnvironment, kind: type[T], request: Send) -> Operation[T]:
    reply = yield from exchange(env, request)
    return parse_answer(kind, reply.body)


def _materialize_request(scan: Scan, mode: str, *, refresh: bool) -> Send:
    body = {**scan.body(), "mode": mode, "refresh": refresh}
    return Send("POST", "/v1/materialize", _json(body))


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()

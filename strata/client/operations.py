"""Client operations without I/O: generators that yield requests and pauses, and receive the answers.

:mod:`strata.client.sync` and :mod:`strata.client.asynchronous` drive the generators: they perform each
command, send the reply in, and get the result at the end. So both clients behave identically.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import attrs

from strata.client.answers import (
    Accesses,
    Artifact,
    ArtifactPage,
    Build,
    CacheStats,
    Cancelled,
    Deleted,
    Dependents,
    Explanation,
    Lineage,
    Materialized,
    Me,
    Name,
    NameStatus,
    Receipt,
    Status,
    artifact_path,
    name_path,
    parse_answer,
)
from strata.client.errors import (
    BadAnswerError,
    BuildFailedError,
    ConnectionFailedError,
    StrataError,
    TruncatedStreamError,
    WaitTimeoutError,
    error_from_answer,
)
from strata.client.results import ARROW_STREAM, ResultDecoder
from strata.client.retry import RetryPolicy, exact_seconds, next_wait, reconnect_wait
from strata.client.scans import Query, Scan

T = TypeVar("T")

_FIRST_PAUSE = 0.05
"""Seconds between the first two polls of a build; doubles with each poll."""
_NOT_FOUND = 404
_NO_REST = (404, 416)
"""Statuses of a result that is not finished, and of one all of whose bytes were received."""
_PAGE = 1000
"""Records of a page of the access audit."""
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
        attempt: Number of this attempt at the request, from 1 on.
        headers: Further headers.
        repeatable: Whether it may be sent again after an answer that was lost: twice is as good as once.
    """

    method: str
    path: str
    body: bytes | None = None
    accept: str = "application/json"
    attempt: int = 1
    headers: Mapping[str, str] = attrs.field(factory=dict)
    repeatable: bool = True


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
        request: The request that it answers.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    stream: Any = None
    request: Send | None = None


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


def exchange(env: ClientEnvironment, request: Send) -> Operation[Reply]:
    """Send a request, and repeat it while the server is busy, as the retry policy allows.

    A request that is repeatable is sent again, too, if its connection is refused or breaks before the answer.

    Raises:
        StrataError: For an answer that is not a success.
        ConnectionFailedError: If no answer arrived.
    """
    begun = env.clock()
    breaks = 0
    for attempt in itertools.count(1):
        try:
            reply = yield attrs.evolve(request, attempt=attempt)
        except ConnectionFailedError as error:
            breaks += 1
            elapsed = env.clock() - begun
            again = reconnect_wait(env.retry, breaks=breaks, elapsed=elapsed, chance=env.chance.random())
            if again is None or not (request.repeatable and error.broken):
                raise
            yield Pause(again)
            continue
        assert isinstance(reply, Reply)
        breaks = 0
        if 200 <= reply.status < 300:  # noqa: PLR2004 - the successes
            return attrs.evolve(reply, request=request)
        wait = next_wait(
            env.retry,
            status=reply.status,
            retry_after=reply.headers.get("retry-after"),
            exact=exact_seconds(reply.body),
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


def open_scan(env: ClientEnvironment, scan: Scan | Query, *, refresh: bool) -> Operation[Reply]:
    """Request the bytes of a result; one round trip, or two if the server does not stream at once."""
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
    try:
        reply = yield from exchange(env, Send("GET", path, accept=ARROW_STREAM))
    except StrataError as error:
        if error.status != _NOT_FOUND or isinstance(source, str) or path != source.stream_url:
            raise
        # Only the server that gave the address knows it, and has been restarted: another one has the result.
        if source.build_id is not None:
            yield from wait(env, source.build_id, None)
        path = f"{(yield from _resolve(env, source.artifact_uri))}/data"
        reply = yield from exchange(env, Send("GET", path, accept=ARROW_STREAM))
    if reply.stream is None:
        raise BadAnswerError("The server did not answer with an Arrow stream.")
    return reply


def data_path(env: ClientEnvironment, source: Materialized | str) -> Operation[str]:
    """Return the path of a finished result's bytes.

    Raises:
        ValueError: If it is not finished, or the text is no URI of a result.
    """
    if not isinstance(source, str) and source.state != "ready":
        raise ValueError(f"the result is not finished but {source.state}: wait for its build")
    uri = source if isinstance(source, str) else source.artifact_uri
    return f"{(yield from _resolve(env, uri))}/data"


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


def receipt(env: ClientEnvironment, path: str) -> Operation[Receipt]:
    """Return the receipt of a result by the path that its answer names.

    Raises:
        TruncatedStreamError: If the server has none: the result was not finished, or is gone.
    """
    try:
        return (yield from _ask(env, Receipt, Send("GET", path)))
    except StrataError as error:
        if error.status != _NOT_FOUND:
            raise
        detail = "The server has no receipt of the result: it was not finished, or is gone."
        raise TruncatedStreamError(detail, request_id=error.request_id) from error


def receipt_of(env: ClientEnvironment, uri: str) -> Operation[Receipt]:
    """Return the receipt of an artifact by its URI or the URI of its name."""
    path = yield from _resolve(env, uri)
    return (yield from receipt(env, f"{path}/receipt"))


def resume(
    env: ClientEnvironment,
    decoder: ResultDecoder,
    opening: Send | None,
    failure: TruncatedStreamError,
    *,
    broken: bool,
) -> Operation[Reply]:
    """Ask for the rest of a result whose connection broke; :meth:`ResultDecoder.carry_on` judges the answer.

    A finished result is read from the first missing byte on; one that is being built, from its
    beginning, by the request that opened it. A result without a receipt, which proves that the parts are of
    one result, is not read again.

    Args:
        env: The client's environment.
        decoder: What has arrived.
        opening: The request that opened the result.
        failure: The error to raise if the result is not read again.
        broken: Whether the connection broke, rather than that a wait took too long or bytes were wrong.

    Raises:
        TruncatedStreamError: If there is nothing to ask for, or nothing came several times in a row.
    """
    breaks = decoder.count_break()
    wait = reconnect_wait(env.retry, breaks=breaks, elapsed=0.0, chance=env.chance.random())
    path = decoder.receipt_path
    if wait is None or path is None or not path.endswith("/receipt") or not broken:
        raise failure
    if opening is None or not opening.repeatable:
        raise failure
    yield Pause(wait)
    headers = {"Range": f"bytes={decoder.received}-", "Accept-Encoding": "identity"}
    rest = Send("GET", f"{path.removesuffix('receipt')}data", accept=ARROW_STREAM, headers=headers)
    try:
        try:
            reply = yield from exchange(env, rest)
        except StrataError as error:
            if error.status not in _NO_REST:
                raise
            reply = yield from exchange(env, opening)
    except StrataError as error:
        detail = f"{failure.detail}; the request for the rest: {error.detail}"
        raise TruncatedStreamError(detail, request_id=error.request_id) from error
    if reply.stream is None:
        raise failure
    return reply


def lineage(env: ClientEnvironment, uri: str, depth: int) -> Operation[Lineage]:
    """Return what a result was made of."""
    path = yield from _resolve(env, uri)
    return (yield from _ask(env, Lineage, Send("GET", f"{path}/lineage?max_depth={depth}")))


def dependents(env: ClientEnvironment, uri: str) -> Operation[Dependents]:
    """Return what was made of a result."""
    path = yield from _resolve(env, uri)
    return (yield from _ask(env, Dependents, Send("GET", f"{path}/dependents")))


def status(env: ClientEnvironment, name: str) -> Operation[NameStatus]:
    """Return whether the result of a name is what its inputs would give now."""
    path = name_path(name if name.startswith("strata://") else f"strata://name/{name}")
    if path is None:
        raise ValueError(f"{name!r} is no name: use <name> or strata://name/<name>")
    kept = path.removeprefix("/v1/names/")
    return (yield from _ask(env, NameStatus, Send("GET", f"/v1/artifacts/names/{kept}/status")))


def cancel(env: ClientEnvironment, build: str | Materialized) -> Operation[Cancelled]:
    """End a build that the caller asked for."""
    build_id = build if isinstance(build, str) else build.build_id
    if build_id is None:
        raise ValueError("there is no build to cancel: use the build_id of a result that is being built")
    return (yield from _ask(env, Cancelled, Send("POST", f"/v1/builds/{quote(build_id, safe='')}/cancel")))


def delete(env: ClientEnvironment, uri: str) -> Operation[Deleted]:
    """Remove a version of a result."""
    path = yield from _resolve(env, uri)
    # Not again after a lost answer, which would say that there is nothing to remove.
    return (yield from _ask(env, Deleted, Send("DELETE", path, repeatable=False)))


def artifacts(env: ClientEnvironment, options: Mapping[str, str | int]) -> Operation[ArtifactPage]:
    """Return a page of the tenant's artifacts."""
    query = f"?{urlencode(options)}" if options else ""
    return (yield from _ask(env, ArtifactPage, Send("GET", f"/v1/artifacts{query}")))


def accesses(env: ClientEnvironment, limit: int, options: Mapping[str, str]) -> Operation[list[Any]]:
    """Return records of the access audit, the latest first, by as many requests as that takes."""
    found: list[Any] = []
    following: int | None = 0
    while following is not None and len(found) < limit:
        query = dict(options) | {"limit": str(min(_PAGE, limit - len(found)))}
        if following:
            query["before"] = str(following)
        request = Send("GET", f"/v1/admin/access-audit?{urlencode(query)}")
        page = parse_answer(Accesses, (yield from exchange(env, request)).body)
        found += page.entries
        following = page.next
    return found


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


def _materialize_request(scan: Scan | Query, mode: str, *, refresh: bool) -> Send:
    body = {**scan.body(), "mode": mode, "refresh": refresh}
    # Equal requests share one result; with refresh each makes a further version.
    return Send("POST", "/v1/materialize", _json(body), repeatable=not refresh)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()

"""Client for trio and asyncio: :mod:`strata.client.sync` with ``await``."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack

import anyio
import httpx
import pyarrow as pa

from strata.client import operations, wire
from strata.client.answers import Artifact, ArtifactPage, Build, CacheStats, Explanation, Materialized, Me
from strata.client.operations import ClientEnvironment, Operation, Pause, Reply, Scan, ScanOptions, Send
from strata.client.results import IncomingResult, ProgressCallback, ResultDecoder
from strata.client.retry import RetryPolicy

T = TypeVar("T")


class AsyncBatchStream(IncomingResult):
    """Record batches of a result as they arrive; memory holds one chunk and one batch.

    Iterate inside ``async with``, which closes the connection even if iteration stops early. Iteration ends
    normally only after the complete result; otherwise it raises ``TruncatedStreamError``.
    """

    def __init__(self, response: httpx.Response, decoder: ResultDecoder) -> None:
        super().__init__(decoder)
        self._response = response
        self._chunks = response.aiter_bytes()

    async def start(self) -> Self:
        """Read up to the schema; the client calls this before it returns the stream."""
        while self._awaits_schema():
            await self._advance()
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        """Return the next batch.

        Raises:
            TruncatedStreamError: If the result is cut off.
            BadAnswerError: If the answer is not an Arrow stream.
        """
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close the connection."""
        self._over = True
        await self._response.aclose()

    async def _advance(self) -> None:
        try:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                await self.aclose()
                self._decoder.finish()
            else:
                self._ready += self._decoder.feed(chunk)
        except wire.BODY_ERRORS as error:
            await self.aclose()
            raise self._decoder.broken(error) from error
        except BaseException:  # cancellation, too: the connection is inside a body and cannot be reused
            await self.aclose()
            raise


class AsyncStrataClient:
    """Client of a Strata server for trio and asyncio; belongs to one event loop.

    Requests to a busy server (429, 503) are repeated as ``Retry-After`` says, within the retry policy; equal
    requests share one result, so repeating is safe.

    Args:
        base_url: The server's address, with the path under which a proxy serves it, if any.
        headers: Headers of every request, such as those for an authenticating proxy.
        timeout: httpx timeouts in seconds; ``read`` bounds the time between two chunks.
        retry: Limits on repeating requests to a busy server.
        transport: httpx transport to use instead of the network.
        sleep: Waits a number of seconds.
        clock: Returns seconds on a monotonic clock.
        wall: Returns the time of day as an aware datetime.
        chance: Random numbers for the jitter of retries.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | float = wire.DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        clock: Callable[[], float] = anyio.current_time,
        wall: Callable[[], dt.datetime] = wire.wall_clock,
        chance: random.Random | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=wire.client_headers(headers), timeout=timeout, transport=transport
        )
        self._sleep = sleep
        self._env = ClientEnvironment(retry or RetryPolicy(), clock, wall, chance or random.Random())  # noqa: S311 - jitter

    def __repr__(self) -> str:
        return f"<AsyncStrataClient {self.base_url}>"

    @property
    def base_url(self) -> str:
        """Return the server's address."""
        return str(self._http.base_url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def materialize(
        self,
        inputs: str | Iterable[str],
        *,
        mode: str = "stream",
        refresh: bool = False,
        **options: Unpack[ScanOptions],
    ) -> Materialized:
        """Build a result, or find an existing one; :meth:`read` returns its rows.

        Args:
            inputs: A table URI, or several.
            mode: ``stream``: readable while it is built; ``artifact``: built first, see :meth:`wait`.
            refresh: Build a new version even if a result exists.
            **options: ``columns`` in the order of the result (left out: all; an empty list: none);
                ``filters``, AND-ed: ``Filter``, ``(column, op, value)`` or a mapping of these;
                one of ``snapshot_id``, ``ref`` (branch or tag) and ``as_of`` (aware datetime) for an older
                state; ``name`` to name the result.

        Raises:
            StrataError: If the server refuses or does not answer.
            ValueError: For a filter value no column can be compared with, or ``as_of`` without time zone.
            TypeError: For ``columns`` as one string, or a filter value of an unsupported type.
        """
        return await self._run(
            operations.materialize(self._env, Scan(inputs, **options), mode, refresh=refresh)
        )

    async def fetch(
        self,
        inputs: str | Iterable[str],
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[ScanOptions],
    ) -> pa.Table:
        """Return the complete result of a scan as a table with columns in request order.

        Args:
            inputs: A table URI, or several.
            refresh: Build a new version even if a result exists.
            progress: Called after each chunk with the bytes received and the rows of the result, when known.
            **options: As for :meth:`materialize`.

        Raises:
            TruncatedStreamError: If the result is cut off; an incomplete table is never returned.
            BadAnswerError: If the answer is not an Arrow stream.
            StrataError: If the server refuses or does not answer.
            ValueError: As :meth:`materialize`.
            TypeError: As :meth:`materialize`.
        """
        return await self._table(
            operations.open_scan(self._env, Scan(inputs, **options), refresh=refresh), progress
        )

    async def fetch_batches(
        self,
        inputs: str | Iterable[str],
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[ScanOptions],
    ) -> AsyncBatchStream:
        """Return a scan's result as a stream of record batches; arguments and errors of :meth:`fetch`."""
        return await self._open(
            operations.open_scan(self._env, Scan(inputs, **options), refresh=refresh), progress
        )

    async def read(self, source: Materialized | str, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return the rows of a result of :meth:`materialize` or of an artifact URI; waits for its build.

        Raises:
            BuildFailedError: If the build failed.
            TruncatedStreamError: If the result is cut off.
            StrataError: If the server refuses or does not answer.
            ValueError: If the text is no artifact URI.
        """
        return await self._table(operations.open_result(self._env, source), progress)

    async def explain(self, inputs: str | Iterable[str], **options: Unpack[ScanOptions]) -> Explanation:
        """Return what :meth:`materialize` would do with the same arguments; builds nothing."""
        return await self._run(operations.explain(self._env, Scan(inputs, **options)))

    async def build(self, build_id: str) -> Build:
        """Return the current state of a build."""
        return await self._run(operations.build(self._env, build_id))

    async def wait(self, build_id: str, timeout: float | None = None) -> Build:  # noqa: ASYNC109 - as the sync client; polls, no task to cancel
        """Wait until a build is ready, and return it.

        Args:
            build_id: From :meth:`materialize` in artifact mode.
            timeout: Maximum seconds to wait; ``None``: no limit.

        Raises:
            BuildFailedError: If the build failed.
            WaitTimeoutError: If the build is not ready in time; it continues.
        """
        return await self._run(operations.wait(self._env, build_id, timeout))

    async def artifact(self, uri: str) -> Artifact:
        """Return the metadata of an artifact: ``strata://artifact/<id>@v=<n>`` or ``strata://name/<name>``.

        Raises:
            StrataError: If there is none, or the server refuses.
            ValueError: If the text is no such URI.
        """
        return await self._run(operations.artifact(self._env, uri))

    async def artifacts(self, **options: str | int) -> ArtifactPage:
        """Return a page of the tenant's artifacts; options are query parameters (``limit``, ``offset`` …)."""
        return await self._run(operations.artifacts(self._env, options))

    async def me(self) -> Me:
        """Return the caller as the server identifies it, with its tenant, limits and permissions."""
        return await self._run(operations.me(self._env))

    async def cache_stats(self) -> CacheStats:
        """Return the counters of the tenant's cache."""
        return await self._run(operations.cache_stats(self._env))

    async def clear_cache(self) -> None:
        """Empty the tenant's cache (scope ``admin:cache``)."""
        await self._run(operations.clear_cache(self._env))

    async def _table(self, opening: Operation[Reply], progress: ProgressCallback | None) -> pa.Table:
        async with await self._open(opening, progress) as stream:
            return pa.Table.from_batches([batch async for batch in stream], stream.schema)

    async def _open(self, opening: Operation[Reply], progress: ProgressCallback | None) -> AsyncBatchStream:
        reply = await self._run(opening)
        return await AsyncBatchStream(reply.stream, ResultDecoder(reply.headers, progress)).start()

    async def _run(self, operation: Operation[T]) -> T:
        reply: Reply | None = None
        with contextlib.closing(operation):
            while True:
                try:
                    command = operation.send(reply)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                reply = await self._perform(command)

    async def _perform(self, command: Send | Pause) -> Reply | None:
        if isinstance(command, Pause):
            await self._sleep(command.seconds)
            return None
        request = wire.build_request(self._http, command)
        with wire.connection_errors():
            response = await self._http.send(request, stream=True)
            if wire.is_result(command, response):
                return wire.open_reply(response)
            async with contextlib.aclosing(response):
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    wire.check_size(len(body) + len(chunk))
                    body += chunk
        return wire.read_reply(response, bytes(body))

"""The client for trio and asyncio: :mod:`strata.client.sync` with awaits; see there for the arguments."""

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
from strata.client.results import Arriving, ProgressCallback, ResultDecoder
from strata.client.retry import RetryPolicy

T = TypeVar("T")


class AsyncBatchStream(Arriving):
    """A result's record batches as they arrive, one chunk and one batch in memory at a time.

    Iterate it inside ``async with``, so that the connection is let go even when you leave early. It ends
    normally only when the whole result has come; anything less is a ``TruncatedStreamError``.
    """

    def __init__(self, response: httpx.Response, decoder: ResultDecoder) -> None:
        super().__init__(decoder)
        self._response = response
        self._chunks = response.aiter_bytes()

    async def start(self) -> Self:
        """Wait for the schema; the client does it."""
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
            TruncatedStreamError: If the result breaks off.
            BadAnswerError: If it is no Arrow stream.
        """
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Let the connection go."""
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
        except (
            BaseException
        ):  # cancellation too: the connection is in the middle of a body, and of no more use
            await self.aclose()
            raise


class AsyncStrataClient:
    """Asks a Strata server for results; belongs to one event loop.

    Busy servers (429, 503) are asked again when they say, within the retry policy; a request is safe to
    repeat, as equal requests share one result.

    Args:
        base_url: The server's address, with the path under which a proxy serves it, if any.
        headers: Sent with every request, such as what an authenticating proxy asks for.
        timeout: httpx timeouts; ``read`` bounds the silence between two chunks.
        retry: How long to insist on a busy server.
        transport: Where requests go instead of to the network.
        sleep: Waits for so many seconds.
        clock: Seconds on a monotonic clock.
        wall: The time of day, aware.
        chance: For the jitter of retries.
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
        self._here = ClientEnvironment(retry or RetryPolicy(), clock, wall, chance or random.Random())  # noqa: S311 - jitter

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
        """Build a result, or find it; its bytes are read with :meth:`read`.

        Args:
            inputs: A table URI, or several.
            mode: ``stream`` to read it while it is built, ``artifact`` to have it built and wait for it.
            refresh: Build a new version even if there is one.
            **options: ``columns`` in the order of the result (left out: all; an empty list: none);
                ``filters``, AND-ed: ``Filter``, ``(column, op, value)`` or a mapping of these;
                one of ``snapshot_id``, ``ref`` (branch or tag) and ``as_of`` (aware datetime) for an older
                state; ``name`` to name the result.

        Raises:
            StrataError: If the server refuses.
        """
        return await self._run(
            operations.materialize(self._here, Scan(inputs, **options), mode, refresh=refresh)
        )

    async def fetch(
        self,
        inputs: str | Iterable[str],
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[ScanOptions],
    ) -> pa.Table:
        """Return a scan's result, whole.

        Args:
            inputs: A table URI, or several.
            refresh: Build a new version even if there is one.
            progress: Called with the bytes so far and the rows of the whole result, when known.
            **options: As for :meth:`materialize`.

        Raises:
            TruncatedStreamError: If the result breaks off; a shorter table is never returned.
            StrataError: If the server refuses.
        """
        return await self._table(
            operations.open_scan(self._here, Scan(inputs, **options), refresh=refresh), progress
        )

    async def fetch_batches(
        self,
        inputs: str | Iterable[str],
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        **options: Unpack[ScanOptions],
    ) -> AsyncBatchStream:
        """Return a scan's result as record batches; arguments and errors of :meth:`fetch`."""
        return await self._open(
            operations.open_scan(self._here, Scan(inputs, **options), refresh=refresh), progress
        )

    async def read(self, source: Materialized | str, *, progress: ProgressCallback | None = None) -> pa.Table:
        """Return the result :meth:`materialize` named, or an artifact by its URI; waits for its build."""
        return await self._table(operations.open_result(self._here, source), progress)

    async def explain(self, inputs: str | Iterable[str], **options: Unpack[ScanOptions]) -> Explanation:
        """Say what :meth:`materialize` would do with the same arguments, and do nothing."""
        return await self._run(operations.explain(self._here, Scan(inputs, **options)))

    async def build(self, build_id: str) -> Build:
        """Look how a build goes."""
        return await self._run(operations.build(self._here, build_id))

    async def wait(self, build_id: str, timeout: float | None = None) -> Build:  # noqa: ASYNC109 - as the sync client; polls, no task to cancel
        """Wait until a build is ready.

        Args:
            build_id: From :meth:`materialize` in artifact mode.
            timeout: Seconds; ``None`` for as long as it takes.

        Raises:
            BuildFailedError: If it failed.
            WaitTimeoutError: If it is not over in time.
        """
        return await self._run(operations.wait(self._here, build_id, timeout))

    async def artifact(self, uri: str) -> Artifact:
        """Describe an artifact: ``strata://artifact/<id>@v=<n>`` or ``strata://name/<name>``."""
        return await self._run(operations.artifact(self._here, uri))

    async def artifacts(self, **options: str | int) -> ArtifactPage:
        """List the tenant's artifacts; options are query parameters (``limit``, ``offset`` …)."""
        return await self._run(operations.artifacts(self._here, options))

    async def me(self) -> Me:
        """Say who the server takes the caller for, what that may use, and what would be refused."""
        return await self._run(operations.me(self._here))

    async def cache_stats(self) -> CacheStats:
        """Count the tenant's cache."""
        return await self._run(operations.cache_stats(self._here))

    async def clear_cache(self) -> None:
        """Empty the tenant's cache (scope ``admin:cache``)."""
        await self._run(operations.clear_cache(self._here))

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

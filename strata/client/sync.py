"""Client for threads and scripts."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx
import pyarrow as pa

from strata.client import operations, wire
from strata.client.answers import (
    Artifact,
    ArtifactPage,
    Build,
    CacheStats,
    Explanation,
    Materialized,
    Me,
    Receipt,
)
from strata.client.display.progress import ProgressOption, display_of
from strata.client.errors import ConnectionFailedError
from strata.client.frames.polars_scan import lazy_frame
from strata.client.methods.notebook_runs import NotebookRunMethods
from strata.client.methods.notebooks import NotebookMethods
from strata.client.methods.results import ResultMethods
from strata.client.methods.tables import TableMethods
from strata.client.methods.workers import WorkerMethods
from strata.client.operations import ClientEnvironment, Operation, Pause, Reply, Send
from strata.client.results import IncomingResult, QueryResult, ResultDecoder
from strata.client.retry import RetryPolicy
from strata.client.scans import Query, Scan, ScanOptions

T = TypeVar("T")


class BatchStream(IncomingResult):
    """Record batches of a result as they arrive; memory holds one chunk and one batch.

    Iterate inside ``with``, which closes the connection even if iteration stops early. Iteration ends
    normally only after the complete result; otherwise it raises ``TruncatedStreamError``.
    """

    def __init__(
        self,
        reply: Reply,
        decoder: ResultDecoder,
        env: ClientEnvironment,
        run: Callable[[Operation[Any]], Any],
    ) -> None:
        super().__init__(decoder)
        self._env = env
        self._run = run
        self._opening = reply.request
        self._response: httpx.Response = reply.stream
        self._chunks = self._response.iter_bytes()
        while self._awaits_schema():
            self._advance()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pa.RecordBatch:
        """Return the next batch.

        Raises:
            TruncatedStreamError: If the result is cut off.
            BadAnswerError: If the answer is not an Arrow stream.
        """
        while not self._ready:
            if self._over:
                raise StopIteration
            self._advance()
        return self._ready.popleft()

    def close(self) -> None:
        """Close the connection."""
        self._over = True
        self._response.close()
        self._decoder.end_display(whole=False)

    def _advance(self) -> None:
        try:
            chunk = next(self._chunks, None)
            if chunk is not None:
                self._ready += self._decoder.feed(chunk)
                return
            self._response.close()
            self._decoder.finish()
            path = self._decoder.awaited_receipt
            if path is not None:
                self._decoder.check(self._run(operations.receipt(self._env, path)))
            self._decoder.end_display(whole=True)
            self.close()
        except wire.BODY_ERRORS as error:
            self._response.close()
            self._reconnect(error)
        except BaseException:  # raised again: the connection is inside a body
            self.close()
            raise

    def _reconnect(self, error: Exception) -> None:
        """Go on with the rest of the result on another connection.

        Raises:
            TruncatedStreamError: If that is not possible.
        """
        failure, broken = self._decoder.broken(error), wire.is_broken(error)
        resuming = operations.resume(self._env, self._decoder, self._opening, failure, broken=broken)
        try:
            reply = self._run(resuming)
        except BaseException:  # raised again: the connection is inside a body
            self.close()
            raise
        self._response = reply.stream
        if not self._decoder.carry_on(reply.status, reply.headers):
            self.close()
            raise failure from error
        self._chunks = self._response.iter_bytes()


class StrataClient(TableMethods, ResultMethods, NotebookMethods, NotebookRunMethods, WorkerMethods):
    """Client of a Strata server; thread-safe.

    Requests to a busy server (429, 503) are repeated as ``Retry-After`` says, and those whose connection was
    refused or broke, within the retry policy; equal requests share one result, so repeating is safe. A result
    whose connection breaks is carried on with where it broke, and then compared with its receipt.

    Args:
        base_url: The server's address, with the path under which a proxy serves it, if any; default:
            ``STRATA_CLIENT_URL`` of the environment, else ``http://127.0.0.1:8765``.
        headers: Headers of every request, such as those for an authenticating proxy. Without ``base_url``
            they are added to those of ``STRATA_CLIENT_HEADERS``, one ``Name: value`` in each line.
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
        base_url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | float = wire.DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], dt.datetime] = wire.wall_clock,
        chance: random.Random | None = None,
    ) -> None:
        given = headers if base_url is not None else wire.environment_headers() | dict(headers or {})
        self._http = httpx.Client(
            base_url=base_url or wire.address(),
            headers=wire.client_headers(given),
            timeout=timeout,
            transport=transport,
        )
        self._sleep = sleep
        self._env = ClientEnvironment(retry or RetryPolicy(), clock, wall, chance or random.Random())  # noqa: S311 - jitter

    def __repr__(self) -> str:
        return f"<StrataClient {self.base_url}>"

    @property
    def base_url(self) -> str:
        """Return the server's address."""
        return str(self._http.base_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def materialize(
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
                state; ``limit``, a number of rows; ``name`` to name the result.

        Raises:
            StrataError: If the server refuses or does not answer.
            ValueError: For a filter value no column can be compared with, or ``as_of`` without time zone.
            TypeError: For ``columns`` as one string, or a filter value of an unsupported type.
        """
        return self._run(operations.materialize(self._env, Scan(inputs, **options), mode, refresh=refresh))

    def fetch(
        self,
        inputs: str | Iterable[str],
        *,
        refresh: bool = False,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> pa.Table:
        """Return the complete result of a scan as a table with columns in request order.

        Args:
            inputs: A table URI, or several.
            refresh: Build a new version even if a result exists.
            progress: True for a line on standard error, with rows, bytes and their totals; or a function,
                called after each chunk with the bytes received and the rows of the result, when known.
            **options: As for :meth:`materialize`.

        Raises:
            TruncatedStreamError: If the result is cut off; an incomplete table is never returned.
            BadAnswerError: If the answer is not an Arrow stream.
            StrataError: If the server refuses or does not answer.
            ValueError: As :meth:`materialize`.
            TypeError: As :meth:`materialize`.
        """
        return self._table(
            operations.open_scan(self._env, Scan(inputs, **options), refresh=refresh), progress
        )

    def fetch_batches(
        self,
        inputs: str | Iterable[str],
        *,
        refresh: bool = False,
        progress: ProgressOption = None,
        **options: Unpack[ScanOptions],
    ) -> BatchStream:
        """Return a scan's result as a stream of record batches; arguments and errors of :meth:`fetch`."""
        return self._open(operations.open_scan(self._env, Scan(inputs, **options), refresh=refresh), progress)

    def reader(self, inputs: str | Iterable[str], **options: Unpack[ScanOptions]) -> pa.RecordBatchReader:
        """Return a scan's result as a pyarrow reader, for libraries that take an Arrow stream.

        DuckDB (``FROM reader`` in a query), Polars, pandas and DataFusion read it batch by batch, once; a
        result that is cut off is an error in them. Arguments and errors are those of :meth:`fetch`.
        """
        stream = self.fetch_batches(inputs, **options)
        return pa.RecordBatchReader.from_batches(stream.schema, stream)

    def scan_polars(self, inputs: str, **options: Unpack[ScanOptions]) -> Any:
        """Return a scan as a Polars ``LazyFrame``, which reads when it is collected.

        Columns, a number of rows, and those parts of a predicate that the server applies exactly as Polars
        does are applied on the server; Polars applies the others. Each ``collect`` reads the version that is
        current then, unless ``snapshot_id`` or ``as_of`` says which; other columns than now are an error.
        Arguments and errors are those of :meth:`fetch`; Polars wraps errors in its ``ComputeError``.

        Raises:
            ImportError: If Polars is not installed.
        """
        schema = self.head(inputs, 0, **options).schema
        return lazy_frame(inputs, schema, options, lambda chosen: self.fetch_batches(inputs, **chosen))

    def url(self, source: Materialized | str) -> str:
        """Return the address of a finished result's bytes, an Arrow IPC stream, for other programs.

        They need the headers that the server's proxy demands, and cannot see a cut that falls between two
        batches: compare the bytes with :meth:`receipt`.

        Raises:
            ValueError: If the text is no URI of a result, or the result is not finished.
            StrataError: If there is none, or the server refuses.
        """
        path = self._run(operations.data_path(self._env, source))
        return str(self._http.base_url.join(f"{self._http.base_url.path.rstrip('/')}{path}"))

    def read(self, source: Materialized | str, *, progress: ProgressOption = None) -> pa.Table:
        """Return the rows of a result of :meth:`materialize` or of an artifact URI; waits for its build.

        Raises:
            BuildFailedError: If the build failed.
            TruncatedStreamError: If the result is cut off.
            StrataError: If the server refuses or does not answer.
            ValueError: If the text is no artifact URI.
        """
        return self._table(operations.open_result(self._env, source), progress)

    def sql(
        self,
        query: str,
        /,
        *inputs: str,
        refresh: bool = False,
        name: str | None = None,
        progress: ProgressOption = None,
        **named: str,
    ) -> QueryResult:
        """Run a SQL query on the server and return its rows.

        ``sql("SELECT count(*) AS n FROM flights", flights="demo:nyc.flights")``

        Args:
            query: One SELECT statement.
            *inputs: URIs of tables and results, which the query calls ``input0``, ``input1`` and so on.
            refresh: Build a new version even if a result exists.
            name: Name for the result.
            progress: True for a line on standard error, with rows, bytes and their totals; or a function,
                called after each chunk with the bytes received and the rows of the result, when known.
            **named: URIs of further inputs by the name that the query calls them.

        Raises:
            TruncatedStreamError: If the result is cut off; an incomplete result is never returned.
            StrataError: If the server refuses the query or does not answer; for a fault in the query its text
                names the line and the column.
            TypeError: For a query or an input that is no text.
        """
        found = Query(query, inputs, named, name=name)
        opening = operations.open_scan(self._env, found, refresh=refresh)
        return QueryResult(self._table(opening, progress))

    def explain(self, inputs: str | Iterable[str], **options: Unpack[ScanOptions]) -> Explanation:
        """Return what :meth:`materialize` would do with the same arguments; builds nothing."""
        return self._run(operations.explain(self._env, Scan(inputs, **options)))

    def build(self, build_id: str) -> Build:
        """Return the current state of a build."""
        return self._run(operations.build(self._env, build_id))

    def wait(self, build_id: str, timeout: float | None = None) -> Build:
        """Wait until a build is ready, and return it.

        Args:
            build_id: From :meth:`materialize` in artifact mode.
            timeout: Maximum seconds to wait; ``None``: no limit.

        Raises:
            BuildFailedError: If the build failed.
            WaitTimeoutError: If the build is not ready in time; it continues.
        """
        return self._run(operations.wait(self._env, build_id, timeout))

    def artifact(self, uri: str) -> Artifact:
        """Return the metadata of an artifact: ``strata://artifact/<id>@v=<n>`` or ``strata://name/<name>``.

        Raises:
            StrataError: If there is none, or the server refuses.
            ValueError: If the text is no such URI.
        """
        return self._run(operations.artifact(self._env, uri))

    def receipt(self, uri: str) -> Receipt:
        """Return the receipt of an artifact, to compare a copy with: rows, bytes, SHA-256, inputs.

        Raises:
            TruncatedStreamError: If the artifact is not finished, or is gone.
            StrataError: If the server refuses.
            ValueError: If the text is no such URI.
        """
        return self._run(operations.receipt_of(self._env, uri))

    def artifacts(self, **options: str | int) -> ArtifactPage:
        """Return a page of the tenant's artifacts; options are query parameters (``limit``, ``offset`` …)."""
        return self._run(operations.artifacts(self._env, options))

    def me(self) -> Me:
        """Return the caller as the server identifies it, with its tenant, limits and permissions."""
        return self._run(operations.me(self._env))

    def cache_stats(self) -> CacheStats:
        """Return the counters of the tenant's cache."""
        return self._run(operations.cache_stats(self._env))

    def clear_cache(self) -> None:
        """Empty the tenant's cache (scope ``admin:cache``)."""
        self._run(operations.clear_cache(self._env))

    def _table(self, opening: Operation[Reply], progress: ProgressOption) -> pa.Table:
        with self._open(opening, progress) as stream:
            return pa.Table.from_batches(list(stream), stream.schema)

    def _open(self, opening: Operation[Reply], progress: ProgressOption) -> BatchStream:
        reply = self._run(opening)
        decoder = ResultDecoder(reply.headers, display_of(progress))
        return BatchStream(reply, decoder, self._env, self._run)

    def _run(self, operation: Operation[T]) -> T:
        reply: Reply | None = None
        failed: ConnectionFailedError | None = None
        with contextlib.closing(operation):
            while True:
                try:
                    command = operation.send(reply) if failed is None else operation.throw(failed)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                reply, failed = None, None
                try:
                    reply = self._perform(command)
                except ConnectionFailedError as error:  # the operation decides whether it is repeated
                    failed = error

    def _perform(self, command: Send | Pause) -> Reply | None:
        if isinstance(command, Pause):
            self._sleep(command.seconds)
            return None
        request = wire.build_request(self._http, command)
        with wire.connection_errors():
            response = self._http.send(request, stream=True)
            if wire.is_result(command, response):
                return wire.open_reply(response)
            with contextlib.closing(response):
                body = bytearray()
                for chunk in response.iter_bytes():
                    wire.check_size(len(body) + len(chunk))
                    body += chunk
        return wire.read_reply(response, bytes(body))

"""Connections that break: repeated where that is safe, carried on where they broke, and proven afterwards."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
import trio

from strata.client import (
    AsyncStrataClient,
    ConnectionFailedError,
    RetryPolicy,
    StrataClient,
    StrataError,
    TruncatedStreamError,
)

URI = "wh:db.t"
TABLE = pa.table({"id": pa.array(range(9), pa.int64()), "s": list("abcdefghi")})


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue()


WHOLE = stream(TABLE)
ARTIFACT = "/v1/artifacts/a1/v/1"
BROKE = httpx.RemoteProtocolError("peer closed connection")


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection breaks after its bytes; ``error`` None: it ends."""

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        self.body, self.error, self.closed = body, error, False

    def parts(self) -> Iterator[bytes]:
        for at in range(0, len(self.body), 100):
            yield self.body[at : at + 100]
        if self.error is not None:
            raise self.error

    def __iter__(self) -> Iterator[bytes]:
        return self.parts()

    async def __aiter__(self):
        for part in self.parts():
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@attrs.define
class Server:
    """Breaks the connection after each of ``cuts`` bytes, then sends to the end.

    ``finished``: the result can be read by range; else only the request that opened it gives it, anew.
    """

    cuts: list[int]
    finished: bool = True
    error: Exception = BROKE
    body: bytes = WHOLE
    uri: str = "strata://artifact/a1@v=1"
    extra: dict[str, str] = attrs.field(factory=dict)
    seen: list[httpx.Request] = attrs.field(factory=list)
    bodies: list[Cut] = attrs.field(factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        path = request.url.path
        if path == f"{ARTIFACT}/receipt":
            digest = hashlib.sha256(WHOLE).hexdigest()
            return httpx.Response(200, json={"rows": 9, "bytes": len(WHOLE), "sha256": digest})
        headers = {
            "Content-Type": "application/vnd.apache.arrow.stream",
            "X-Strata-Receipt": f"{ARTIFACT}/receipt",
            "X-Strata-Artifact-Uri": self.uri,
            **self.extra,
        }
        start, status = 0, 200
        if path == f"{ARTIFACT}/data":
            if not self.finished:
                return httpx.Response(404, json={"detail": "Artifact not found"})
            assert "identity" == request.headers["accept-encoding"]
            start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
            if start == len(self.body):
                return httpx.Response(416, json={"detail": "no such range"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        end = self.cuts.pop(0) if self.cuts else None
        cut = Cut(self.body[start:end], None if end is None else self.error)
        self.bodies.append(cut)
        return httpx.Response(status, headers=headers, stream=cut)

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.seen]


@pytest.fixture(params=["sync", "trio"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that calls a client's method; nothing waits."""
    options: dict[str, Any] = {"retry": RetryPolicy(reconnects=2)}
    pauses: list[float] = []

    def sync(server: Callable[..., Any], method: str, *args: Any, **named: Any) -> Any:
        transport = httpx.MockTransport(server)
        with StrataClient("http://s.test", transport=transport, sleep=pauses.append, **options) as client:
            return getattr(client, method)(*args, **named)

    async def asleep(seconds: float) -> None:
        pauses.append(seconds)

    async def acall(server: Callable[..., Any], method: str, args: Any, named: Any) -> Any:
        transport = httpx.MockTransport(server)
        async with AsyncStrataClient("http://s.test", transport=transport, sleep=asleep, **options) as client:
            return await getattr(client, method)(*args, **named)

    def awaited(server: Callable[..., Any], method: str, *args: Any, **named: Any) -> Any:
        return trio.run(acall, server, method, args, named)

    return sync if request.param == "sync" else awaited


def test_a_result_is_carried_on_where_it_broke(call) -> None:
    """By range, as often as new bytes come; then its receipt is compared."""
    server = Server([400, 401, 900])
    assert TABLE.equals(call(server, "fetch", URI))
    assert ["/v1/materialize", *[f"{ARTIFACT}/data"] * 3, f"{ARTIFACT}/receipt"] == server.paths
    assert ["bytes=400-", "bytes=401-", "bytes=900-"] == [one.headers["range"] for one in server.seen[1:4]]
    assert all(body.closed for body in server.bodies)


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "being built"])
def test_a_connection_that_breaks_at_any_byte_costs_no_row(finished: bool) -> None:  # noqa: FBT001
    """Before the schema, between batches, and after the last byte."""
    for end in range(len(WHOLE) + 1):
        transport = httpx.MockTransport(Server([end], finished=finished))
        with StrataClient("http://s.test", transport=transport, sleep=lambda _: None) as client:
            assert TABLE.equals(client.fetch(URI)), end


def test_a_result_that_is_being_built_is_read_again_from_its_beginning(call) -> None:
    """The request that opened it finds the same build; rows that came are not repeated."""
    server = Server([400, 800], finished=False)
    assert TABLE.equals(call(server, "fetch", URI))
    assert 3 == server.paths.count("/v1/materialize")


def test_the_rest_of_another_result_is_refused(call) -> None:
    """Other bytes fail by the receipt, another artifact by its address, another range by its headers."""
    other = stream(TABLE.set_column(0, "id", pa.array([*range(8), 99], pa.int64())))

    class Other(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if self.seen:
                self.body = other
            return super().__call__(request)

    with pytest.raises(TruncatedStreamError, match="SHA-256"):
        call(Other([700]), "fetch", URI)

    class Renamed(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            found = super().__call__(request)
            self.uri = "strata://artifact/a2@v=1"
            return found

    with pytest.raises(TruncatedStreamError, match="broke after 700 bytes"):
        call(Renamed([700]), "fetch", URI)

    class Shifted(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            found = super().__call__(request)
            if "content-range" in found.headers:
                found.headers["content-range"] = "bytes 0-5/6"
            return found

    server = Shifted([700])
    with pytest.raises(TruncatedStreamError, match="broke after 700 bytes"):
        call(server, "fetch", URI)
    assert all(body.closed for body in server.bodies)


def test_no_new_byte_several_times_in_a_row_is_an_error(call) -> None:
    """A server that always breaks is not asked for ever."""
    server = Server([400] * 50)
    with pytest.raises(TruncatedStreamError, match="broke after 400 bytes"):
        call(server, "fetch", URI)
    assert 3 == len(server.bodies)


@pytest.mark.parametrize(
    ("error", "extra"),
    [(httpx.ReadTimeout("too slow"), {}), (BROKE, {"X-Strata-Receipt": "elsewhere"})],
    ids=["a wait that took too long", "no receipt"],
)
def test_what_cannot_be_proven_or_would_wait_again_is_not_carried_on(call, error, extra) -> None:
    """Without a receipt the parts may be of two results; a timeout has waited for minutes."""
    server = Server([400], error=error, extra=extra)
    with pytest.raises(TruncatedStreamError, match="broke after 400 bytes"):
        call(server, "fetch", URI)
    assert 1 == len(server.seen)


def test_a_refusal_of_the_rest_is_told(call) -> None:
    """With the sentence of the server: the build failed, or rights changed."""

    class Refusing(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if self.seen:
                return httpx.Response(500, json={"detail": "The build failed."})
            return super().__call__(request)

    with pytest.raises(TruncatedStreamError, match=r"broke after 400 bytes.*The build failed\."):
        call(Refusing([400]), "fetch", URI)


class Broken:
    """Refuses ``times`` connections, then answers with ``answer``."""

    def __init__(
        self, times: int, answer: dict[str, Any], error: type[Exception] = httpx.ConnectError
    ) -> None:
        self.times, self.answer, self.error, self.count = times, answer, error, 0

    def __call__(self, _: httpx.Request) -> httpx.Response:
        self.count += 1
        if self.count <= self.times:
            raise self.error("no")
        return httpx.Response(200, json=self.answer)


MADE = {"hit": True, "artifact_uri": "strata://artifact/a1@v=1", "state": "ready"}


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError])
def test_a_request_whose_connection_breaks_is_repeated(call, error) -> None:
    """Twice, in this policy; equal requests share one result."""
    assert call(Broken(2, MADE, error), "materialize", URI).hit
    server = Broken(3, MADE, error)
    with pytest.raises(ConnectionFailedError):
        call(server, "materialize", URI)
    assert 3 == server.count


def test_what_may_not_happen_twice_is_not_repeated(call) -> None:
    """A new version, and a removal, whose second answer would say that there is nothing to remove."""
    for method, args, named in (
        ("materialize", (URI,), {"refresh": True}),
        ("delete", ("strata://artifact/a1@v=1",), {}),
    ):
        server = Broken(1, MADE)
        with pytest.raises(ConnectionFailedError):
            call(server, method, *args, **named)
        assert 1 == server.count


def test_a_wait_that_took_too_long_is_not_begun_again(call) -> None:
    """A timeout is minutes: it is an error at once."""
    server = Broken(1, MADE, httpx.ReadTimeout)
    with pytest.raises(StrataError):
        call(server, "materialize", URI)
    assert 1 == server.count

"""One set of scenarios for both clients: blocking, and awaited under trio and asyncio."""

import asyncio
import datetime as dt
import io
import json
import random

import attrs
import httpx
import pyarrow as pa
import pytest
import trio

from strata.client import (
    AsyncStrataClient,
    BadAnswerError,
    BuildFailedError,
    ChangedInput,
    ConnectionFailedError,
    Materialized,
    RetryPolicy,
    StrataClient,
    StrataError,
    TruncatedStreamError,
    WaitTimeoutError,
)

ARROW = "application/vnd.apache.arrow.stream"
NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)


class FakeClock:
    def __init__(self):
        self.now = 0.0
        self.pauses = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    async def asleep(self, seconds):
        self.sleep(seconds)

    def wall(self):
        return NOW + dt.timedelta(seconds=self.now)


class NoJitter(random.Random):
    def random(self):
        return 0.0


@attrs.define
class Server:
    """Answers requests in order from a script, or by a function; records the requests."""

    script: list = attrs.field(factory=list)
    seen: list = attrs.field(factory=list)
    answer: object = None

    def __call__(self, request):
        self.seen.append(request)
        found = self.answer(request) if self.answer else self.script.pop(0)
        return found if isinstance(found, httpx.Response) else found()

    @property
    def paths(self):
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.seen]

    def body(self, index=0):
        return json.loads(self.seen[index].content)


class Driver:
    """Calls a client's methods by name."""

    def __init__(self, kind, server, clock, **options):
        self.kind = kind
        self.clock = clock
        self.options = {
            "transport": httpx.MockTransport(server),
            "clock": clock,
            "wall": clock.wall,
            "chance": NoJitter(),
            "retry": RetryPolicy(attempts=4, total_seconds=60),
            **options,
        }

    def __getattr__(self, method):
        def call(*args, **kwargs):
            if self.kind == "sync":
                with StrataClient(
                    "http://strata.test/base", sleep=self.clock.sleep, **self.options
                ) as client:
                    return getattr(client, method)(*args, **kwargs)
            run = trio.run if self.kind == "trio" else asyncio_run
            return run(self._acall, method, args, kwargs)

        return call

    async def _acall(self, method, args, kwargs):
        async with AsyncStrataClient(
            "http://strata.test/base", sleep=self.clock.asleep, **self.options
        ) as client:
            return await getattr(client, method)(*args, **kwargs)

    def batches(self, *args, take=None, **kwargs):
        """Return (schema, artifact_uri, total_rows, batches) of fetch_batches; at most ``take`` batches."""
        if self.kind == "sync":
            with (
                StrataClient("http://strata.test/base", sleep=self.clock.sleep, **self.options) as client,
                client.fetch_batches(*args, **kwargs) as stream,
            ):
                found = list(stream) if take is None else [next(stream) for _ in range(take)]
                return stream.schema, stream.artifact_uri, stream.total_rows, found
        run = trio.run if self.kind == "trio" else asyncio_run
        return run(self._abatches, args, kwargs, take)

    async def _abatches(self, args, kwargs, take):
        async with (
            AsyncStrataClient("http://strata.test/base", sleep=self.clock.asleep, **self.options) as client,
            await client.fetch_batches(*args, **kwargs) as stream,
        ):
            if take is None:
                found = [batch async for batch in stream]
            else:
                found = [await anext(stream) for _ in range(take)]
            return stream.schema, stream.artifact_uri, stream.total_rows, found


def asyncio_run(function, *args):
    return asyncio.run(function(*args))


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in chunks that may fail, and records whether it was closed."""

    def __init__(self, chunks, error=None):
        self.chunks = list(chunks)
        self.error = error
        self.sent = 0
        self.closed = False

    def __iter__(self):
        for chunk in self.chunks:
            self.sent += 1
            yield chunk
        if self.error is not None:
            raise self.error

    async def __aiter__(self):
        for chunk in self:
            yield chunk

    def close(self):
        self.closed = True

    async def aclose(self):
        self.closed = True


def arrow_bytes(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def arrow_answer(body, rows=None, uri="strata://artifact/a1@v=3"):
    """Return an answer that carries an Arrow stream: bytes, or a Body."""
    headers = {"Content-Type": ARROW, "X-Strata-Artifact-Uri": uri}
    if rows is not None:
        headers["X-Arrow-Row-Count"] = str(rows)
    if isinstance(body, Body):
        return httpx.Response(200, headers=headers, stream=body)
    return httpx.Response(200, headers=headers, content=body)


def json_answer(**content):
    return httpx.Response(200, json=content)


def problem(status, detail="No.", headers=None, **more):
    content = {
        "type": "about:blank",
        "title": "T",
        "status": status,
        "detail": detail,
        "request_id": "r-1",
        **more,
    }
    return httpx.Response(
        status,
        content=json.dumps(content).encode(),
        headers={"Content-Type": "application/problem+json", "X-Request-ID": "r-1", **(headers or {})},
    )


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["sync", "trio", "asyncio"])
def client(request, server, clock):
    return Driver(request.param, server, clock)


TABLE = pa.table({"id": pa.array([1, 2, 3, 4, 5], pa.int64()), "s": pa.array(["a", None, "c", "d", "e"])})
BYTES = arrow_bytes(TABLE)
URI = "demo:nyc.flights"


def building(**more):
    return json_answer(
        hit=False,
        artifact_uri="strata://artifact/a1@v=1",
        state="building",
        build_spec=None,
        **{"stream_id": "s1", "stream_url": "/v1/streams/s1", **more},
    )


def build(state, **more):
    return json_answer(build_id="b1", artifact_id="a1", version=1, state=state, progress=0.5, **more)


def test_materialize_sends_the_contracts_body(client, server):
    """Paths and field names are those of the wire contract, so any Strata server understands them."""
    server.script = [building(new_field="of a newer server")]

    found = client.materialize(
        URI,
        columns=["id", "value"],
        filters=[("id", "<", 100), ("day", "=", dt.date(2013, 2, 8))],
        snapshot_id=123,
        mode="artifact",
        name="n",
        refresh=True,
    )

    assert server.paths == ["POST /base/v1/materialize"]
    assert server.body() == {
        "inputs": [URI],
        "transform": {
            "executor": "scan@v1",
            "params": {
                "columns": ["id", "value"],
                "filters": [
                    {"column": "id", "op": "<", "value": 100},
                    {"column": "day", "op": "=", "value": "__date__:2013-02-08"},
                ],
                "snapshot_id": 123,
            },
        },
        "mode": "artifact",
        "name": "n",
        "refresh": True,
    }
    assert (found.hit, found.state, found.stream_url) == (False, "building", "/v1/streams/s1")


def test_no_columns_and_all_columns_are_different_requests(client, server):
    """`columns=[]` requests rows without columns; leaving it out requests all columns."""
    server.script = [building(), building()]
    client.materialize(URI, columns=[])
    client.materialize(URI)

    assert server.body(0)["transform"]["params"] == {"columns": []}
    assert server.body(1)["transform"]["params"] == {}


def test_columns_given_as_one_string_are_an_error(client, server):
    """`columns="id"` would mean the columns i and d."""
    with pytest.raises(TypeError, match="list"):
        client.materialize(URI, columns="id")
    assert server.seen == []


def test_inputs_keep_their_order(client, server):
    """f(a, b) is not f(b, a)."""
    server.script = [building()]
    client.materialize(["demo:b.b", "demo:a.a"], ref="main")

    assert server.body()["inputs"] == ["demo:b.b", "demo:a.a"]
    assert server.body()["transform"]["params"] == {"ref": "main"}


def test_fetch_takes_one_round_trip(client, server):
    """The answer itself is the result if the server supports that."""
    server.script = [arrow_answer(BYTES, rows=5)]
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    assert TABLE.equals(client.fetch(URI, as_of=moment))
    assert [ARROW] == [request.headers["Accept"] for request in server.seen]
    assert server.body()["transform"]["params"] == {"as_of": "2026-01-01T00:00:00+00:00"}


def test_fetch_takes_two_round_trips_where_it_must(client, server):
    """A server that ignores Accept answers with a stream's URL, which is read next."""
    server.script = [building(), arrow_answer(BYTES)]

    assert TABLE.equals(client.fetch(URI))
    assert server.paths == ["POST /base/v1/materialize", "GET /base/v1/streams/s1"]


def test_read_waits_for_a_build_and_reads_the_artifact(client, server, clock):
    """In artifact mode the bytes can be read when the build is ready."""
    server.script = [
        json_answer(hit=False, artifact_uri="strata://artifact/a1@v=1", state="pending", build_id="b1"),
        build("pending"),
        build("building"),
        build("ready"),
        arrow_answer(BYTES),
    ]
    found = client.materialize(URI, mode="artifact")

    assert TABLE.equals(client.read(found))
    assert server.paths[1:] == ["GET /base/v1/artifacts/builds/b1"] * 3 + [
        "GET /base/v1/artifacts/a1/v/1/data"
    ]
    assert clock.pauses == [0.05, 0.1]


def test_read_takes_artifact_and_name_uris(client, server):
    """A name is resolved, slashes and spaces in it included."""
    server.script = [
        arrow_answer(BYTES),
        json_answer(artifact_uri="strata://artifact/a%20b@v=7"),
        arrow_answer(BYTES),
    ]
    client.read("strata://artifact/a1@v=2")
    client.read("strata://name/team/my report")

    assert server.paths == [
        "GET /base/v1/artifacts/a1/v/2/data",
        "GET /base/v1/names/team/my%20report",
        "GET /base/v1/artifacts/a%2520b/v/7/data",
    ]
    with pytest.raises(ValueError, match="strata://"):
        client.read("demo:nyc.flights")


def test_an_empty_result_keeps_its_schema(client, server):
    """A result without rows has columns with their types."""
    server.script = [arrow_answer(arrow_bytes(TABLE.slice(0, 0)), rows=0)]
    found = client.fetch(URI)

    assert found.num_rows == 0
    assert TABLE.schema == found.schema


@pytest.mark.parametrize("kept", [0, 8, 200, len(BYTES) - 8, len(BYTES) - 1])
def test_a_stream_without_its_end_marker_is_an_error_and_never_a_short_table(client, server, kept):
    """An HTTP body that ends cleanly may hold only part of the result."""
    server.script = [arrow_answer(BYTES[:kept])]

    with pytest.raises(TruncatedStreamError):
        client.fetch(URI)


@pytest.mark.parametrize(
    "error", [httpx.RemoteProtocolError("incomplete chunked read"), httpx.ReadTimeout("too slow")]
)
def test_a_broken_body_is_a_truncated_stream(client, server, error):
    """A connection that breaks inside the body does not end the result, even after the last row."""
    body = Body([BYTES[:-8]], error)
    server.script = [arrow_answer(body)]

    with pytest.raises(TruncatedStreamError, match=str(error)):
        client.fetch(URI)
    assert body.closed


def test_a_result_with_other_than_the_promised_rows_is_an_error(client, server):
    """X-Arrow-Row-Count is compared with the rows received."""
    server.script = [arrow_answer(BYTES, rows=6)]

    with pytest.raises(TruncatedStreamError, match="5 rows where 6"):
        client.fetch(URI)


def test_progress_counts_every_byte(client, server):
    """The callback gets bytes as they arrive, and the rows of the whole result when known."""
    calls = []
    server.script = [
        arrow_answer(Body([BYTES[:100], BYTES[100:300], BYTES[300:]]), rows=5),
        arrow_answer(Body([BYTES])),
    ]
    client.fetch(URI, progress=lambda *call: calls.append(call))
    client.fetch(URI, progress=lambda *call: calls.append(call))

    assert calls == [(100, 5), (300, 5), (len(BYTES), 5), (len(BYTES), None)]


def test_batches_come_one_by_one_and_a_reader_that_leaves_lets_the_connection_go(client, server):
    """The consumer drives reading, so a result of any size needs the memory of one batch."""
    body = Body([BYTES[at : at + 64] for at in range(0, len(BYTES), 64)])
    server.script = [arrow_answer(body, rows=5)]

    schema, uri, total, batches = client.batches(URI, take=1)

    assert TABLE.schema == schema
    assert (uri, total) == ("strata://artifact/a1@v=3", 5)
    assert TABLE.slice(0, 2).to_batches() == batches
    assert body.sent < len(body.chunks)
    assert body.closed


def test_batches_make_up_the_whole_result(client, server):
    """No row is lost or duplicated."""
    server.script = [arrow_answer(Body([BYTES[:500], b"", BYTES[500:]]))]

    assert TABLE.equals(pa.Table.from_batches(client.batches(URI)[3]))


def test_a_busy_server_is_asked_again_when_it_says(client, server, clock):
    """429 and 503 are waited out by Retry-After, in seconds or as a date."""
    server.script = [
        problem(429, headers={"Retry-After": "7"}),
        problem(503, headers={"Retry-After": "Sun, 01 Mar 2026 12:00:10 GMT"}),
        problem(503),
        arrow_answer(BYTES),
    ]

    assert TABLE.equals(client.fetch(URI))
    assert clock.pauses == [7.0, 3.0, 2.0]
    assert len({request.content for request in server.seen}) == 1


def test_a_client_returns_after_the_exact_wait_and_numbers_its_attempts(client, server, clock):
    """The server keeps a place for the second attempt, which no first one takes."""
    server.script = [
        problem(429, headers={"Retry-After": "1"}, retry_after_seconds=0.2),
        problem(429, headers={"Retry-After": "2"}, retry_after_seconds=1.25),
        arrow_answer(BYTES),
    ]

    assert TABLE.equals(client.fetch(URI))
    assert clock.pauses == [0.2, 1.25]
    assert [request.headers["x-strata-attempt"] for request in server.seen] == ["1", "2", "3"]


def test_retries_are_bounded_and_then_the_refusal_is_told(client, server, clock):
    """After the last attempt, the server's text is the error."""
    server.answer = lambda _: problem(429, "Too many scans.", headers={"Retry-After": "1"}, error="busy")

    with pytest.raises(StrataError, match="Too many scans") as caught:
        client.materialize(URI)

    assert len(server.seen) == 4
    assert clock.pauses == [1.0] * 3
    assert (caught.value.status, caught.value.error) == (429, "busy")


def test_refusals_that_stay_are_not_repeated(client, server):
    """A 404 or 400 is raised at once, with everything the server sent."""
    faults = [{"loc": ["body", "inputs"], "msg": "unknown"}]
    server.script = [problem(404, "Table not found", errors=faults)]

    with pytest.raises(StrataError) as caught:
        client.fetch(URI)

    error = caught.value
    assert (error.status, error.title, error.detail, error.request_id) == (404, "T", "Table not found", "r-1")
    assert error.errors == tuple(faults)
    assert str(error) == "404 T: Table not found (request r-1)"
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "body", [b"<html>\n Bad Gateway </html>", b"", b"[1]", b'{"detail": 5}', b"\xff\xfe{"]
)
def test_errors_of_a_proxy_in_between_are_still_errors(client, server, body):
    """An answer that is not problem+json still has a status."""
    server.script = [httpx.Response(502, content=body, headers={"X-Request-ID": "edge-1"})]

    with pytest.raises(StrataError) as caught:
        client.build("b1")

    assert caught.value.status == 502
    assert caught.value.request_id == "edge-1"
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"hit": "yes"}', b"[]", b"\xff"])
def test_an_answer_of_another_shape_is_a_bad_answer(client, server, body):
    """The client does not guess."""
    server.script = [httpx.Response(200, content=body)]

    with pytest.raises(BadAnswerError):
        client.materialize(URI)


def test_no_answer_is_a_connection_error(client, server):
    """httpx's exceptions do not leak."""

    def refuse():
        raise httpx.ConnectError("Connection refused")

    server.script = [refuse] * 4

    with pytest.raises(ConnectionFailedError, match="refused") as caught:
        client.explain(URI)
    assert caught.value.status is None
    assert server.script == []


def test_identity_headers_go_with_every_request_but_never_to_another_server(client, server, clock):
    """With a stream_url on another host, the proxy token would be sent there."""
    identity = {"X-Strata-Proxy-Token": "sixteen-characters", "X-Tenant-ID": "t"}
    client = Driver(client.kind, server, clock, headers=identity)
    server.script = [building(), arrow_answer(BYTES), building(stream_url="http://evil.test/v1/streams/s1")]

    client.fetch(URI)
    for request in server.seen:
        assert identity.items() <= {key: request.headers[key] for key in identity}.items()
    with pytest.raises(BadAnswerError, match="another server"):
        client.fetch(URI)
    assert {request.url.host for request in server.seen} == {"strata.test"}


def test_absolute_stream_urls_of_the_same_server_are_read(client, server):
    """Another server of the contract may answer with its own address."""
    server.script = [building(stream_url="http://strata.test/base/v1/streams/s1"), arrow_answer(BYTES)]
    client.fetch(URI)

    assert server.paths[1] == "GET /base/v1/streams/s1"


def test_wait_returns_the_ready_build(client, server, clock):
    """Pauses grow, so a long build is polled rarely."""
    server.script = [build("building") for _ in range(8)] + [
        build("ready", completed_at="2026-03-01T12:00:00Z")
    ]
    found = client.wait("b1")

    assert (found.state, found.completed_at) == ("ready", "2026-03-01T12:00:00Z")
    assert clock.pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_wait_tells_why_a_build_failed(client, server):
    """The error has the build's message and code."""
    server.script = [build("failed", error_message="A data file is missing.", error_code="data_unreadable")]

    with pytest.raises(BuildFailedError, match="data file is missing") as caught:
        client.wait("b1")
    assert caught.value.error == "data_unreadable"


def test_wait_ends_in_time(client, server, clock):
    """The wait is bounded; the last poll is at the deadline itself."""
    server.answer = lambda _: build("building")

    with pytest.raises(WaitTimeoutError):
        client.wait("b1", timeout=1.0)
    assert clock.now == pytest.approx(1.0)


def test_explain_tells_what_would_happen(client, server):
    """It takes the same arguments as materialize and builds nothing."""
    server.script = [
        json_answer(
            would_hit=False,
            artifact_uri="strata://artifact/a1@v=1",
            would_build=True,
            is_stale=True,
            stale_reason="1 of 1 inputs changed.",
            changed_inputs=[{"input_uri": URI, "old_version": "1", "new_version": "2"}],
            resolved_input_versions={URI: "2"},
        )
    ]
    found = client.explain(URI, columns=["id"])

    assert server.paths == ["POST /base/v1/artifacts/explain-materialize"]
    assert server.body() == {
        "inputs": [URI],
        "transform": {"executor": "scan@v1", "params": {"columns": ["id"]}},
    }
    assert found.changed_inputs == (ChangedInput(URI, "1", "2"),)
    assert found.resolved_input_versions == {URI: "2"}
    assert found.is_stale


def test_artifacts_are_described_listed_and_the_cache_is_counted_and_cleared(client, server):
    """Operational calls use the contract's paths."""
    description = {
        "artifact_id": "a1",
        "version": 2,
        "state": "ready",
        "row_count": 5,
        "input_versions": "{}",
    }
    server.script = [
        json_answer(**description),
        json_answer(artifacts=[description], total_count=1, limit=10, offset=0),
        json_answer(hits=1, misses=2, segments=3, size_bytes=4, hit_rate=0.3),
        json_answer(status="cleared"),
    ]

    assert client.artifact("strata://artifact/a1@v=2").uri == "strata://artifact/a1@v=2"
    assert client.artifacts(limit=10, state="ready").total_count == 1
    assert client.cache_stats().size_bytes == 4
    client.clear_cache()
    assert server.paths == [
        "GET /base/v1/artifacts/a1/v/2",
        "GET /base/v1/artifacts?limit=10&state=ready",
        "GET /base/v1/cache/stats",
        "POST /base/v1/cache/clear",
    ]


def test_results_have_lineage_dependents_status_and_an_end(client, server):
    """By URI or name, at the contract's paths; unknown fields of a newer server are ignored."""
    node = {"uri": URI, "type": "table", "newer": 1}
    uri = "strata://artifact/a1@v=2"
    server.script = [
        json_answer(artifact_uri=uri, nodes=[node], edges=[{"from_uri": URI, "to_uri": uri}], depth=1),
        json_answer(artifact_uri=uri),
        json_answer(artifact_uri=uri, dependents=[node], total_count=1),
        json_answer(name="a/b", artifact_uri=uri, state="ready", is_stale=True, stale_reason="r"),
        json_answer(build_id="b1", cancelled=True, state="failed"),
        json_answer(status="deleted", artifact_uri=uri, byte_size=5),
    ]

    assert client.lineage(uri, 3).edges[0].from_uri == URI
    assert client.dependents("strata://name/daily").dependents[0].type == "table"
    assert client.status("a/b").is_stale
    assert client.cancel("b1").cancelled
    assert client.delete(uri).byte_size == 5
    assert server.paths == [
        "GET /base/v1/artifacts/a1/v/2/lineage?max_depth=3",
        "GET /base/v1/names/daily",
        "GET /base/v1/artifacts/a1/v/2/dependents",
        "GET /base/v1/artifacts/names/a/b/status",
        "POST /base/v1/builds/b1/cancel",
        "DELETE /base/v1/artifacts/a1/v/2",
    ]
    with pytest.raises(ValueError, match="no build to cancel"):
        client.cancel(Materialized(hit=True, artifact_uri=uri, state="ready"))
    with pytest.raises(ValueError, match="is no name"):
        client.status(uri)


def test_an_endless_answer_is_not_held_in_memory(client, server, monkeypatch):
    """Only results may be large, and they are streamed."""
    monkeypatch.setattr("strata.client.wire.MAX_BODY", 1000)
    body = Body([b" " * 400] * 100)
    server.script = [httpx.Response(200, stream=body)]

    with pytest.raises(BadAnswerError, match="too large"):
        client.build("b1")
    assert body.sent == 3
    assert body.closed


def test_a_repr_shows_where_and_never_who():
    """Headers hold secrets; the repr shows the address only."""
    secret = {"X-Strata-Proxy-Token": "do-not-show-me-ever"}
    with StrataClient("http://strata.test", headers=secret) as client:
        assert repr(client) == "<StrataClient http://strata.test>"
    assert "do-not-show" not in repr(AsyncStrataClient("http://strata.test", headers=secret))


async def test_a_cancelled_fetch_closes_its_connection():
    """Under trio, leaving a cancel scope closes the connection at once."""
    body = Body([BYTES[:400]])
    arrived = trio.Event()

    async def forever():
        for chunk in body.chunks:
            yield chunk
        arrived.set()
        await trio.sleep_forever()

    body.__class__ = type("Endless", (Body,), {"__aiter__": lambda _: forever()})
    transport = httpx.MockTransport(lambda _: arrow_answer(body))
    async with (
        AsyncStrataClient("http://strata.test", transport=transport) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.fetch, URI)
        await arrived.wait()
        nursery.cancel_scope.cancel()

    assert body.closed

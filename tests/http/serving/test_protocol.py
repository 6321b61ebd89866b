"""What HTTP/1.1 the server takes from a socket, and what it refuses: framing, heads, upgrades, accepts."""

import json
from collections.abc import Callable

import pytest
import trio
from serve_kit import GET, serving
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.http.serving.connection import Connection
from strata.http.serving.connection_table import ConnectionTable
from strata.http.serving.protocol import HEADER_BYTES
from strata.http.serving.socket_stream import DeadlineStream

UPGRADE = (
    b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: %s\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def echo(scope: dict, receive: Callable, send: Callable) -> None:
    """Answer with the type of the scope, after the whole body."""
    while (await receive()).get("more_body"):
        pass
    body = json.dumps(scope["type"]).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def status_of(stream: trio.SocketStream) -> int:
    """Return the status of the next answer, which arrives in one packet."""
    return int((await stream.receive_some()).split(b" ", 2)[1])


async def to_end(stream: trio.SocketStream) -> bytes:
    """Return all that comes until the server closes the connection."""
    return b"".join([part async for part in stream])


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "transfer-encoding: Chunked\r\ncontent-length: 5",
    ],
)
async def test_a_body_with_two_lengths_is_refused_and_its_connection_closed(
    autojump_clock: MockClock, fields: str
) -> None:
    """A proxy that goes by the other length would take body bytes for another user's request (RFC 9112, 6.1)."""
    async with serving(echo) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        sent = f"POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n0\r\n\r\n".encode() + GET
        await stream.send_all(sent)
        answer = await to_end(stream)
        assert b"HTTP/1.1 400 " == answer[:13]
        assert b"connection: close" in answer.lower()
        assert 1 == answer.count(b"HTTP/1.1 ")


async def test_http_1_0_with_a_transfer_coding_is_refused(autojump_clock: MockClock) -> None:
    """HTTP/1.0 has no transfer codings, so the framing of such a message is faulty (RFC 9112, 6.1)."""
    async with serving(echo) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert b"HTTP/1.1 400 " == (await to_end(stream))[:13]


async def test_either_length_alone_is_taken(autojump_clock: MockClock) -> None:
    """A body with a length, and one in chunks, are both read on one connection."""
    async with serving(echo) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for framed in (
            b"Content-Length: 2\r\n\r\nab",
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ):
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n" + framed)
            assert 200 == await status_of(stream)


def head_of(size: int) -> bytes:
    """Return a request head of ``size`` bytes."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("before", [b"", GET])
async def test_the_largest_head_is_answered_and_one_byte_more_refused(
    autojump_clock: MockClock, before: bytes
) -> None:
    """The limit of a head is exact, also for a head that arrives in one read or after another request."""
    for more, status in ((0, 200), (1, 431), (30_000, 431)):
        async with serving(echo) as (port, _stop):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(before + head_of(HEADER_BYTES + more))
            received = b""
            while received.count(b"HTTP/1.1 ") < 1 + bool(before):
                received += await stream.receive_some()
            assert f"HTTP/1.1 {status} ".encode() == received[received.rindex(b"HTTP/1.1 ") :][:13]


@pytest.mark.parametrize("version", [b"13", b"12", b""])
@pytest.mark.parametrize("path", [b"", b"v1/me", b"no/such/path"])
async def test_a_websocket_handshake_is_answered_as_the_request_it_is(
    autojump_clock: MockClock, path: bytes, version: bytes
) -> None:
    """Where the application opens no WebSocket the wish is ignored; the connection serves further requests."""
    async with serving(echo) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for sent in (UPGRADE % (path, version), GET, UPGRADE % (path, version)):
            await stream.send_all(sent)
            assert (await stream.receive_some()).endswith(b'"http"')


async def test_after_a_websocket_handshake_a_connection_is_idle(autojump_clock: MockClock) -> None:
    """It may be closed for another one, and is closed at the keep-alive deadline."""
    table: ConnectionTable[Connection] = ConnectionTable(8)
    async with serving(echo, table=table) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(UPGRADE % (b"", b"13"))
        assert 200 == await status_of(stream)
        await wait_all_tasks_blocked()
        assert (1, 1) == (len(table), table.idle)
        began = trio.current_time()
        assert b"" == await stream.receive_some()
        assert 75 == pytest.approx(trio.current_time() - began, abs=1)


async def test_a_client_that_leaves_after_its_handshake_is_noticed(autojump_clock: MockClock) -> None:
    """A request with a wish to upgrade ends with its client, as any other one."""
    left = trio.Event()

    async def waits(_scope: dict, receive: Callable, _send: Callable) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving(waits) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(UPGRADE % (b"", b"13"))
        await wait_all_tasks_blocked()
        await stream.aclose()
        with trio.fail_after(5):
            await left.wait()


async def test_bytes_after_a_handshake_are_the_next_request(autojump_clock: MockClock) -> None:
    """A client that sends on before its answer gets both answers, in order."""
    async with serving(echo) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(UPGRADE % (b"", b"13") + GET)
        for _ in range(2):
            assert 200 == await status_of(stream)


async def test_a_socket_that_its_peer_has_reset_does_not_end_the_listener(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An accepted socket may be of no use any more; the next one is served, and no idle connection is closed."""
    init, failures = DeadlineStream.__init__, iter([OSError(22, "reset")])

    def failing(self: DeadlineStream, stream: trio.SocketStream, stall_seconds: float) -> None:
        for failure in failures:
            raise failure
        init(self, stream, stall_seconds)

    table: ConnectionTable[Connection] = ConnectionTable(8)
    async with serving(echo, table=table) as (port, _stop):
        with monkeypatch.context() as patched:
            idle = await trio.open_tcp_stream("127.0.0.1", port)
            await wait_all_tasks_blocked()
            patched.setattr(DeadlineStream, "__init__", failing)
            reset = await trio.open_tcp_stream("127.0.0.1", port)
            await to_end(reset)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GET)
            assert 200 == await status_of(stream)
            assert 2 == len(table)
            await idle.send_all(GET)
            assert 200 == await status_of(idle)


async def test_an_odd_error_of_accept_closes_no_idle_connection(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a lack of files or memory is a reason to close another client's connection."""
    accept, failures = trio.SocketListener.accept, iter([OSError(22, "odd")])

    async def failing(self: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        found = await accept(self)
        for failure in failures:
            await found.aclose()
            raise failure
        return found

    table: ConnectionTable[Connection] = ConnectionTable(8)
    async with serving(echo, table=table) as (port, _stop):
        idle = await trio.open_tcp_stream("127.0.0.1", port)
        await wait_all_tasks_blocked()
        with monkeypatch.context() as patched:
            patched.setattr(trio.SocketListener, "accept", failing)
            first = await trio.open_tcp_stream("127.0.0.1", port)  # taken by the accept already under way
            await wait_all_tasks_blocked()
            second = await trio.open_tcp_stream("127.0.0.1", port)
            await to_end(second)
            for stream in (first, idle):
                await stream.send_all(GET)
                assert 200 == await status_of(stream)

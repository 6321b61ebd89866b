"""The serving loop on real loopback sockets and a virtual clock."""

import errno
import json
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h11
import pytest
import trio
import trustme
from serve_kit import GET, serving
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.config.tls import tls_context
from strata.http.asgi import KNOWN_KEY, LOADS_KEY
from strata.http.serving.connection import Connection
from strata.http.serving.connection_table import ConnectionTable
from strata.http.serving.listening import Bind, CannotListenError, Tls, close, listen
from strata.http.serving.socket_stream import DeadlineStream
from strata.work import EgressTurns, FileRange


async def small(_scope: dict, receive: Callable, send: Callable) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


async def endless(_scope: dict, receive: Callable, send: Callable) -> None:
    """Send until the client disconnects, which cancels the handler as in Quart."""
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await trio.lowlevel.checkpoint()
            await send({"type": "http.response.body", "body": b"x" * 1024 * 1024, "more_body": True})


async def answer(stream: trio.SocketStream) -> bytes:
    data = b""
    while not data.endswith(b"ok"):
        part = await stream.receive_some()
        assert part
        data += part
    return data


async def test_serves_and_stops(autojump_clock: MockClock) -> None:
    """A stop without running requests does not wait for the grace period."""
    async with serving(small) as (port, stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        assert b"200" in await answer(stream)
        began = trio.current_time()
        stop.set()
        assert b"" == await stream.receive_some()
    assert trio.current_time() - began < 1


async def test_a_client_that_stops_reading_is_cut_at_the_deadline(autojump_clock: MockClock) -> None:
    """A stalled client's connection is cut, which frees its slot and memory."""
    async with serving(endless, stall_seconds=10) as (port, _stop):
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await trio.sleep(9)
        assert await stream.receive_some(1)
        await trio.sleep(12)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(1024 * 1024):
                pass
        assert 10 <= trio.current_time() - began <= 22


async def test_shutdown_with_fifty_stalled_clients_ends_within_its_grace(autojump_clock: MockClock) -> None:
    """Hypercorn's shielded sends do not delay the shutdown."""
    async with serving(endless, grace=5, stall_seconds=1000) as (port, stop):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(50)]
        for stream in streams:
            await stream.send_all(GET)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        stop.set()
    assert 5 <= trio.current_time() - began <= 7
    for stream in streams:
        await stream.aclose()


async def test_a_request_under_way_ends_in_peace_during_the_grace(autojump_clock: MockClock) -> None:
    """A running request is answered after the stop."""

    async def slow(scope: dict, receive: Callable, send: Callable) -> None:
        await trio.sleep(3)
        await small(scope, receive, send)

    async with serving(slow, grace=30) as (port, stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await wait_all_tasks_blocked()
        stop.set()
        assert b"200" in await answer(stream)


async def test_cancelling_the_server_breaks_what_is_shielded(autojump_clock: MockClock) -> None:
    """A second signal ends the server at once, stalled clients or not."""
    with trio.CancelScope() as scope:
        async with serving(endless, grace=1000, stall_seconds=1000) as (port, _stop):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GET)
            await wait_all_tasks_blocked()
            began = trio.current_time()
            scope.cancel()
    assert trio.current_time() - began < 1
    await stream.aclose()


async def test_a_request_head_of_100_kilobytes_is_refused(autojump_clock: MockClock) -> None:
    """A request head of 100 kB is refused."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 100_000 + b"\r\n\r\n")
        assert (await stream.receive_some()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


async def test_progress_resets_the_deadline(autojump_clock: MockClock) -> None:
    """A client that reads slowly but steadily is not cut."""

    class SlowSocket:
        family = trio.socket.AF_UNIX

        def fileno(self) -> int:
            return -1

        async def send(self, view: memoryview) -> int:
            await trio.sleep(9)
            return min(10, len(view))

    class Slow:
        socket = SlowSocket()

    stream = DeadlineStream(Slow(), 10)  # type: ignore[arg-type]  # a stand-in
    await stream.send_all(b"x" * 100)

    assert 90 == trio.current_time()


async def test_a_socket_that_is_ready_for_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spurious readiness (select(2), "BUGS") is waited out; a socket closed meanwhile is no bug."""
    ours, theirs = trio.socket.socketpair()
    stream, got = DeadlineStream(trio.SocketStream(ours), 10), []

    async def receive() -> None:
        got.append(await stream.receive_some(100))

    async def at_once(_socket: object) -> None:
        """Report the socket as readable."""

    with theirs:
        with monkeypatch.context() as patch:
            patch.setattr(trio.lowlevel, "wait_readable", at_once)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                await theirs.send(b"at last")
        assert [b"at last"] == got
        await theirs.send(b"more")
        assert [b"mo", b"re"] == [await stream.receive_some(2) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_closed_while_read, stream)
            await wait_all_tasks_blocked()
            await stream.aclose()
        await _closed_while_read(stream)


async def _closed_while_read(stream: DeadlineStream) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some(2)


async def ended(stream: trio.abc.ReceiveStream) -> float:
    """Read until the server closes; return the time."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some(65536):
            pass
    return trio.current_time()


async def test_an_idle_connection_is_closed_on_time(autojump_clock: MockClock) -> None:
    """It is closed exactly the idle time after its last response."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for pause in (0, 70):  # longer than the proxy's 60 s
            await trio.sleep(pause)
            await stream.send_all(GET)
            assert b"200" in await answer(stream)
        began = trio.current_time()
        assert 75 <= await ended(stream) - began < 76


async def test_a_connection_that_sends_nothing_is_closed_after_the_heads_deadline(
    autojump_clock: MockClock,
) -> None:
    """A connection without a first byte has the deadline of a request head."""
    async with serving(small) as (port, _stop):
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        assert 10 <= await ended(stream) - began < 11


async def test_a_head_that_drips_is_cut_from_its_first_byte_on(autojump_clock: MockClock) -> None:
    """A head at a byte a second is cut, on a new connection and on a kept one."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await answer(stream)
        await trio.sleep(30)
        began = trio.current_time()

        async def drip() -> None:
            with suppress(trio.BrokenResourceError):
                for byte in GET[:-4] * 10:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert 10 <= await ended(stream) - began < 12
            nursery.cancel_scope.cancel()


async def test_a_head_in_two_pieces_is_in_time(autojump_clock: MockClock) -> None:
    """The deadline ends with the head: the response may take longer."""

    async def slow(scope: dict, receive: Callable, send: Callable) -> None:
        await trio.sleep(500)
        await small(scope, receive, send)

    async with serving(slow) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET[:10])
        await trio.sleep(9)
        await stream.send_all(GET[10:])
        assert b"200" in await answer(stream)


async def test_http_2_in_the_clear_is_not_spoken(autojump_clock: MockClock) -> None:
    """An HTTP/2 upgrade, which would evade the connection's limits, is answered in HTTP/1.1."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        wish = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n"
        await stream.send_all(GET[:-2] + wish)
        assert (await answer(stream)).startswith(b"HTTP/1.1 200")
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")


async def test_a_full_server_makes_room_by_closing_idle_connections(autojump_clock: MockClock) -> None:
    """With fifty silent connections on twenty places a known client is answered; the oldest are closed."""
    async with serving(small, table=ConnectionTable(20)) as (port, _stop):
        good = await trio.open_tcp_stream("127.0.0.1", port)
        silent = []
        for _ in range(50):
            silent.append(await trio.open_tcp_stream("127.0.0.1", port))
            await wait_all_tasks_blocked()
            if len(silent) % 10 == 0:
                await good.send_all(GET)
                assert b"200" in await answer(good)
        for stream in silent[:10]:
            with suppress(trio.BrokenResourceError):
                assert b"" == await stream.receive_some()


async def test_a_unix_socket_is_for_its_group_and_goes_with_the_server(tmp_path, autojump_clock) -> None:
    """The socket of a killed server is replaced; one that accepts connections is not."""
    path = tmp_path / "strata.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with serving(small, bind=Bind(path=path)) as (_port, _stop):
        assert 0o660 == path.stat().st_mode & 0o777
        stream = await trio.open_unix_socket(path)
        await stream.send_all(GET)
        assert b"200" in await answer(stream)
        with pytest.raises(CannotListenError, match="another server listens"):
            await listen([Bind(path=path)])
        await stream.aclose()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(CannotListenError, match="no socket"):
        await listen([Bind(path=path)])
    assert "mine" == path.read_text()


async def test_a_stopping_server_leaves_its_successors_socket_alone(tmp_path, autojump_clock) -> None:
    """A socket file that a newer server has put there is not removed."""
    path = tmp_path / "strata.sock"
    async with serving(small, bind=Bind(path=path)) as (_port, _stop):
        path.unlink()
        (successor,) = await listen([Bind(path=path)])
    assert path.exists()
    close([successor])
    assert not path.exists()


@pytest.fixture
def authority(tmp_path):
    ca = trustme.CA()
    made = ca.issue_cert("localhost")
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return ca


def tls_from(directory: Path, *, client_ca: bool = False) -> Tls:
    made = tls_context(str(directory / "server.pem"), None, str(directory / "ca.pem") if client_ca else None)
    assert isinstance(made, ssl.SSLContext)
    return Tls(made)


async def secure(port: int, context: ssl.SSLContext) -> trio.SSLStream:
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    return trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True)


def trusting(authority, *, protocols: tuple[str, ...] = ("h2", "http/1.1")) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(list(protocols))
    return context


async def test_tls_speaks_http_1_only_and_takes_new_certificates(authority, tmp_path) -> None:
    """A renewed certificate serves the next connection; a damaged one changes nothing."""
    tls = tls_from(tmp_path)
    async with serving(small, tls=tls) as (port, _stop):
        serials = []
        for content in (
            None,
            b"damaged",
            authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes(),
        ):
            if content is not None:
                (tmp_path / "server.pem").write_bytes(content)
                renewed = tls_context(str(tmp_path / "server.pem"), None, None)
                if isinstance(renewed, ssl.SSLContext):
                    tls.context = renewed
            stream = await secure(port, trusting(authority))
            await stream.send_all(GET)
            assert b"200" in await answer(stream)
            assert "http/1.1" == stream.selected_alpn_protocol()
            serials.append(stream.getpeercert()["serialNumber"])
            await stream.aclose()
    assert serials[0] == serials[1] != serials[2]


async def test_a_client_without_a_certificate_of_the_authority_is_refused(authority, tmp_path) -> None:
    """mTLS: the proxy proves itself before it can say anything."""
    async with serving(small, tls=tls_from(tmp_path, client_ca=True)) as (
        port,
        _stop,
    ):
        for issuer in (None, trustme.CA(), authority):
            context = trusting(authority)
            if issuer is not None:
                issuer.issue_cert("proxy").configure_cert(context)
            stream = await secure(port, context)
            answered = b""
            with suppress(trio.BrokenResourceError):
                await stream.send_all(GET)
                answered = await stream.receive_some()
            assert (b"200" in answered) == (issuer is authority)
            await trio.aclose_forcefully(stream)


class Memory:
    """A byte source whose bytes are all in memory."""

    fd = -1

    def __init__(self, data: bytes) -> None:
        self.data = data

    def locate(self, position: int, wanted: int) -> tuple[list[memoryview], int]:
        return [memoryview(self.data)[position : position + wanted]], 0

    def load(self, start: int, stop: int) -> FileRange:
        return FileRange(self, start, stop - start, "a", EgressTurns())


DATA = bytes(range(256)) * 16 * 1024


@pytest.mark.parametrize("length", [b"", b"%d" % len(DATA)])
async def test_loads_and_bytes_make_one_body(length: bytes) -> None:
    """The body is framed by chunks or length, and the connection serves the next request."""

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        assert LOADS_KEY in scope["state"]
        headers = [(b"content-length", length)] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in (DATA[:9], Memory(DATA).load(9, 2_000_000), Memory(DATA).load(2_000_000, len(DATA))):
            more = not isinstance(part, FileRange) or part.position + len(part) < len(DATA)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async with serving(app) as (port, _stop):
        client = h11.Connection(h11.CLIENT)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for _ in range(2):
            await stream.send_all(client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")])))
            client.send(h11.EndOfMessage())
            body = b""
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    client.receive_data(await stream.receive_some(1 << 20))
                elif isinstance(event, h11.Data):
                    body += event.data
            assert DATA == body
            client.start_next_cycle()
        await stream.aclose()


async def test_a_client_that_stops_reading_a_load_is_cut(autojump_clock: MockClock) -> None:
    """The deadline is the same for bytes sent by the loop and by a thread."""
    autojump_clock.autojump_threshold = 0.2  # a thread's work is no idleness
    ended = trio.Event()

    async def app(_scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(20):
            body = Memory(DATA).load(0, len(DATA))
            await send({"type": "http.response.body", "body": body, "more_body": True})
            if body:
                break  # the connection was closed
        ended.set()

    async with serving(app, stall_seconds=10) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        assert await stream.receive_some(1)
        with trio.fail_after(60):
            await ended.wait()
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(1024 * 1024):
                pass


async def test_a_result_that_is_cut_short_cuts_the_connection(tmp_path: Path) -> None:
    """A truncated file leaves the chunk unfinished, so the client sees a torn body."""
    path = tmp_path / "blob"
    path.write_bytes(bytes(1000))

    class Short(Memory):
        def locate(self, _position: int, wanted: int) -> tuple[list[memoryview], int]:
            return [], wanted

    async def app(_scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with path.open("rb") as file:
            hold = Short(b"")
            hold.fd = file.fileno()
            await send({"type": "http.response.body", "body": hold.load(0, 5000), "more_body": False})

    async with serving(app) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        got = b""
        with suppress(trio.BrokenResourceError):
            while part := await stream.receive_some(65536):
                got += part
        assert b"1388\r\n" in got  # 5,000 bytes were announced
        assert not got.endswith(b"0\r\n\r\n")


async def test_what_leaves_by_tls_is_bytes(authority, tmp_path) -> None:
    """Over TLS results are sent as bytes, which the process encrypts."""
    seen = []

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        seen.append(LOADS_KEY in scope["state"])
        await small(scope, receive, send)

    async with serving(app, tls=tls_from(tmp_path)) as (port, _stop):
        stream = await secure(port, trusting(authority))
        await stream.send_all(GET)
        assert b"ok" in await answer(stream)
        await stream.aclose()
    assert [False] == seen


async def test_a_tls_client_that_stops_reading_is_cut_too(authority, tmp_path, autojump_clock) -> None:
    """The deadline applies below TLS."""
    async with serving(endless, tls=tls_from(tmp_path), stall_seconds=10) as (port, _stop):
        stream = await secure(port, trusting(authority))
        await stream.send_all(GET)
        assert await stream.receive_some(1)
        await trio.sleep(60)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(1024 * 1024):
                pass


async def test_a_slow_handshake_is_cut(authority, tmp_path, autojump_clock) -> None:
    """A connection that never says hello."""
    async with serving(small, tls=tls_from(tmp_path)) as (port, _stop):
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        assert 10 <= await ended(stream) - began < 11


async def test_a_client_that_leaves_takes_its_connection_with_it(autojump_clock: MockClock) -> None:
    """At once, not when its idle time would have been over: silent, answered, or in the middle of an answer."""
    table: ConnectionTable = ConnectionTable(20)
    async with serving(endless, table=table) as (port, _stop):
        for request in (b"", GET[:5], GET):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if request:
                await stream.send_all(request)
            await trio.sleep(1)
            assert 1 == len(table)
            await stream.aclose()
            await trio.sleep(1)
            assert 0 == len(table)


async def early(_scope: dict, _receive: Callable, send: Callable) -> None:
    """Answer without reading the body, once every queue before it is full."""
    await trio.sleep(1)
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no", "more_body": False})


async def test_an_answer_that_leaves_its_body_unread_wedges_nothing(autojump_clock: MockClock) -> None:
    """Hypercorn's reader and the end of the answer waited for room in one queue, for good."""
    table: ConnectionTable = ConnectionTable(20)
    async with serving(early, table=table) as (port, _stop), trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream("127.0.0.1", port)

        async def push() -> None:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
                for _ in range(500):
                    await stream.send_all(b"x" * 65536)

        nursery.start_soon(push)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 401")
        await trio.sleep(3)
        assert 0 == len(table)
        nursery.cancel_scope.cancel()


async def test_an_early_answer_survives_the_close_of_its_connection(autojump_clock: MockClock) -> None:
    """The rest is read for a moment: the kernel drops sent bytes if unread ones remain at the close."""
    # Both ends wait for the kernel in turn: the moment is not over because neither has anything to do.
    autojump_clock.autojump_threshold = 0.1
    async with serving(early) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        body = b"x" * 30_000_000
        head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
        received = b""
        while part := await stream.receive_some():
            received += part
        assert received.startswith(b"HTTP/1.1 401")
        assert received.endswith(b"no")


async def test_what_follows_a_last_request_does_not_spoil_its_answer(autojump_clock: MockClock) -> None:
    """It belongs to no request."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET[:-2] + b"Connection: close\r\n\r\n" + GET)
        assert (await answer(stream)).startswith(b"HTTP/1.1 200")
        assert b"" == await stream.receive_some()


async def test_requests_in_a_row_are_answered_in_a_row(autojump_clock: MockClock) -> None:
    """Pipelined requests (RFC 9112, 9.3.2) are answered in order, and a last incomplete head is cut."""
    async with serving(small) as (port, _stop):
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET * 3 + GET[:-1])
        received = b""
        while received.count(b"ok") < 3:
            received += await stream.receive_some()
        assert 10 <= await ended(stream) - began < 11


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 hello\r\n\r\n", GET.replace(b"GET", b"head")])
async def test_what_is_no_http_is_answered_with_a_problem(autojump_clock: MockClock, sent: bytes) -> None:
    """Malformed requests, methods in lower case included, get a problem with a logged request id."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(sent)
        received = b""
        while part := await stream.receive_some():
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in head
        assert json.loads(body)["request_id"].encode() in head


async def test_bodies_that_never_end_do_not_keep_out_a_good_client(autojump_clock: MockClock) -> None:
    """An unknown client's unfinished request counts as idle and is closed for another."""
    async with serving(small, table=ConnectionTable(10)) as (port, _stop):
        slow = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(10)]
        for stream in slow:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        await wait_all_tasks_blocked()
        good = await trio.open_tcp_stream("127.0.0.1", port)
        await good.send_all(GET)
        assert b"200" in await answer(good)


async def test_a_known_clients_body_is_not_cut_for_another_connection(autojump_clock: MockClock) -> None:
    """A request whose identity the door has accepted is not closed for another connection."""

    async def knowing(scope: dict, receive: Callable, send: Callable) -> None:
        scope["state"][KNOWN_KEY]()
        message = await receive()
        while message["more_body"]:
            message = await receive()

        async def arrived() -> dict:
            return message

        await small(scope, arrived, send)

    async with serving(knowing, table=ConnectionTable(2)) as (port, _stop):
        good = await trio.open_tcp_stream("127.0.0.1", port)
        await good.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
        await wait_all_tasks_blocked()
        for _ in range(5):
            await trio.open_tcp_stream("127.0.0.1", port)
            await wait_all_tasks_blocked()
        await good.send_all(b"x")
        assert b"200" in await answer(good)


async def test_a_system_out_of_files_does_not_stop_the_listener(
    autojump_clock: MockClock, monkeypatch
) -> None:
    """The loop neither ends nor spins, and a silent connection makes room."""
    failures = iter([OSError(errno.EMFILE, "too many"), OSError(errno.EPROTO, "odd")])
    accept = trio.SocketListener.accept
    tried = []

    async def failing(self: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        tried.append(trio.current_time())
        for failure in failures:
            raise failure
        return await accept(self)

    monkeypatch.setattr(trio.SocketListener, "accept", failing)
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        assert b"200" in await answer(stream)
        assert 0.1 <= tried[2] - tried[0]


async def test_a_connection_that_crashes_leaves_the_others_open(
    autojump_clock: MockClock, monkeypatch
) -> None:
    """A bug of ours, or of a library, is one line in the log."""
    run = Connection.run

    async def crash(self: Connection) -> None:
        monkeypatch.setattr(Connection, "run", run)
        raise RuntimeError

    monkeypatch.setattr(Connection, "run", crash)
    async with serving(small) as (port, _stop):
        await trio.open_tcp_stream("127.0.0.1", port)
        await wait_all_tasks_blocked()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        assert b"200" in await answer(stream)


async def test_the_last_answer_says_that_it_is_the_last(autojump_clock: MockClock) -> None:
    """It has ``Connection: close``, so that the proxy sends no further request."""

    async def slow(scope: dict, receive: Callable, send: Callable) -> None:
        await trio.sleep(3)
        await small(scope, receive, send)

    async with serving(slow) as (port, stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await wait_all_tasks_blocked()
        stop.set()
        assert b"connection: close" in (await answer(stream)).lower()


@pytest.mark.parametrize("room", [4096, 20_000, 60_000])
async def test_pieces_of_which_the_kernel_takes_a_part_arrive_whole_and_in_order(room: int) -> None:
    """Partial writes may end within a part, between two or before the first."""
    ours, theirs = trio.socket.socketpair()
    ours.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, room)
    stream, peer = DeadlineStream(trio.SocketStream(ours), 10), trio.SocketStream(theirs)
    draw = random.Random(room)
    sent = [[draw.randbytes(draw.choice((0, 1, 5_000, 30_000))) for _ in range(4)] for _ in range(20)]
    got = bytearray()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for pieces in sent:
                await stream.send_all(pieces)
            await stream.send_eof()

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        async for part in peer:
            got += part
    assert b"".join(piece for pieces in sent for piece in pieces) == got
    await stream.aclose()
    await peer.aclose()


async def test_what_the_kernel_does_not_take_at_once_follows() -> None:
    """A small part is written without waiting; what a full buffer leaves is sent later."""
    ours, theirs = trio.socket.socketpair()
    ours.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    stream, peer = DeadlineStream(trio.SocketStream(ours), 10), trio.SocketStream(theirs)
    sent = [bytes([number]) * 10_000 for number in range(20)]
    got = bytearray()
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            for piece in sent:
                await stream.send_all(piece)
            await stream.send_eof()

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert not got
        async for part in peer:
            got += part
    assert b"".join(sent) == got
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"late")
    await peer.aclose()

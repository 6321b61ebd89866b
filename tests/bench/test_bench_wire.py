"""The benchmark's client counts every byte of an answer, however it is framed and cut."""

from __future__ import annotations

import importlib.util
import socket
import threading
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

HANG_UP = b""
BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def wire() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_wire", BENCH / "wire.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Peer:
    """A server that answers each request with prepared writes; an empty one closes the connection."""

    def __init__(self, *answers: list[bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, args=(answers,))
        self._thread.start()

    def _serve(self, answers: tuple[list[bytes], ...]) -> None:
        with self._listener:
            waiting = list(answers)
            while waiting:
                connection, _ = self._listener.accept()
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._answer(connection, waiting)

    def _answer(self, connection: socket.socket, waiting: list[list[bytes]]) -> None:
        while waiting:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            self.heads.append(request)
            pieces = waiting.pop(0)
            for piece in pieces:
                connection.sendall(piece)
            if HANG_UP in pieces:
                return

    def join(self) -> None:
        self._thread.join(10)


def arrow_stream() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"id": list(range(1000))})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[begin : begin + size] for begin in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 7, 8192])
@pytest.mark.parametrize("size", [1, 3, 100, 100_000])
def test_a_chunked_body_is_the_bytes_in_the_chunks(wire, cut: int, size: int) -> None:
    """Chunk sizes, line ends and reads may be cut anywhere; the next answer starts where this one ended."""
    stream = arrow_stream()[:2000]
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(stream, size)
    pieces = [answer[begin : begin + cut] for begin in range(0, len(answer), cut)]
    peer = Peer(pieces, [b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"])
    with wire.Connection(peer.url, {}) as connection:
        reply = connection.get("/one", keep=True)
        after = connection.get("/two")
    peer.join()
    assert stream == reply.body
    assert len(stream) == reply.size
    assert (404, {}) == (after.status, after.json())


def test_a_counted_body_ends_where_its_length_says(wire) -> None:
    """An empty body costs no read; a body in parts is read to its length, and kept only on request."""
    peer = Peer(
        [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nab", b"cd", b"ef"],
    )
    with wire.Connection(peer.url, {"X-Who": "me"}) as connection:
        empty = connection.get("/")
        counted = connection.get("/")
    peer.join()
    assert (0, b"") == (empty.size, empty.body)
    assert (6, b"") == (counted.size, counted.body)
    assert all(b"X-Who: me\r\n" in head for head in peer.heads)


def test_first_rows_are_the_first_bytes_after_the_schema(wire) -> None:
    """The time to first rows excludes an early schema."""
    stream = arrow_stream()
    schema = 8 + int.from_bytes(stream[4:8], "little")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    peer = Peer(
        [head % schema + stream[:schema]], [head % len(stream) + stream[: schema + 1], stream[schema + 1 :]]
    )
    with wire.Connection(peer.url, {}) as connection:
        only_schema = connection.get("/")
        whole = connection.get("/")
    peer.join()
    assert only_schema.first_rows is None
    assert whole.first_rows is not None
    assert whole.first_byte <= whole.first_rows <= whole.last_byte


def test_a_connection_that_ends_early_is_an_error(wire) -> None:
    """A truncated answer is an error, never a figure."""
    peer = Peer([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
    with (
        wire.Connection(peer.url, {}) as connection,
        pytest.raises(wire.WireError, match="closed the connection"),
    ):
        connection.get("/")
    peer.join()


def test_a_server_that_has_had_enough_of_a_connection_gets_another(wire) -> None:
    """After the server closes a kept connection, the next request opens a new one."""
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    peer = Peer([ok, HANG_UP], [ok])
    with wire.Connection(peer.url, {}) as connection:
        statuses = [connection.get("/one").status, connection.get("/two").status]
    peer.join()
    assert [200, 200] == statuses
    assert 2 == len(peer.heads)


def test_a_server_that_never_answers_is_an_error(wire) -> None:
    """A new connection closed without an answer is an error, not a reason to retry for ever."""
    peer = Peer([HANG_UP], [HANG_UP])
    with (
        wire.Connection(peer.url, {}) as connection,
        pytest.raises(wire.WireError, match="without an answer"),
    ):
        connection.get("/")
    peer.join()


def test_a_connection_closed_before_its_first_request_is_opened_again(wire) -> None:
    """A scene opens connections before it starts; a server may close those that wait too long."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        wire.Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", {}) as connection,
    ):
        listener.accept()[0].close()
        answering = threading.Thread(target=_answer_one, args=(listener,))
        answering.start()
        assert 200 == connection.get("/").status
        answering.join(10)


def _answer_one(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        while b"\r\n\r\n" not in connection.recv(4096):
            pass
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

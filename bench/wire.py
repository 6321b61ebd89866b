"""A minimal HTTP/1.1 client over one raw socket: it costs little, so the server is measured."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import attrs

BUFFER = 1024 * 1024
PREFIX = 8  # of an Arrow stream: a continuation marker and the length of the schema message
PATIENCE = 600.0


class WireError(Exception):
    """An answer other than the workload expects."""


@attrs.frozen
class Reply:
    """A completely read answer.

    Attributes:
        status: HTTP status.
        body: The bytes of the body, if they were to be kept.
        size: Length of the body in bytes.
        first_byte: ``time.perf_counter()`` at the body's first byte.
        first_rows: ``time.perf_counter()`` at the first byte after the Arrow schema; None without one.
        last_byte: ``time.perf_counter()`` at the body's last byte.
    """

    status: int
    body: bytes
    size: int
    first_byte: float
    first_rows: float | None
    last_byte: float

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class _ClosedIdleError(Exception):
    """The server closed a kept connection before it read a request; a new connection can be used."""


class Connection:
    """One keep-alive connection, opened again when the server closes it (a limit of requests).

    Args:
        url: Base URL of the server; only ``http://``.
        headers: Sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise WireError(f"only http:// URLs can be measured, not {url!r}")
        self._address = (parts.hostname, parts.port or 80)
        self._socket = self._open()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._head = f"Host: {parts.netloc}\r\n{lines}"
        self._prefix = parts.path.rstrip("/")
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def get(self, path: str, *, keep: bool = False) -> Reply:
        """GET ``path``; ``keep`` the body or only count it."""
        request = f"GET {self._prefix}{path} HTTP/1.1\r\n{self._head}\r\n".encode()
        return self._exchange(request, keep=keep)

    def post(self, path: str, body: object | None = None) -> Reply:
        """POST a JSON body, and keep the answer's."""
        data = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = f"POST {self._prefix}{path} HTTP/1.1\r\n{self._head}{kind}Content-Length: {len(data)}\r\n\r\n"
        return self._exchange(head.encode() + data, keep=True)

    def _open(self) -> socket.socket:
        opened = socket.create_connection(self._address, timeout=PATIENCE)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def _exchange(self, request: bytes, *, keep: bool) -> Reply:
        # A connection may have been closed while it waited, used or not; one opened for this request may not.
        for opened_for_this in (False, True):
            if opened_for_this:
                self._socket.close()
                self._socket = self._open()
            try:
                self._socket.sendall(request)
                return self._receive(keep=keep)
            except (_ClosedIdleError, ConnectionResetError, BrokenPipeError):
                pass
        raise WireError("the server closed the connection without an answer")

    def _receive(self, *, keep: bool) -> Reply:
        head, rest = self._receive_head()
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ", 2)[1])
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = _Body(keep=keep or status >= 400)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            self._receive_chunked(rest, body)
        else:
            self._receive_counted(rest, int(fields.get("content-length", "0")), body)
        return body.reply(status)

    def _receive_head(self) -> tuple[bytes, memoryview]:
        filled = 0
        while (end := self._buffer.find(b"\r\n\r\n", 0, filled)) < 0:
            if not filled:
                filled = self._socket.recv_into(self._view)
                if not filled:
                    raise _ClosedIdleError
            else:
                filled += self._more(self._view[filled:])
        return bytes(self._view[:end]), self._view[end + 4 : filled]

    def _receive_counted(self, data: memoryview, size: int, body: _Body) -> None:
        if data:
            body.take(data)
        while body.size < size:
            got = self._more(self._view[: min(BUFFER, size - body.size)])
            body.take(self._view[:got])

    def _receive_chunked(self, data: memoryview, body: _Body) -> None:
        left = 0  # of the current chunk, the line end after it included
        line = bytearray()
        while True:
            while data:
                if left > 2:
                    part = data[: left - 2]
                    body.take(part)
                    left -= len(part)
                    data = data[len(part) :]
                elif left:
                    part = data[:left]
                    left -= len(part)
                    data = data[len(part) :]
                else:
                    line.append(data[0])
                    data = data[1:]
                    if line.endswith(b"\r\n"):
                        size = int(line.split(b";")[0], 16)
                        line.clear()
                        if size == 0:
                            self._receive_trailers(data)
                            return
                        left = size + 2
            data = self._view[: self._more(self._view)]

    def _receive_trailers(self, data: memoryview) -> None:
        seen = bytes(data)
        while not (seen == b"\r\n" or seen.endswith(b"\r\n\r\n")):
            seen += bytes(self._view[: self._more(self._view)])

    def _more(self, view: memoryview) -> int:
        if not view:
            raise WireError("an answer's head is larger than the buffer")
        got = self._socket.recv_into(view)
        if not got:
            raise WireError("the server closed the connection in the middle of an answer")
        return got


class _Body:
    """The kept bytes of a body, and the times of its parts."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._parts: list[bytes] = []
        self._prefix = b""
        self._rows_from: int | None = None
        self.size = 0
        self._first_byte: float | None = None
        self._first_rows: float | None = None

    def take(self, data: memoryview) -> None:
        if self._first_byte is None:
            self._first_byte = time.perf_counter()
        if self._first_rows is None:
            self._look_for_rows(data)
        if self._keep:
            self._parts.append(bytes(data))
        self.size += len(data)

    def _look_for_rows(self, data: memoryview) -> None:
        # Arrow IPC, encapsulated messages: 0xFFFFFFFF, then the little-endian length of the padded metadata.
        if self._rows_from is None:
            self._prefix = (self._prefix + bytes(data[:PREFIX]))[:PREFIX]
            if len(self._prefix) < PREFIX or self._prefix[:4] != b"\xff\xff\xff\xff":
                return
            self._rows_from = PREFIX + int.from_bytes(self._prefix[4:], "little")
        if self.size + len(data) > self._rows_from:
            self._first_rows = time.perf_counter()

    def reply(self, status: int) -> Reply:
        now = time.perf_counter()
        body = b"".join(self._parts)
        return Reply(status, body, self.size, self._first_byte or now, self._first_rows, now)

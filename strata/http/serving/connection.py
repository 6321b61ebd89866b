"""Serve one connection from its first byte to its last, with deadlines for what its client must send.

Until its first byte arrives a connection is a single waiting task; thousands of silent ones cost little. Then
a deadline bounds each wait for a request's head or for the next request. The deadlines of request bodies are
in the front door, those of response bytes in the stream.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import attrs
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext

from strata.http.asgi import KNOWN_KEY, LOADS_KEY, STOPPING_KEY, App
from strata.http.serving.connection_table import ConnectionCounters, ConnectionTable
from strata.http.serving.protocol import Protocol, Tasks
from strata.http.serving.socket_stream import Bytes, DeadlineStream
from strata.work import FileRange

MAX_RECV = 64 * 1024
"""Most bytes of one read from the socket."""

LINGER_SECONDS = 2.0
"""Seconds for which a connection closed early is still read: if it were closed with unread bytes, the kernel
would discard the response being sent."""

FIRST_BYTE_SECONDS = 1.0
"""Seconds for which a stopping server waits for the first byte of a connection that was just accepted."""

TlsStream: TypeAlias = "trio.SSLStream[DeadlineStream]"

Address: TypeAlias = tuple[str, int]


@attrs.frozen
class ClientTimeouts:
    """Deadlines for clients, in seconds; a connection that misses one is closed.

    Attributes:
        idle: Wait for the next request. Longer than the proxy keeps its connections (nginx: 60 s), else the
            proxy sends a request just when the server closes.
        head: Wait for a whole request head, from its first byte; for the first head of a new connection from
            the accept, the TLS handshake included.
        stall: Wait for the client to take any of the bytes sent.
    """

    idle: float = 75.0
    head: float = 10.0
    stall: float = 60.0


@attrs.frozen(eq=False)
class ServerContext:
    """State shared by all connections of a server.

    Attributes:
        app: ASGI application.
        config: Hypercorn's configuration.
        context: Hypercorn's; its ``terminated`` is set when the server stops.
        timeouts: The deadlines.
        counters: Counts connections that are cut, by reason.
        table: Notes whether a connection can be spared, and whether its client has an identity.
        leaving: Returns whether the server will stop soon: each answer is the last of its connection.
    """

    app: App
    config: Config
    context: WorkerContext
    timeouts: ClientTimeouts
    counters: ConnectionCounters
    table: ConnectionTable[Connection]
    leaving: Callable[[], bool] = lambda: False

    def answers_are_last(self) -> bool:
        """Return whether the server stops now or soon."""
        return self.context.terminated.is_set() or self.leaving()


class Connection:
    """An accepted connection.

    Args:
        server: State shared with other connections.
        stream: Stream of the connection's socket.
        client: Peer's address; None on a Unix socket.
        tls: TLS context of the server; None without TLS.
    """

    def __init__(
        self,
        server: ServerContext,
        stream: DeadlineStream,
        client: Address | None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client = client
        self._server = server
        self._raw = stream
        self._stream: DeadlineStream | TlsStream = stream
        if tls is not None:
            self._stream = trio.SSLStream(stream, tls, server_side=True)
        self._all = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._sending = trio.Lock()
        self._known = False
        self._under_way = False
        self._lingers = False
        self._late = "silent"
        self._protocol: Protocol | None = None
        self._tasks: Tasks | None = None

    def __repr__(self) -> str:
        return f"<Connection of {self._client}, {self._late or 'busy'}>"

    async def run(self) -> None:
        """Serve the connection until it ends, and close its socket."""
        try:
            with self._all:
                self._reading.deadline = trio.current_time() + self._server.timeouts.head
                first = b""
                with self._reading:
                    if isinstance(self._stream, trio.SSLStream):
                        await self._stream.do_handshake()
                    first = await self._receive()
                self._note_late()
                if first:
                    await self._serve(first)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the handshake failed
        finally:
            with trio.CancelScope() as scope:
                scope.cancel()  # close at once: the orderly end is over
                await self._raw.aclose()
            # Protocol and tasks refer to each other: uncut, the cycle would wait for garbage collection.
            self._protocol = None
            if self._tasks is not None:
                self._tasks.end()

    async def _serve(self, first: bytes) -> None:
        socket = self._raw.socket
        stopping = self._server.context.terminated.wait
        state: dict[str, object] = {KNOWN_KEY: self._become_known, STOPPING_KEY: stopping}
        if self._stream is self._raw:
            state[LOADS_KEY] = True
        async with trio.open_nursery() as nursery:
            tasks = self._tasks = Tasks(nursery)
            self._protocol = Protocol(
                self._server.app,
                self._server.config,
                self._server.context,
                tasks,
                tls=self._stream is not self._raw,
                client=self._client,
                server=address(socket.getsockname()),
                state=state,
                send=self._send,
                last=self._server.answers_are_last,
            )
            deadline = self._reading.deadline
            with trio.CancelScope(deadline=deadline) as self._reading:
                await self._read(first, self._protocol)
            self._note_late()
            with trio.move_on_after(LINGER_SECONDS):
                await self._end()
            await self._protocol.handle(Closed())

    async def _read(self, data: bytes, protocol: Protocol) -> None:
        while data:
            if not self._under_way:
                self._begin_head()
            if not protocol.last:
                await protocol.handle(RawData(data))
                self._restage()
            data = await self._receive()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(MAX_RECV))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _end(self) -> None:
        while self._lingers and await self._receive():
            pass
        with suppress(trio.BrokenResourceError, trio.BusyResourceError):
            await self._stream.aclose()

    async def _send(self, event: Event) -> None:
        """Handle an event of Hypercorn's protocol: bytes to send, the end, a request's begin or end."""
        assert self._protocol is not None
        if isinstance(event, RawData):
            left: Bytes = event.data
            if self._stream is self._raw and not self._sending.locked():
                left = self._raw.send_now(left)
            if not left:
                return
            try:
                self._sending.acquire_nowait()
            except trio.WouldBlock:
                await self._sending.acquire()
            try:
                with trio.CancelScope(
                    shield=True
                ):  # a response cut in the middle must not be followed by another
                    await self._write(left)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._protocol.handle(Closed())
            finally:
                self._sending.release()
        elif isinstance(event, Closed):
            await self._finish(self._protocol)
        elif isinstance(event, Updated):
            self._under_way = not event.idle
            if event.idle and self._protocol.begun:
                self._expect("slow head", self._server.timeouts.head)
            elif event.idle:
                self._expect("idle", self._server.timeouts.idle)
            else:
                self._expect("", math.inf)
            self._restage()

    async def _write(self, data: Bytes) -> None:
        if isinstance(self._stream, DeadlineStream):
            await self._stream.send_all(data)
            return
        for piece in [data] if isinstance(data, bytes | memoryview) else data:
            assert not isinstance(piece, FileRange)  # only plain sockets send file ranges: see LOADS_KEY
            await self._stream.send_all(piece)

    async def _finish(self, protocol: Protocol) -> None:
        """End the connection after a response; if a request is still arriving, read it for a moment."""
        self._lingers = not protocol.whole or protocol.begun
        if self._lingers and self._stream is self._raw:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
                await self._raw.send_eof()
        self._late = ""
        self._reading.cancel()

    def _begin_head(self) -> None:
        if self._late == "idle":
            self._expect("slow head", self._server.timeouts.head)
        elif self._late == "silent":
            self._late = "slow head"  # the deadline counts from the accept

    def _expect(self, what: str, seconds: float) -> None:
        self._late = what
        self._reading.deadline = trio.current_time() + seconds

    def _note_late(self) -> None:
        if self._reading.cancelled_caught and self._late:
            self._server.counters.note(self._late)

    def _become_known(self) -> None:
        if not self._known:
            self._known = True
            self._restage()

    def _restage(self) -> None:
        assert self._protocol is not None
        busy = self._under_way and (self._known or self._protocol.whole)
        self._server.table.note(self, idle=not busy, known=self._known)

    def break_off(self) -> None:
        """Close the connection at once, also in the middle of a response."""
        self._raw.break_off()
        self._all.cancel()

    def end_if_idle(self) -> None:
        """Close the connection if no byte of a request has arrived; a new one has a moment for it."""
        if self._late == "silent":
            soon = trio.current_time() + FIRST_BYTE_SECONDS
            self._reading.deadline = min(self._reading.deadline, soon)
        elif self._late == "idle":
            self._late = ""
            self._reading.cancel()


def address(name: object) -> Address | None:
    """Return host and port of a socket's name, as in ASGI; None for a Unix socket."""
    return (name[0], name[1]) if isinstance(name, tuple) else None

"""Our own thin loop around Hypercorn's connection handler.

Hypercorn writes to a client inside a shield and without a deadline, so a client that stops reading would hold
its memory, and a shutdown, for as long as it likes. Here every connection's stream has a deadline for
*progress*, inside that shield, and can be broken from outside when the grace of a shutdown is over.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import cast

import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app

from strata.http.asgi import App

STALL_SECONDS = 60.0
"""How long a client may take none of the bytes it is sent before its connection is broken."""

NOTSENT_LOWAT = 4 * 1024 * 1024
"""Unsent bytes the kernel may hold for a connection: Trio's 16 KiB halves the throughput of large streams."""

HEADER_BYTES = 32 * 1024
"""Largest request head."""

JOIN_BYTES = 16 * 1024
"""Pieces that are smaller together go out as one packet."""

BACKLOG = 1024

log = structlog.get_logger(__name__)


class _LeanConnection(h11.Connection):
    """An h11 connection for streams of large chunks and for small answers.

    The pieces of a chunk are handed out as they are instead of joined into a copy, and the head of an answer
    goes out together with the first bytes of its body.
    """

    _head: tuple[bytes, ...] = ()

    def send(self, event: h11.Event) -> list[bytes] | None:  # type: ignore[override]  # our stream takes both
        """Return the bytes of ``event``, in pieces; those of a response's head with the event after it."""
        pieces = self.send_with_data_passthrough(event)
        if isinstance(event, h11.Response):
            self._head = tuple(pieces or ())
            return []
        if self._head and pieces is not None:
            pieces[:0] = self._head
            self._head = ()
        return pieces


class _Connection(TCPServer):
    """Hypercorn's connection handler, whose HTTP/1.1 bodies are not copied on their way out."""

    @property
    def protocol(self) -> ProtocolWrapper:
        """The protocol of the connection; Hypercorn sets it before the first byte is read."""
        return self._protocol

    @protocol.setter
    def protocol(self, value: ProtocolWrapper) -> None:
        self._protocol = value
        if isinstance(value.protocol, H11Protocol):
            value.protocol.connection = _LeanConnection(
                h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
            )


class PatientStream(trio.abc.HalfCloseableStream):
    """A socket stream whose writes must make progress.

    Args:
        stream: The stream of an accepted connection.
        stall_seconds: How long the peer may accept nothing of a write.
    """

    def __init__(self, stream: trio.SocketStream, stall_seconds: float) -> None:
        self._stream = stream
        self.socket = stream.socket
        self._stall_seconds = stall_seconds
        self._writing: trio.CancelScope | None = None
        self._broken = False
        if hasattr(trio.socket, "TCP_NOTSENT_LOWAT") and stream.socket.family != trio.socket.AF_UNIX:
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)

    async def send_all(self, data: bytes | bytearray | memoryview | list[bytes]) -> None:
        """Send everything, in one piece or several, as long as the peer keeps taking some of it.

        Raises:
            trio.BrokenResourceError: If the peer stalled, is gone, or the stream was broken off.
        """
        pieces = data if isinstance(data, list) else [data]
        if len(pieces) > 1 and sum(map(len, pieces)) <= JOIN_BYTES:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            if piece:
                await self._send_piece(memoryview(piece))

    async def _send_piece(self, view: memoryview) -> None:
        while view:
            if self._broken:
                raise trio.BrokenResourceError("the connection was broken off")
            sent = 0
            with trio.CancelScope(deadline=trio.current_time() + self._stall_seconds) as self._writing:
                sent = await self._send(view)
            if self._writing.cancelled_caught:
                if not self._broken:
                    log.warning("client stalled", seconds=self._stall_seconds, unsent=len(view))
                    self._sever()
                raise trio.BrokenResourceError("the peer takes no more bytes")
            self._writing = None
            view = view[sent:]

    async def _send(self, view: memoryview) -> int:
        try:
            return await self.socket.send(view)
        except OSError as error:
            if self.socket.fileno() == -1:
                raise trio.ClosedResourceError("the connection was closed") from None
            raise trio.BrokenResourceError(f"the connection broke: {error}") from error

    def break_off(self) -> None:
        """Make the write under way, and every later one, fail."""
        self._sever()
        if self._writing is not None:
            self._writing.cancel()

    def _sever(self) -> None:
        """End both directions, so that Hypercorn's reader wakes, and drop what the kernel still holds."""
        self._broken = True
        with suppress(OSError):  # the peer may have gone in the meantime, which is what is wanted
            self.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(trio.socket.SHUT_RDWR)

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See :class:`trio.abc.ReceiveStream`."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """See :class:`trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


async def serve(
    app: App,
    binds: Sequence[tuple[str, int]],
    *,
    stop: Callable[[], Awaitable[object]],
    grace: float,
    stall_seconds: float = STALL_SECONDS,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``stop`` returns, then let requests end within ``grace`` seconds.

    Args:
        app: An ASGI application without lifespan.
        binds: Host and port of each listener; port 0 picks one.
        stop: Awaited; its return begins the shutdown.
        grace: Seconds for requests under way. Whatever is left then is broken off.
        stall_seconds: See :class:`PatientStream`.
        task_status: Told the URLs that are bound.

    Raises:
        OSError: If an address cannot be bound.
    """
    config = _hypercorn_config()
    wrapped = wrap_app(cast("ASGIFramework", app), config.wsgi_max_body_size, "asgi")
    context = WorkerContext(None)
    streams: set[PatientStream] = set()

    async def handle(stream: trio.SocketStream) -> None:
        patient = PatientStream(stream, stall_seconds)
        streams.add(patient)
        try:
            await _Connection(wrapped, config, context, ConnectionState({}), patient)  # type: ignore[arg-type]
        finally:
            streams.discard(patient)

    listeners: list[trio.SocketListener] = []
    for host, port in binds:
        listeners += await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    stopping = trio.Event()
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as connections:
            outer.start_soon(_break_off, stopping, grace, streams, connections.cancel_scope)
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(partial(_accept, listener, handle, connections))
                task_status.started([_url(listener) for listener in listeners])
                await stop()
                accepting.cancel_scope.cancel()
            stopping.set()
            await context.terminated.set()  # idle connections close now
        outer.cancel_scope.cancel()


async def _accept(
    listener: trio.SocketListener,
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    await trio.serve_listeners(handle, [listener], handler_nursery=nursery)


async def _break_off(
    stopping: trio.Event, grace: float, streams: set[PatientStream], connections: trio.CancelScope
) -> None:
    """When the grace is over, or everything is cancelled, end what Hypercorn shields."""
    try:
        await stopping.wait()
        await trio.sleep(grace)
        log.warning("connections broken off", connections=len(streams), grace=grace)
    finally:
        for stream in tuple(streams):
            stream.break_off()
        connections.cancel()


def _url(listener: trio.SocketListener) -> str:
    host, port, *_ = listener.socket.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _hypercorn_config() -> Config:
    config = Config()
    config.errorlog = None
    config.accesslog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = HEADER_BYTES
    config.h2_max_header_list_size = HEADER_BYTES
    return config

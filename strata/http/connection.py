"""One client's connection: Hypercorn's handler with deadlines of our own around it.

Hypercorn writes to a client inside a shield and without a deadline, so a client that stops reading would hold
its memory, and a shutdown, for as long as it likes. Here every connection's stream has a deadline for
*progress*, inside that shield, and can be broken from outside. And a request's head has a deadline from its
first byte: a byte now and then would keep a connection open for good.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import suppress

import attrs
import h11
import structlog
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

NOTSENT_LOWAT = 4 * 1024 * 1024
"""Unsent bytes the kernel may hold for a connection: Trio's 16 KiB halves the throughput of large streams."""

HEADER_BYTES = 32 * 1024
"""Largest request head."""

JOIN_BYTES = 16 * 1024
"""Pieces that are smaller together go out as one packet."""

RECEIVE_BYTES = 65536

log = structlog.get_logger(__name__)


@attrs.frozen
class Patience:
    """How long a connection waits for its client, in seconds.

    Attributes:
        idle: For the next request. Longer than the proxy keeps its connections (nginx: 60 s), or the proxy
            sends a request just when we close.
        head: For a request's head, from its first byte; and for the first byte of a new connection.
        stall: For the client to take any of the bytes it is sent.
    """

    idle: float = 75.0
    head: float = 10.0
    stall: float = 60.0


class HttpOne(h11.Connection):
    """An h11 connection for streams of large chunks and for small answers, and for HTTP/1.1 only.

    The pieces of a chunk are handed out as they are instead of joined into a copy, and the head of an answer
    goes out together with the first bytes of its body. Hypercorn would go over to HTTP/2 in the clear when a
    client asks for it, and past every limit of this module; that wish is not heard.

    Attributes:
        lean: Hand out pieces; only our own stream takes them.
    """

    lean = True
    _head: tuple[bytes, ...] = ()

    def next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        """Return the next event; a request without its wish for HTTP/2."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            if event.method == b"PRI":
                raise h11.RemoteProtocolError("HTTP/2 is not spoken here")
            if any(name == b"upgrade" and b"h2c" in value.lower() for name, value in event.headers):
                pairs = [
                    (name, value)
                    for name, value in event.headers
                    if name not in (b"upgrade", b"http2-settings", b"connection")
                ]
                return h11.Request(
                    method=event.method, target=event.target, headers=pairs, http_version=event.http_version
                )
        return event

    def send(self, event: h11.Event) -> list[bytes] | bytes | None:  # type: ignore[override]  # our stream takes both
        """Return the bytes of ``event``, in pieces; those of a response's head with the event after it."""
        if not self.lean:
            return super().send(event)
        pieces = self.send_with_data_passthrough(event)
        if isinstance(event, h11.Response):
            self._head = tuple(pieces or ())
            return []
        if self._head and pieces is not None:
            pieces[:0] = self._head
            self._head = ()
        return pieces


class Connection(TCPServer):
    """Hypercorn's connection handler, with deadlines, and without copies on the way out.

    Args:
        app: The application, wrapped by Hypercorn.
        config: Hypercorn's configuration.
        context: Hypercorn's context of the whole server.
        stream: The stream, or TLS on top of it.
        patience: The deadlines.
        changed: Called with whether it is idle now, when that changes.
    """

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        stream: PatientStream | trio.SSLStream[PatientStream],
        *,
        patience: Patience,
        changed: Callable[[bool], None],
    ) -> None:
        super().__init__(app, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]  # a stream
        self._patience = patience
        self._changed = changed
        self._over = False

    @property
    def protocol(self) -> ProtocolWrapper:
        """The protocol of the connection; Hypercorn sets it before the first byte is read."""
        return self._protocol

    @protocol.setter
    def protocol(self, value: ProtocolWrapper) -> None:
        self._protocol = value
        assert isinstance(value.protocol, H11Protocol)
        found = HttpOne(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)
        found.lean = isinstance(self.stream, PatientStream)
        value.protocol.connection = found

    async def protocol_send(self, event: Event) -> None:
        """See Hypercorn; whether a request is under way is news for others, too."""
        if isinstance(event, Updated):
            self._changed(event.idle)
            if self._over and event.idle:
                return  # there will be no next request to wait for
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        deadline = trio.current_time() + self._patience.head
        while True:
            data: bytes | bytearray | None = None
            with trio.CancelScope(deadline=deadline) as scope:
                try:
                    data = await self.stream.receive_some(RECEIVE_BYTES)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
            if scope.cancelled_caught:
                log.info("slow client cut", waited_for="request head", seconds=self._patience.head)
                break
            assert data is not None
            await self.protocol.handle(RawData(bytes(data)))
            if not data:
                break
            if not self._inside_head():
                deadline = math.inf
            elif deadline == math.inf:
                deadline = trio.current_time() + self._patience.head
        # Hypercorn would keep the connection until its idle timer ends.
        self._over = True
        await self.idle_task.stop()
        await self.protocol.handle(Closed())

    def _inside_head(self) -> bool:
        """Whether a part of a request's head has arrived."""
        found = self.protocol.protocol.connection
        return isinstance(found, HttpOne) and found.their_state is h11.IDLE and bool(found.trailing_data[0])


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

"""Send and receive on a socket, with a progress deadline for writes and a way to break them off.

The protocol writes inside a shield, so that cancellation cannot cut a response in the middle and go on. So
the two bounds of a write are here: the deadline for progress, and :meth:`DeadlineStream.break_off` at the end
of a shutdown's grace period.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias, cast

import structlog
import trio

from strata.work import FileRange
from strata.work.socket_sender import RevokedError, ShortFileError

NOTSENT_LOWAT = 4 * 1024 * 1024
"""Unsent bytes the kernel may hold for a connection; Trio's 16 KiB halves the throughput of large streams."""

JOIN_BYTES = 16 * 1024
"""Most bytes of pieces that are joined and sent as one packet."""

log = structlog.get_logger(__name__)

Bytes: TypeAlias = "bytes | memoryview | Sequence[bytes | FileRange]"
"""Data to write, in one piece or in several."""


class DeadlineStream(trio.abc.HalfCloseableStream):
    """A socket stream whose writes must make progress.

    Args:
        stream: Stream of an accepted connection.
        stall_seconds: Seconds in which the peer must take at least one byte of a write.
    """

    def __init__(self, stream: trio.SocketStream, stall_seconds: float) -> None:
        self._stream = stream
        self.socket = stream.socket
        self._stall_seconds = stall_seconds
        self._writing: trio.CancelScope | None = None
        self._broken = False
        self._more = False
        if hasattr(trio.socket, "TCP_NOTSENT_LOWAT") and stream.socket.family != trio.socket.AF_UNIX:
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)

    async def send_all(self, data: Bytes | bytearray) -> None:
        """Send all of ``data``, for as long as the peer makes progress.

        Raises:
            trio.BrokenResourceError: If the peer stalled or is gone, the stream was broken off, or a file
                range cannot be read.
            trio.ClosedResourceError: If the socket was closed meanwhile.
        """
        pieces = [data] if isinstance(data, bytes | bytearray | memoryview) else data
        for piece in pieces:
            if isinstance(piece, FileRange):
                await self._send_range(piece)
            elif piece:
                await self._send_piece(memoryview(piece))

    def send_now(self, data: Bytes) -> Bytes:
        """Send small data as one packet, as far as the kernel takes it now; return the rest.

        Trio's ``send_all`` yields even when it need not wait: on a busy loop each small response would wait
        for a whole pass. Errors are left to :meth:`send_all` of the rest, which reports them.
        """
        if not isinstance(data, bytes | memoryview):
            if sum(map(len, data)) > JOIN_BYTES or _has_range(data):
                return data
            data = b"".join(cast("Sequence[bytes]", data))
        if len(data) > JOIN_BYTES:
            return data
        return memoryview(data)[self._send_at_once(data) :]

    def _send_at_once(self, data: bytes | memoryview) -> int:
        if self._broken or not data:
            return 0
        try:
            return os.write(self.socket.fileno(), data)
        except OSError:
            return 0

    async def _send_piece(self, view: memoryview) -> None:
        if len(view) <= JOIN_BYTES:
            view = view[self._send_at_once(view) :]
        while view:
            with self._progress(len(view)):
                sent = await self.socket.send(view)
            view = view[sent:]

    async def _send_range(self, left: FileRange) -> None:
        while left:
            with self._progress(len(left)):
                await left.send_some(self.socket)
                if left:
                    await trio.lowlevel.wait_writable(self.socket)

    @contextmanager
    def _progress(self, unsent: int) -> Iterator[None]:
        """Bound one step of a write by the progress deadline, and translate its errors."""
        if self._broken:
            raise trio.BrokenResourceError("the connection was broken off")
        try:
            with trio.CancelScope(deadline=trio.current_time() + self._stall_seconds) as self._writing:
                yield
        except ShortFileError:
            log.exception("stored result cannot be sent")
            self._sever()
            raise trio.BrokenResourceError("the rest of the answer cannot be read") from None
        except RevokedError as error:
            self._sever()
            raise trio.BrokenResourceError(str(error)) from None
        except OSError as error:
            if self.socket.fileno() == -1:
                raise trio.ClosedResourceError("the connection was closed") from None
            raise trio.BrokenResourceError(f"the connection broke: {error}") from error
        if self._writing.cancelled_caught:
            if not self._broken:
                log.warning("client stalled", seconds=self._stall_seconds, unsent=unsent)
                self._sever()
            raise trio.BrokenResourceError("the peer takes no more bytes")
        self._writing = None

    def break_off(self) -> None:
        """Make the present write and every later one fail."""
        self._sever()
        if self._writing is not None:
            self._writing.cancel()

    def _sever(self) -> None:
        """Shut down both directions, which wakes the reader, and discard the bytes the kernel still holds."""
        self._broken = True
        with suppress(OSError):  # the peer may be gone already, which has the same effect
            self.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.shutdown(trio.socket.SHUT_RDWR)

    async def wait_send_all_might_not_block(self) -> None:
        """See :class:`trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See :class:`trio.abc.ReceiveStream`.

        Trio's stream reads before it waits. After a request there is usually nothing to read yet, so this
        method waits first, unless the previous read was full.
        """
        if max_bytes is None or self._more or self.socket.fileno() == -1:
            data = await self._stream.receive_some(max_bytes)
        else:
            try:
                await trio.lowlevel.wait_readable(self.socket)
                data = os.read(self.socket.fileno(), max_bytes)
            except BlockingIOError:  # spurious readiness: select(2), "BUGS"
                data = await self._stream.receive_some(max_bytes)
            except OSError as error:
                raise trio.BrokenResourceError(f"the connection broke: {error}") from error
        self._more = len(data) == max_bytes
        return data

    async def send_eof(self) -> None:
        """See :class:`trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


def _has_range(pieces: Sequence[object]) -> bool:
    return FileRange in map(type, pieces)

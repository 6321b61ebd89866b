"""A socket's stream whose writes must make progress, and which can be broken off from outside.

Hypercorn's protocol is written to inside a shield: cancellation must not cut an answer in the middle
and go on. So whatever bounds a write has to be in here: the deadline for progress, and the end of a
shutdown's grace.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import TypeAlias, cast

import structlog
import trio

from strata.work import FileRange
from strata.work.socket_sender import ShortFileError

NOTSENT_LOWAT = 4 * 1024 * 1024
"""Unsent bytes the kernel may hold for a connection: Trio's 16 KiB halves the throughput of large streams."""

JOIN_BYTES = 16 * 1024
"""Pieces that are smaller together go out as one packet."""

TOGETHER_BYTES = 128 * 1024
"""Pieces that are smaller together go out by one call, without being copied into one."""

log = structlog.get_logger(__name__)

Bytes: TypeAlias = "bytes | memoryview | Sequence[bytes | FileRange]"
"""What is written: in one piece, or in several."""


class DeadlineStream(trio.abc.HalfCloseableStream):
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
        self._more = False
        if hasattr(trio.socket, "TCP_NOTSENT_LOWAT") and stream.socket.family != trio.socket.AF_UNIX:
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)

    async def send_all(self, data: Bytes | bytearray) -> None:
        """Send everything, in one piece or several, as long as the peer keeps taking some of it.

        Raises:
            trio.BrokenResourceError: If the peer stalled, is gone, or the stream was broken off.
        """
        pieces = [data] if isinstance(data, bytes | bytearray | memoryview) else self._send_together(data)
        for piece in pieces:
            if isinstance(piece, FileRange):
                await self._send_load(piece)
            elif piece:
                await self._send_piece(memoryview(piece))

    def _send_together(self, pieces: Sequence[bytes | FileRange]) -> Sequence[bytes | memoryview | FileRange]:
        """Send what the kernel takes at once of the pieces before the first load; return what is left.

        Between two calls a thread may have the interpreter for half a millisecond: the head of an answer and
        its first bytes are not to wait for each other.
        """
        plain = list(takewhile(lambda piece: not isinstance(piece, FileRange), pieces))
        if self._broken or len(plain) <= 1 or sum(map(len, plain)) > TOGETHER_BYTES:
            return pieces
        try:
            sent = os.writev(self.socket.fileno(), cast("Sequence[bytes]", plain))
        except OSError:
            return pieces  # what is wrong with the stream, the next call finds out
        left: list[bytes | memoryview | FileRange] = []
        for piece in pieces:
            if isinstance(piece, FileRange):
                left.append(piece)
                continue
            left.append(memoryview(piece)[sent:])
            sent = max(0, sent - len(piece))
        return left

    def send_now(self, data: Bytes) -> Bytes:
        """Send what is small and what the kernel takes of it now, in one packet; return what is left.

        Trio's own way yields even when it need not wait. On a busy loop that is everybody else's work, before
        each small answer's end. What is wrong with the stream, :meth:`send_all` of the rest finds out.
        """
        if not isinstance(data, bytes | memoryview):
            if sum(map(len, data)) > JOIN_BYTES or _has_load(data):
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

    async def _send_load(self, load: FileRange) -> None:
        while load:
            with self._progress(len(load)):
                await load.send_some(self.socket)
                if load:
                    await trio.lowlevel.wait_writable(self.socket)

    @contextmanager
    def _progress(self, unsent: int) -> Iterator[None]:
        """Bound a step of a write."""
        if self._broken:
            raise trio.BrokenResourceError("the connection was broken off")
        try:
            with trio.CancelScope(deadline=trio.current_time() + self._stall_seconds) as self._writing:
                yield
        except ShortFileError:
            log.exception("stored result cannot be sent")
            self._sever()
            raise trio.BrokenResourceError("the rest of the answer cannot be read") from None
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
        """See :class:`trio.abc.ReceiveStream`.

        Trio's own way asks the kernel before it waits. After each request there is nothing yet, so this one
        waits first, unless there was more than it was asked for.
        """
        if max_bytes is None or self._more or self.socket.fileno() == -1:
            data = await self._stream.receive_some(max_bytes)
        else:
            try:
                await trio.lowlevel.wait_readable(self.socket)
                data = os.read(self.socket.fileno(), max_bytes)
            except BlockingIOError:  # ready for nothing: select(2), "BUGS"
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


def _has_load(pieces: Sequence[object]) -> bool:
    return any(isinstance(piece, FileRange) for piece in pieces)

"""Read the bytes of a result, whose blob may still be growing, at the reader's own pace.

A build writes its blob at full speed and readers follow it in the file: a slow reader delays neither the
build nor the release of its memory, and a reader that disconnects does not end the build.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate

import attrs
import pyarrow as pa
import structlog
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.shared.os_errors import error_name, refusal_of
from strata.work import EgressTurns, FileRange
from strata.work.egress_turns import LARGE_BYTES
from strata.work.socket_sender import LOAD_BYTES, READ_BYTES, WORTH_BYTES, ByteSource, RevokedError
from strata.work.threads import close_file

CHUNK = LARGE_BYTES
"""Most bytes of a chunk read from the file."""

HOT_BYTES = 4 * 1024 * 1024
"""Newest bytes of a growing blob that stay in memory for its readers; older ones are read from the file."""

HOT_CHUNK = 2
"""Factor by which a chunk from memory is larger than one from the file: its bytes are only joined."""

Parts = Sequence[bytes | pa.Buffer]
"""Consecutive buffers of a blob."""

_SHORT = Refused(Reason.DATA_UNREADABLE, "The stored result is shorter than it must be.")
_UNREADABLE = Refused(
    Reason.UNAVAILABLE, "The stored result cannot be read right now.", code="blob_unreadable", retry_after=1
)
log = structlog.get_logger(__name__)
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


def _read(descriptor: int, count: int, offset: int) -> bytes:
    """Read a file.

    Raises:
        RefusalError: UNAVAILABLE if the system cannot read it now.
    """
    try:
        return os.pread(descriptor, count, offset)
    except OSError as error:
        log.warning("result cannot be read", error=error_name(error))
        raise RefusalError(refusal_of(error, _UNREADABLE)) from None


class _Block:
    """Bytes of a growing blob that are in memory, in the buffers they were written from.

    Attributes:
        offset: Offset of the first byte in the blob.
        end: Offset after the last byte.
    """

    def __init__(self, offset: int, parts: Parts) -> None:
        self.offset = offset
        self._views = [memoryview(part).cast("B") for part in parts if len(part)]
        self._ends = list(accumulate((len(view) for view in self._views), initial=offset))[1:]
        self.end = self._ends[-1] if self._ends else offset

    def __len__(self) -> int:
        return self.end - self.offset

    def views(self, position: int, wanted: int) -> list[memoryview]:
        """Return at most ``wanted`` bytes from ``position``, which lies within the block, as views."""
        index, taken = bisect_right(self._ends, position), []
        while wanted and index < len(self._views):
            view = self._views[index]
            begin = position - (self._ends[index] - len(view))
            taken.append(view[begin : begin + wanted])
            position += len(taken[-1])
            wanted -= len(taken[-1])
            index += 1
        return taken


class Tail:
    """The state of a growing blob, updated by the build and awaited by its readers.

    Attributes:
        fd: A descriptor of the file, owned by the tail; -1 once closed.
        size: Bytes that can be read.
        ended: Whether the blob is complete or the build has failed.
        failure: The refusal of a failed build, else None.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0
        self.ended = False
        self.failure: Refused | None = None
        self._moved = trio.Event()
        self._hot: deque[_Block] = deque()
        self._hot_bytes = 0

    def keep(self, offset: int, parts: Parts, on_file: int) -> None:
        """Keep the blob's newest bytes in memory; drop the oldest beyond :data:`HOT_BYTES`.

        Args:
            offset: Offset of the bytes in the blob: the end of those kept before.
            parts: The bytes.
            on_file: Bytes of the blob that are in the file; the others are kept even beyond the bound.
        """
        block = _Block(offset, parts)
        self._hot.append(block)
        self._hot_bytes += len(block)
        while self._hot_bytes > HOT_BYTES and self._hot[0].end <= on_file:
            self._hot_bytes -= len(self._hot.popleft())

    def advance(self, size: int) -> None:
        """Announce that ``size`` bytes can be read."""
        self.size = size
        self._wake()

    def hot(self, position: int, wanted: int) -> list[memoryview] | int:
        """Return up to ``wanted`` bytes at ``position`` if they are in memory.

        Otherwise return the offset up to which the bytes are in the file.
        """
        found: list[memoryview] = []
        for block in self._hot:
            if position < block.offset:
                return found or block.offset
            if position < block.end:
                views = block.views(position, wanted)
                taken = sum(map(len, views))
                found += views
                position, wanted = position + taken, wanted - taken
                if not wanted:
                    break
        return found or self.size

    def end(self, failure: Refused | None = None) -> None:
        """Announce that the blob is complete, or that its build failed; later announcements are ignored."""
        if not self.ended:
            self.ended, self.failure = True, failure
            self._wake()

    def cool(self) -> None:
        """Drop all bytes in memory; they must be in the file."""
        self._hot.clear()
        self._hot_bytes = 0

    async def beyond(self, position: int) -> bool:
        """Wait for bytes after ``position``; return False if the blob ends there.

        Raises:
            RefusalError: If the build failed.
        """
        while self.size <= position:
            if self.failure is not None:
                raise RefusalError(self.failure)
            if self.ended:
                return False
            await self._moved.wait()
        return True

    async def whole(self) -> int:
        """Wait until the blob is complete; return its size in bytes.

        Raises:
            RefusalError: If the build failed.
        """
        while not self.ended:
            await self._moved.wait()
        if self.failure is not None:
            raise RefusalError(self.failure)
        return self.size

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    def close(self) -> None:
        """Close the descriptor (readers have their own) and drop the bytes in memory."""
        self.cool()
        descriptor, self.fd = self.fd, -1
        if descriptor >= 0:
            with suppress(OSError):  # a close that failed has closed all the same
                close_file(descriptor)


@attrs.frozen(eq=False)
class _ReadAhead:
    """Bytes already read from the disk, as the source of a file range."""

    data: bytes
    offset: int
    stream: ByteStream
    fd: int = -1

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        self.stream.check_socket()
        begin = position - self.offset
        return [memoryview(self.data)[begin : begin + wanted]], 0


@attrs.define(eq=False)
class ByteStream:
    """One reader's position in a blob.

    Attributes:
        fd: The reader's own descriptor, or -1 if ``head`` is the whole blob.
        start: Offset of the next byte.
        stop: Offset after the last byte; None while the blob grows.
        tail: The growing blob; None if the blob is finished.
        on_close: Called once, by :meth:`close`.
        on_end: Called once, by :meth:`delivered`.
        head: The first bytes, if they were read already.
        tenant: Tenant whose egress turns are taken.
        turns: The process's egress turns.
        refused: Why no further byte may be read: the caller's rights were taken away; None: they were not.
        address: Signed address of the object with the bytes, which a proxy fetches; nothing can be read here
            then. None: the stream has the bytes.
    """

    fd: int = -1
    start: int = 0
    stop: int | None = None
    tail: Tail | None = None
    on_close: Callable[[], None] | None = None
    on_end: Callable[[], None] | None = None
    head: bytes = b""
    tenant: str = ""
    turns: EgressTurns = attrs.field(factory=EgressTurns)
    refused: Refused | None = None
    address: str | None = attrs.field(default=None, repr=False)
    _closed: bool = False
    _probe: bytearray = attrs.field(factory=partial(bytearray, 1))

    @property
    def size(self) -> int | None:
        """Bytes from ``start`` to ``stop``; None while the blob grows."""
        return None if self.stop is None else self.stop - self.start

    def narrow(self, start: int, stop: int) -> None:
        """Restrict the stream to bytes ``start`` to ``stop`` (exclusive) of a finished blob."""
        self.head = self.head[start:stop] if start < len(self.head) else b""
        self.start, self.stop = start, stop

    async def whole(self) -> None:
        """Wait until the blob is complete, so that :attr:`size` is known.

        Raises:
            RefusalError: If the build failed.
        """
        if self.stop is None:
            assert self.tail is not None
            self.stop = await self.tail.whole()

    async def chunk(self, limit: int | None = None) -> bytes | None:
        """Return the next bytes, at most one egress turn's and at most ``limit``; None at the end.

        ``limit`` does not apply to :attr:`head`, which is returned whole.

        Raises:
            RefusalError: If the build failed, the stream is refused, or the file is shorter than recorded
                (DATA_UNREADABLE).
        """
        if self.head and self.refused is None:
            data, self.head = self.head, b""
            self.start += len(data)
            return data
        end = await self._readable_end()
        if end <= self.start:
            return None
        found = await self._in_turn(end if limit is None else min(end, self.start + limit))
        if isinstance(found, int):
            found = await trio.to_thread.run_sync(_read, self.fd, found, self.start)
        if not found:
            raise RefusalError(_SHORT)
        self.start += len(found)
        return found

    async def load(self) -> bytes | FileRange | None:
        """Return the next bytes for a socket: a file range from ``WORTH_BYTES`` on; None at the end.

        Raises:
            RefusalError: As :meth:`chunk` does.
        """
        end = await self._readable_end()
        if self.head or end - self.start < WORTH_BYTES:
            return await self.chunk()
        source: ByteSource = self
        count = min(LOAD_BYTES, end - self.start)
        _, on_file = self._locate(self.start, count)
        if on_file:
            count = min(count, on_file)
            if not self._cached(count):
                # Waits for the disk in a thread of its own: the sender's thread serves all connections.
                data = await trio.to_thread.run_sync(_read, self.fd, min(count, READ_BYTES), self.start)
                if not data:
                    raise RefusalError(_SHORT)
                count, source = len(data), _ReadAhead(data, self.start, self)
        found = FileRange(source, self.start, count, self.tenant, self.turns)
        self.start += count
        return found

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        """Return views of the bytes at ``position`` and 0, or no views and how many bytes the file has.

        Raises:
            RevokedError: If the stream is refused: a send under way cuts its connection.
        """
        self.check_socket()
        return self._locate(position, wanted)

    def refuse(self, refused: Refused) -> None:
        """Let no further byte be read: the reader's right was taken away."""
        self.refused = refused

    def check_socket(self) -> None:
        """Raise RevokedError if the stream is refused: no byte more goes to the socket."""
        if self.refused is not None:
            raise RevokedError(self.refused.detail)

    def _locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        end = position + wanted
        if self.tail is not None:
            found = self.tail.hot(position, wanted)
            if not isinstance(found, int):
                return found, 0
            end = min(end, found)
        return (), end - position

    async def _in_turn(self, end: int) -> bytes | int:
        """Return the next bytes if they are in memory, else how many to read from the disk."""
        await self.turns.take(self.tenant)
        try:
            if self.refused is not None:
                raise RefusalError(self.refused)
            found = self._from_memory(end, self.turns.chunk_bytes)
            await trio.lowlevel.checkpoint()
        finally:
            self.turns.give()
        return found

    def _from_memory(self, end: int, wanted: int) -> bytes | int:
        views, on_file = self._locate(self.start, min(HOT_CHUNK * wanted, end - self.start))
        if views:
            return b"".join(views)
        count = min(wanted, on_file)
        return _read(self.fd, count, self.start) if self._cached(count) else count  # page cache: microseconds

    async def _readable_end(self) -> int:
        """Return the offset up to which bytes can be read, after waiting for more than :attr:`start`.

        Raises:
            RefusalError: If the build failed, or the stream is refused.
        """
        if self.stop is None:
            assert self.tail is not None
            await self.tail.beyond(self.start)
        if self.refused is not None:
            raise RefusalError(self.refused)
        if self.stop is not None:
            return self.stop
        assert self.tail is not None
        return self.tail.size

    def _cached(self, count: int) -> bool:
        """Whether the next ``count`` bytes are in the page cache, judged by the first and the last one."""
        return self._in_memory(self.start) and self._in_memory(self.start + count - 1)

    def _in_memory(self, position: int) -> bool:
        """Whether the byte at ``position`` is in the page cache (``preadv2`` with ``RWF_NOWAIT``)."""
        try:
            return bool(_NOWAIT) and os.preadv(self.fd, [self._probe], position, _NOWAIT) == 1
        except OSError:
            return False  # not cached, or a file system that cannot tell: a thread reads it

    def delivered(self) -> None:
        """Note that the last byte was sent; does nothing when repeated."""
        call, self.on_end = self.on_end, None
        if call is not None:
            call()

    def close(self) -> None:
        """Close the descriptor and call :attr:`on_close`; does nothing when repeated."""
        if not self._closed:
            self._closed = True
            if self.fd >= 0:
                with suppress(OSError):  # a close that failed has closed all the same
                    close_file(self.fd)
            on_close, self.on_close = self.on_close, None  # it may refer back to this stream
            if on_close is not None:
                on_close()

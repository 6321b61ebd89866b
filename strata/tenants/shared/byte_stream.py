"""Bytes of a result on their way out: a blob that may still be growing, read at the reader's own pace.

A build writes its blob at full speed and a reader follows it in the file, so a slow reader holds back
neither the build nor its memory, and one that leaves fails nothing.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

import attrs
import pyarrow as pa
import trio

from strata.outcomes import Reason, RefusalError, Refused
from strata.work import EgressTurns, FileRange
from strata.work.egress_turns import LARGE_BYTES
from strata.work.socket_sender import LOAD_BYTES, READ_BYTES, WORTH_BYTES, ByteSource
from strata.work.threads import close_file

CHUNK = LARGE_BYTES
"""Most bytes of a chunk out of the file."""

HOT_BYTES = 4 * 1024 * 1024
"""Newest bytes of a growing blob that stay in memory for those who follow it closely."""

HOT_CHUNK = 2
"""A chunk out of memory is so many times as large: its bytes are only joined."""

Parts = Sequence[bytes | pa.Buffer]
"""Pieces of a blob, one after the other."""

_SHORT = Refused(Reason.DATA_UNREADABLE, "The stored result is shorter than it must be.")
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class _Block:
    """Bytes of a growing blob that are still in memory, in the pieces they were written in.

    Attributes:
        offset: Where they begin in the blob.
        end: Where the next ones do.
    """

    def __init__(self, offset: int, parts: Parts) -> None:
        self.offset = offset
        self._views = [memoryview(part).cast("B") for part in parts if len(part)]
        self._ends = list(accumulate((len(view) for view in self._views), initial=offset))[1:]
        self.end = self._ends[-1] if self._ends else offset

    def __len__(self) -> int:
        return self.end - self.offset

    def views(self, position: int, wanted: int) -> list[memoryview]:
        """Return at most ``wanted`` bytes from ``position``, which lies inside of it, in pieces."""
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
    """How far a growing blob is, and how it ended; the build's side.

    Attributes:
        fd: A descriptor of the file, owned by the tail.
        size: Bytes that can be read.
        ended: All bytes are there, or the build failed.
        failure: Why the build failed.
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
        """Keep the blob's newest bytes in memory, next to those kept before.

        Args:
            offset: Of the bytes in the blob: where those before end.
            parts: The bytes.
            on_file: How many of the blob's bytes are in the file: what is not is kept whatever it takes.
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
        """Return up to ``wanted`` bytes at ``position`` if they are in memory; else where the file's end."""
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
        """Announce that no more bytes will come. The first announcement counts."""
        if not self.ended:
            self.ended, self.failure = True, failure
            self._wake()

    def cool(self) -> None:
        """Keep nothing in memory any more: all of it is in the file."""
        self._hot.clear()
        self._hot_bytes = 0

    async def beyond(self, position: int) -> bool:
        """Wait for bytes after ``position``; False when the blob ends there.

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
        """Wait for the blob's end; returns its size.

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
        """Give the descriptor and the memory back; readers hold their own descriptor."""
        self.cool()
        if self.fd >= 0:
            close_file(self.fd)
            self.fd = -1


@attrs.frozen(eq=False)
class _Bytes:
    """Bytes that were read ahead, for a load."""

    data: bytes
    offset: int
    fd: int = -1

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        begin = position - self.offset
        return [memoryview(self.data)[begin : begin + wanted]], 0


@attrs.define(eq=False)
class ByteStream:
    """One reader's place in a blob.

    Attributes:
        fd: A descriptor of its own, or -1 when ``head`` is the whole blob.
        start: First byte.
        stop: Byte after the last; None while the blob grows.
        on_close: Called once when the reader is done or gone.
        head: The first bytes, read ahead.
        tenant: Whose it is.
        turns: Whose bytes leave next.
    """

    fd: int = -1
    start: int = 0
    stop: int | None = None
    tail: Tail | None = None
    on_close: Callable[[], None] | None = None
    head: bytes = b""
    tenant: str = ""
    turns: EgressTurns = attrs.field(factory=EgressTurns)
    _closed: bool = False
    _probe: bytearray = attrs.field(factory=partial(bytearray, 1))

    @property
    def size(self) -> int | None:
        """Bytes from start to stop, when known."""
        return None if self.stop is None else self.stop - self.start

    def narrow(self, start: int, stop: int) -> None:
        """Read only bytes ``start`` to ``stop`` (exclusive) of a finished blob."""
        self.head = self.head[start:stop] if start < len(self.head) else b""
        self.start, self.stop = start, stop

    async def whole(self) -> None:
        """Wait until the blob grows no more, so that its :attr:`size` is known.

        Raises:
            RefusalError: If the build failed.
        """
        if self.stop is None:
            assert self.tail is not None
            self.stop = await self.tail.whole()

    async def chunk(self, most: int | None = None) -> bytes | None:
        """Return the next bytes, as many as a turn has and no more than ``most``, or None at the end.

        Raises:
            RefusalError: If the build failed, or the blob is shorter than it must be.
        """
        if self.head:
            data, self.head = self.head, b""
            self.start += len(data)
            return data
        limit = await self._limit()
        if limit <= self.start:
            return None
        found = await self._in_turn(limit if most is None else min(limit, self.start + most))
        if isinstance(found, int):
            found = await trio.to_thread.run_sync(os.pread, self.fd, found, self.start)
        if not found:
            raise RefusalError(_SHORT)
        self.start += len(found)
        return found

    async def load(self) -> bytes | FileRange | None:
        """Return the next bytes for a socket: a load, where they are many; None at the end.

        Raises:
            RefusalError: As :meth:`chunk` does.
        """
        limit = await self._limit()
        if self.head or limit - self.start < WORTH_BYTES:
            return await self.chunk()
        hold: ByteSource = self
        count = min(LOAD_BYTES, limit - self.start)
        _, on_file = self.locate(self.start, count)
        if on_file:
            count = min(count, on_file)
            if not self._cached(count):
                # What waits for the disk does so in a thread of its own, not where all loads are carried.
                data = await trio.to_thread.run_sync(os.pread, self.fd, min(count, READ_BYTES), self.start)
                if not data:
                    raise RefusalError(_SHORT)
                count, hold = len(data), _Bytes(data, self.start)
        found = FileRange(hold, self.start, count, self.tenant, self.turns)
        self.start += count
        return found

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        """Return what is in memory of bytes that are there, or how many of them are on file."""
        limit = position + wanted
        if self.tail is not None:
            found = self.tail.hot(position, wanted)
            if not isinstance(found, int):
                return found, 0
            limit = min(limit, found)
        return (), limit - position

    async def _in_turn(self, limit: int) -> bytes | int:
        """Return bytes that are in memory, or how many are to be read from the disk."""
        await self.turns.take(self.tenant)
        try:
            found = self._from_memory(limit, self.turns.chunk_bytes)
            await trio.lowlevel.checkpoint()
        finally:
            self.turns.give()
        return found

    def _from_memory(self, limit: int, wanted: int) -> bytes | int:
        views, on_file = self.locate(self.start, min(HOT_CHUNK * wanted, limit - self.start))
        if views:
            return b"".join(views)
        count = min(wanted, on_file)
        return os.pread(self.fd, count, self.start) if self._cached(count) else count  # microseconds

    async def _limit(self) -> int:
        if self.stop is not None:
            return self.stop
        assert self.tail is not None
        await self.tail.beyond(self.start)
        return self.tail.size

    def _cached(self, count: int) -> bool:
        """Whether the next bytes of the file are in the page cache, by the first and the last of them."""
        return self._in_memory(self.start) and self._in_memory(self.start + count - 1)

    def _in_memory(self, position: int) -> bool:
        """Whether the page of a byte is in the page cache (``preadv2`` with ``RWF_NOWAIT``)."""
        try:
            return bool(_NOWAIT) and os.preadv(self.fd, [self._probe], position, _NOWAIT) == 1
        except OSError:
            return False  # not there, or a file system that cannot tell: a thread waits for it

    def close(self) -> None:
        """Let go of the blob. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            if self.fd >= 0:
                close_file(self.fd)
            if self.on_close is not None:
                self.on_close()

"""Large results on their way out, past the loop: a thread hands them to the socket, the loop only asks it to.

Copying two megabytes into a socket takes the system half a millisecond or more, in which the loop serves
nobody; and each chunk costs the loop as much again for bookkeeping. A thread copies without the interpreter's
lock, out of a build's memory without joining its pieces, and out of the page cache without a copy of its own.
One load is carried at a time, the tenants in turn. Measured on two cores, beside two decoding threads: a
second carrier doubles what a small request waits, for no more bytes a second.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import attrs
import trio

from strata.work.egress_turns import EgressTurns
from strata.work.threads import run_in_thread

LOAD_BYTES = 4 * 1024 * 1024
"""Most bytes of a load: a hop to the thread and back costs the loop 0.15 ms whatever it carries. Other loads
wait for it: a millisecond, where its client keeps up."""

READ_BYTES = 2 * 1024 * 1024
"""Most bytes that a reader keeps in memory for a load, which had to be waited for on the disk."""

WORTH_BYTES = 128 * 1024
"""What is less than that is sent on the loop, sooner than a thread would begin."""

MOST_PIECES = 1000
"""Pieces the system takes in one call (IOV_MAX is 1,024)."""

_SHORT = "the stored result is shorter than it must be, or cannot be read"


class ShortFileError(OSError):
    """A file ends before the bytes that were promised of it, or they cannot be read."""


class ByteSource(Protocol):
    """Where the bytes of a load are, which may move from memory to the file while they wait."""

    @property
    def fd(self) -> int:
        """A descriptor of the file, open until the load is gone or given up."""

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        """Return bytes from ``position`` that are in memory, and how many of the file's may be read there.

        The one or the other is nothing.
        """


@attrs.define(eq=False)
class FileRange:
    """Bytes of a result for a socket; its length is what is still to be sent.

    Nothing of it is kept in memory while a socket takes no more: what waits is asked for again then.

    Attributes:
        hold: Where they are.
        position: Of the next byte.
        left: How many bytes.
        tenant: Whose.
        turns: Whose load is next.
    """

    hold: ByteSource
    position: int
    left: int
    tenant: str
    turns: EgressTurns

    def __len__(self) -> int:
        return self.left

    async def send_some(self, socket: trio.socket.SocketType) -> None:
        """Send what a socket takes of it now, when it is the tenant's turn.

        A call under way is not abandoned when its caller is cancelled; it never waits for the peer.

        Raises:
            OSError: If the connection broke, or the file is shorter than it must be or cannot be read.
            RuntimeError: If the system has no thread for it.
        """
        await self.turns.take(self.tenant)
        try:
            views, count = self.hold.locate(self.position, self.left)
            # A descriptor of its own: the socket's number may be another connection's by the time it is used.
            target = os.dup(socket.fileno())
            send = partial(_send_pieces, target, list(views))
            if not views:
                send = partial(_send_file, target, self.hold.fd, self.position, count)
            sent = await run_in_thread(send, abandon=False, finished=partial(os.close, target))
        finally:
            self.turns.give()
        self.position += sent
        self.left -= sent


def _send_pieces(target: int, pieces: list[memoryview]) -> int:
    """Send pieces to a socket that does not block, as far as it takes them; returns the bytes sent."""
    total = 0
    with suppress(BlockingIOError):
        while pieces:
            sent = os.writev(target, pieces[:MOST_PIECES])
            total += sent
            done = 0
            while done < len(pieces) and sent >= len(pieces[done]):
                sent -= len(pieces[done])
                done += 1
            del pieces[:done]
            if sent:
                pieces[0] = pieces[0][sent:]
    return total


def _send_file(target: int, source: int, position: int, count: int) -> int:
    """Send bytes of a file, likewise.

    They are mapped, and the system copies them: by ``sendfile`` it hands them over page by page, which takes
    twice as long (Linux 6.18, loopback, 416 MB in the page cache: 2.1 GB/s, mapped 4.4).
    """
    skipped = position % mmap.ALLOCATIONGRANULARITY
    try:
        window = mmap.mmap(source, skipped + count, access=mmap.ACCESS_READ, offset=position - skipped)
    except ValueError:
        raise ShortFileError(errno.EIO, _SHORT) from None
    except OSError:  # a file system that maps nothing, or no address left for it
        return _send_pieces(target, [memoryview(_read_file(source, position, min(count, READ_BYTES)))])
    try:
        sent = _send_pieces(target, [memoryview(window)[skipped:]])
    except OSError as error:
        if error.errno == errno.EFAULT:  # the system could not read it
            raise ShortFileError(errno.EIO, _SHORT) from None
        raise
    if os.fstat(source).st_size < position + sent:
        raise ShortFileError(errno.EIO, _SHORT)  # cut meanwhile: the rest of its last page read as zeros
    return sent


def _read_file(source: int, position: int, count: int) -> bytes:
    """Read so many bytes of a file, and not one less."""
    try:
        found = os.pread(source, count, position)
    except OSError:
        raise ShortFileError(errno.EIO, _SHORT) from None
    if len(found) < count:
        raise ShortFileError(errno.EIO, _SHORT)
    return found

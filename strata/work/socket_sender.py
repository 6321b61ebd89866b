"""Send large results to sockets in a thread, so that the event loop does not copy them.

Copying two megabytes into a socket takes the system half a millisecond or more, in which the loop serves no
other request; and each chunk costs the loop as much again for bookkeeping. A thread copies without the
interpreter's lock, out of a build's memory without joining its pieces, and out of the page cache without a
copy of its own. One file range is sent at a time, the tenants in turn. Measured on two cores, beside two
decoding threads: a second sender doubles the wait of a small request, for no more bytes a second.
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
"""Most bytes of one send: a hop to the thread and back costs the loop 0.15 ms for any number of bytes. Other
sends wait for it: a millisecond, if its client keeps up."""

READ_BYTES = 2 * 1024 * 1024
"""Most bytes that a reader keeps in memory for one send, after a wait for the disk."""

WORTH_BYTES = 128 * 1024
"""Bytes below which the loop itself sends, sooner than a thread would begin."""

MOST_PIECES = 1000
"""Most pieces of one system call (IOV_MAX is 1,024); the next call takes the others."""

_SHORT = "the stored result is shorter than it must be, or cannot be read"


class ShortFileError(OSError):
    """A file of a result is shorter than recorded, or cannot be read."""


class RevokedError(OSError):
    """The right to read a result was taken away while it was sent: the connection is to be cut."""


class ByteSource(Protocol):
    """Source of a file range's bytes, which may move from memory to the file while they wait."""

    @property
    def fd(self) -> int:
        """File descriptor, open until the range is sent or given up."""

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        """Return bytes from ``position`` that are in memory, or the number of bytes to read from the file.

        Exactly one of the two results is non-empty; neither exceeds ``wanted`` bytes.

        Raises:
            RevokedError: If no byte more may be sent.
        """


@attrs.define(eq=False)
class FileRange:
    """Bytes of a result to send to a socket; the length is the number of bytes left.

    While the socket takes no bytes, none are kept in memory: they are located again for the next send.

    Attributes:
        hold: Source of the bytes.
        position: Position of the next byte.
        left: Bytes left to send.
        tenant: Tenant the result belongs to.
        turns: Turns of the process.
    """

    hold: ByteSource
    position: int
    left: int
    tenant: str
    turns: EgressTurns

    def __len__(self) -> int:
        return self.left

    async def send_some(self, socket: trio.socket.SocketType) -> None:
        """Wait for the tenant's turn, then send the bytes that the socket takes without blocking.

        A system call under way is not abandoned when its caller is cancelled; it never waits for the peer.

        Raises:
            ShortFileError: If the file is shorter than recorded or cannot be read.
            RevokedError: If the right to read the result was taken away.
            OSError: If the connection broke.
            RuntimeError: If the system has no thread for the send.
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
    """Send pieces to a non-blocking socket until it is full; returns the bytes sent."""
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
    """Send bytes of a file to a non-blocking socket until it is full; returns the bytes sent.

    The file is mapped and the system copies its pages; ``sendfile`` hands them over page by page, which takes
    twice as long (Linux 6.18, loopback, 416 MB in the page cache: 2.1 GB/s, mapped 4.4).
    """
    skipped = position % mmap.ALLOCATIONGRANULARITY
    try:
        window = mmap.mmap(source, skipped + count, access=mmap.ACCESS_READ, offset=position - skipped)
    except ValueError:
        raise ShortFileError(errno.EIO, _SHORT) from None
    except OSError:  # the file system maps no files, or no address space is left
        return _send_pieces(target, [memoryview(_read_file(source, position, min(count, READ_BYTES)))])
    try:
        sent = _send_pieces(target, [memoryview(window)[skipped:]])
    except OSError as error:
        if error.errno == errno.EFAULT:  # the system could not read the page
            raise ShortFileError(errno.EIO, _SHORT) from None
        raise
    if os.fstat(source).st_size < position + sent:
        raise ShortFileError(
            errno.EIO, _SHORT
        )  # truncated meanwhile: the rest of its last page was read as zeros
    return sent


def _read_file(source: int, position: int, count: int) -> bytes:
    """Return exactly ``count`` bytes of a file."""
    try:
        found = os.pread(source, count, position)
    except OSError:
        raise ShortFileError(errno.EIO, _SHORT) from None
    if len(found) < count:
        raise ShortFileError(errno.EIO, _SHORT)
    return found

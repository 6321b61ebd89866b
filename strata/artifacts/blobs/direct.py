"""Large files past the page cache.

A result of hundreds of megabytes that is written through the page cache pushes out what other tenants read,
and every page of it must first be found and filled: on a machine whose memory is handed out by a hypervisor
that costs more than decoding the rows. So the bulk of a growing file is written with ``O_DIRECT`` out of
aligned buffers: one is filled while others are on their way to the disk, so that no core waits for it.
Whoever reads the file afterwards does so as ever: Linux keeps the two views coherent (open(2), "O_DIRECT",
notes).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import cast

import attrs
import pyarrow as pa

BLOCK = 4096
"""Alignment of offsets, lengths and memory that every common disk takes (a logical block is 512 or 4,096)."""

BUFFER_BYTES = 4 * 1024 * 1024
"""Bytes of one write."""

HELD_BYTES = 64 * 1024
"""A copy up to which the interpreter's lock is held: 10 µs. Whoever lets go of it may wait for it longer."""

WRITES = 2
"""Buffers of one file on their way to the disk at a time. With one, a row group of one and a half buffers
waits for the disk whenever it needs two of them, and whoever decodes the next but one waits for that."""

WRITERS = 4
"""Buffers on their way to the disk at a time, of all files of the process."""

_SPARE_BUFFERS = 6
_O_DIRECT = getattr(os, "O_DIRECT", 0)
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)
_spare: list[mmap.mmap] = []  # list.append and list.pop are atomic
_writers = ThreadPoolExecutor(WRITERS, "direct-write")  # has no thread before the first large file


@attrs.frozen
class _Writing:
    """A buffer on its way.

    Attributes:
        how: How it goes.
        view: The buffer.
        end: Where its bytes end in the file.
    """

    how: Future[None]
    view: memoryview
    end: int

    @property
    def ended(self) -> bool:
        """Whether it is there, or lost."""
        return self.how.done()


class DirectTail:
    """The growing end of a file: collected in memory, written a buffer at a time.

    Args:
        descriptor: The file, open for reading and writing the ordinary way; stays the caller's.
        path: Where to open it once more.
        size: Bytes it has; the tail goes on from there.

    Raises:
        OSError: If the file cannot be opened again; ``EINVAL`` where the file system knows no ``O_DIRECT``.
    """

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        if not _O_DIRECT:
            raise OSError(errno.EINVAL, "this system knows no O_DIRECT")
        self._plain = descriptor
        self._direct = os.open(path, os.O_WRONLY | _O_DIRECT | os.O_CLOEXEC)
        self._view = _buffer()
        self._free: list[memoryview] = []
        self._writing: deque[_Writing] = deque()
        self._failure: OSError | None = None
        self._base = size - size % BLOCK
        self._filled = os.preadv(descriptor, [self._view[: size - self._base]], self._base)
        self._on_file = size

    @property
    def on_file(self) -> int:
        """Bytes from the file's start that are in the file."""
        end = self._on_file
        for writing in self._writing:
            if not writing.ended or writing.how.exception() is not None:
                break
            end = writing.end
        return end

    def behind(self, count: int) -> bool:
        """Whether :meth:`append` of so many bytes would wait for a write that goes on."""
        on_their_way = sum(not writing.ended for writing in self._writing)
        return bool(on_their_way) and (self._filled + count) // BUFFER_BYTES > WRITES - on_their_way

    def catch_up(self) -> None:
        """Wait for the oldest write that goes on; how it went, the next call says."""
        for writing in self._writing:
            if not writing.ended:
                wait([writing.how])
                return

    def append(self, parts: Sequence[bytes | pa.Buffer]) -> None:
        """Take the parts; whole buffers of them are on their way to the file.

        Raises:
            OSError: If the disk is full or broken, as far as is known by now.
        """
        self._check()
        for part in parts:
            data = memoryview(part).cast("B")
            while data:
                room = self._view[self._filled : self._filled + len(data)]
                data, more = data[: len(room)], data[len(room) :]
                if len(data) <= HELD_BYTES:
                    room[:] = data
                else:
                    pa.FixedSizeBufferWriter(pa.py_buffer(room)).write(data)  # copies without the GIL
                self._filled += len(data)
                data = more
                if self._filled == BUFFER_BYTES:
                    self._send_buffer()

    def settle(self) -> None:
        """Bring everything that was appended into the file.

        Raises:
            OSError: If the disk is full or broken.
        """
        self._collect(0)
        if self._on_file == self._base + self._filled:
            return
        whole = self._filled - self._filled % BLOCK
        self._write(self._view[:whole], self._base)
        self._write_plain(self._view[whole : self._filled], self._base + whole)
        self._on_file = self._base + self._filled
        self._view[: self._filled - whole] = self._view[whole : self._filled]
        self._base += whole
        self._filled -= whole

    def close(self) -> None:
        """Let go of the buffers and the descriptor; harmless when repeated."""
        if self._direct >= 0:
            wait([writing.how for writing in self._writing])  # nobody may close what is being written to
            os.close(self._direct)
            self._direct = -1
            for view in (self._view, *self._free, *(writing.view for writing in self._writing)):
                _give_back(view)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _collect(self, most: int) -> None:
        """Wait until no more than ``most`` buffers are on their way; have the others back."""
        self._check()
        while self._writing and (len(self._writing) > most or self._writing[0].ended):
            writing = self._writing.popleft()
            self._free.append(writing.view)
            try:
                writing.how.result()
            except OSError as error:
                self._failure = error  # its bytes are lost: nothing can be appended to them any more
                raise
            self._on_file = writing.end

    def _send_buffer(self) -> None:
        """Let the full buffer be written, and go on with another one."""
        self._collect(WRITES - 1)
        full, base = self._view, self._base
        self._view = self._free.pop() if self._free else _buffer()
        self._base += BUFFER_BYTES
        self._filled = 0
        self._writing.append(_Writing(_writers.submit(self._write, full, base), full, self._base))

    def _write(self, data: memoryview, offset: int) -> None:
        """Write whole blocks, directly as far as the file system takes them so."""
        start = 0
        while start < len(data):
            try:
                written = os.pwrite(self._direct, data[start:], offset + start)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                written = 0
            start += written
            if not written or start % BLOCK:
                self._write_plain(data[start:], offset + start)
                return

    def _write_plain(self, data: memoryview, offset: int) -> None:
        start = 0
        while start < len(data):
            start += os.pwrite(self._plain, data[start:], offset + start)


def _buffer() -> memoryview:
    return memoryview(_spare.pop() if _spare else mmap.mmap(-1, BUFFER_BYTES))


def _give_back(view: memoryview) -> None:
    buffer = view.obj
    view.release()
    if len(_spare) < _SPARE_BUFFERS:
        _spare.append(cast("mmap.mmap", buffer))

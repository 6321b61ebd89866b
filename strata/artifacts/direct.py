"""Large files past the page cache.

A result of hundreds of megabytes that is written through the page cache pushes out what other tenants read,
and every page of it must first be found and filled: on a machine whose memory is handed out by a hypervisor
that costs more than decoding the rows. So the bulk of a growing file is written with ``O_DIRECT`` out of one
aligned buffer. Whoever reads the file afterwards does so as ever: Linux keeps the two views coherent
(open(2), "O_DIRECT", notes).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

BLOCK = 4096
"""Alignment of offsets, lengths and memory that every common disk takes (a logical block is 512 or 4,096)."""

BUFFER_BYTES = 4 * 1024 * 1024
"""Bytes of one write."""

_SPARE_BUFFERS = 2
_O_DIRECT = getattr(os, "O_DIRECT", 0)
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)
_spare: list[mmap.mmap] = []  # list.append and list.pop are atomic


class DirectTail:
    """The growing end of a file: collected in memory, written a buffer at a time.

    Args:
        descriptor: The file, open for reading and writing the ordinary way; stays the caller's.
        path: Where to open it once more.
        size: Bytes it has; the tail goes on from there.

    Attributes:
        on_file: Bytes from the file's start that are in the file.

    Raises:
        OSError: If the file cannot be opened again; ``EINVAL`` where the file system knows no ``O_DIRECT``.
    """

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        if not _O_DIRECT:
            raise OSError(errno.EINVAL, "this system knows no O_DIRECT")
        self._plain = descriptor
        self._direct = os.open(path, os.O_WRONLY | _O_DIRECT | os.O_CLOEXEC)
        self._buffer = _spare.pop() if _spare else mmap.mmap(-1, BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._base = size - size % BLOCK
        self._filled = os.preadv(descriptor, [self._view[: size - self._base]], self._base)
        self.on_file = size

    def append(self, parts: Sequence[bytes | pa.Buffer]) -> None:
        """Take the parts; whole buffers of them go to the file.

        Raises:
            OSError: If the disk is full or broken.
        """
        for part in parts:
            data = pa.py_buffer(part)
            done = 0
            while done < data.size:
                count = min(data.size - done, BUFFER_BYTES - self._filled)
                room = pa.py_buffer(self._view[self._filled : self._filled + count])
                pa.FixedSizeBufferWriter(room).write(data.slice(done, count))  # copies without the GIL
                self._filled += count
                done += count
                if self._filled == BUFFER_BYTES:
                    self._write_buffer()

    def settle(self) -> None:
        """Bring everything that was appended into the file.

        Raises:
            OSError: If the disk is full or broken.
        """
        if self.on_file == self._base + self._filled:
            return
        whole = self._filled - self._filled % BLOCK
        self._write(0, whole)
        self._write_plain(whole, self._filled)
        self.on_file = self._base + self._filled
        self._view[: self._filled - whole] = self._view[whole : self._filled]
        self._base += whole
        self._filled -= whole

    def close(self) -> None:
        """Let go of the buffer and the descriptor; harmless when repeated."""
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
            self._view.release()
            if len(_spare) < _SPARE_BUFFERS:
                _spare.append(self._buffer)

    def _write_buffer(self) -> None:
        self._write(0, BUFFER_BYTES)
        self._base += BUFFER_BYTES
        self._filled = 0
        self.on_file = self._base

    def _write(self, start: int, stop: int) -> None:
        """Write whole blocks of the buffer, directly as far as the file system takes them so."""
        while start < stop:
            try:
                written = os.pwrite(self._direct, self._view[start:stop], self._base + start)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                written = 0
            start += written
            if not written or start % BLOCK:
                self._write_plain(start, stop)
                return

    def _write_plain(self, start: int, stop: int) -> None:
        while start < stop:
            start += os.pwrite(self._plain, self._view[start:stop], self._base + start)

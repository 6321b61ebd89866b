"""Large files past the page cache.

A result of hundreds of megabytes that is written through the page cache pushes out what other tenants read,
and every page of it must first be found and filled: on a machine whose memory is handed out by a hypervisor
that costs more than decoding the rows. So the bulk of a growing file is written with ``O_DIRECT`` out of
aligned buffers: one is filled while the other is on its way to the disk, so that no core waits for it.
Whoever reads the file afterwards does so as ever: Linux keeps the two views coherent (open(2), "O_DIRECT",
notes).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import cast

import pyarrow as pa

BLOCK = 4096
"""Alignment of offsets, lengths and memory that every common disk takes (a logical block is 512 or 4,096)."""

BUFFER_BYTES = 4 * 1024 * 1024
"""Bytes of one write."""

HELD_BYTES = 64 * 1024
"""A copy up to which the interpreter's lock is held: 10 µs. Whoever lets go of it may wait for it longer."""

WRITERS = 4
"""Buffers on their way to the disk at a time, of all files of the process."""

_SPARE_BUFFERS = 4
_O_DIRECT = getattr(os, "O_DIRECT", 0)
_REFUSALS = (errno.EINVAL, errno.EOPNOTSUPP)
_spare: list[mmap.mmap] = []  # list.append and list.pop are atomic
_writers = ThreadPoolExecutor(WRITERS, "direct-write")  # has no thread before the first large file


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
        self._other: memoryview | None = None
        self._writing: Future[None] | None = None
        self._failure: OSError | None = None
        self._base = size - size % BLOCK
        self._filled = os.preadv(descriptor, [self._view[: size - self._base]], self._base)
        self._on_file = size

    @property
    def on_file(self) -> int:
        """Bytes from the file's start that are in the file."""
        writing = self._writing
        if writing is not None and writing.done() and writing.exception() is None:
            return self._base
        return self._on_file

    def behind(self, count: int) -> bool:
        """Whether :meth:`append` of so many bytes would wait for the disk."""
        writing = self._writing
        return writing is not None and not writing.done() and self._filled + count >= BUFFER_BYTES

    def catch_up(self) -> None:
        """Wait for the disk; how it went, the next call says."""
        if self._writing is not None:
            wait([self._writing])

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
        self._finish_writing()
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
            self.catch_up()  # nobody may close what is being written to
            os.close(self._direct)
            self._direct = -1
            for view in (self._view, self._other):
                if view is not None:
                    _give_back(view)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _finish_writing(self) -> None:
        """Wait for the buffer on its way."""
        self._check()
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except OSError as error:
            self._failure = error  # its bytes are lost: nothing can be appended to them any more
            raise
        self._on_file = self._base

    def _send_buffer(self) -> None:
        """Let the full buffer be written, and go on with the other one."""
        self._finish_writing()
        full, self._view = self._view, self._other if self._other is not None else _buffer()
        self._other = full
        self._writing = _writers.submit(self._write, full, self._base)
        self._base += BUFFER_BYTES
        self._filled = 0

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

"""Files of growing blobs: appended to and hashed through one descriptor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from strata.artifacts.blobs.direct import DirectTail
from strata.durable import write_parts

HASH_BLOCK = 1024 * 1024
"""Bytes of one read for the hash."""

DIRECT_FROM = 1024 * 1024
"""Size in bytes from which a blob is written past the page cache."""

Parts = Sequence[bytes | pa.Buffer]
"""Buffers to write one after the other."""


class GrowingFile:
    """The file of a blob being written; not thread-safe.

    Args:
        descriptor: Open for reading and writing; closed by this object.
        path: Path of the file.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._fd = descriptor
        self._path = path
        self._size = 0
        self._hashed = 0
        self._tail: DirectTail | None = None
        self._large = False
        self._sha256 = hashlib.sha256()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._size} bytes, {self._hashed} hashed, fd {self._fd}>"

    @property
    def path(self) -> Path:
        """Path of the growing file."""
        return self._path

    @property
    def on_file(self) -> int:
        """Length in bytes of the written part, which others can read."""
        return self._size if self._tail is None else self._tail.on_file

    def append(self, parts: Parts) -> int:
        """Append the parts and return their offset; the last bytes may not be :attr:`on_file` yet.

        Raises:
            OSError: If the disk is full or broken.
        """
        offset = self._size
        count = sum(len(part) for part in parts)
        if not self._large and offset + count >= DIRECT_FROM:
            self._large = True
            with suppress(OSError):  # no O_DIRECT on this file system: plain writes do
                self._tail = DirectTail(self._fd, self._path, offset)
        if self._tail is None:
            write_parts(self._fd, parts)
        else:
            self._tail.append(parts)
        self._size += count
        return offset

    def behind(self, count: int) -> bool:
        """Test whether :meth:`append` of ``count`` bytes would wait for the disk."""
        return self._tail is not None and self._tail.behind(count)

    def catch_up(self) -> None:
        """Wait for the oldest write in progress."""
        if self._tail is not None:
            self._tail.catch_up()

    def settle(self) -> None:
        """Write all appended bytes to the file; raises :class:`OSError` if the disk is full or broken."""
        if self._tail is not None:
            self._tail.settle()

    def hash_more(self, limit: int) -> bool:
        """Hash up to ``limit`` more bytes; returns whether any are left.

        Reading the bytes back also brings them into the page cache for the next readers.

        Raises:
            OSError: If the disk is full or broken, or the file is shorter than what was written.
        """
        self.settle()
        stop = min(self._size, self._hashed + limit)
        while self._hashed < stop:
            block = os.pread(self._fd, min(HASH_BLOCK, stop - self._hashed), self._hashed)
            if not block:
                raise OSError("the blob's file is shorter than what was written to it")
            self._sha256.update(block)
            self._hashed += len(block)
        return self._hashed < self._size

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the bytes that were hashed."""
        return self._sha256.hexdigest()

    def _digest(self) -> str:
        """Return the hex SHA-256 of the whole file, hashing the remaining bytes."""
        self.hash_more(self._size)
        return self._sha256.hexdigest()

    def _close(self) -> None:
        descriptor, self._fd = self._fd, -1
        try:
            if self._tail is not None:
                self._tail.close()
        finally:
            if descriptor >= 0:
                os.close(descriptor)

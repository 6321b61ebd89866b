"""A blob that grows: appended to, and hashed behind its end, through one descriptor."""

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

DIRECT_FROM = 1024 * 1024
"""Bytes from which on a blob is a large one, whose writing should leave the page cache alone."""

Parts = Sequence[bytes | pa.Buffer]
"""Pieces to be written one after the other."""


class GrowingFile:
    """The file under a blob's writer, whatever becomes of it; used by one thread at a time.

    Args:
        descriptor: Open for reading and writing; owned by this object from now on.
        path: Where others find the same file.
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
        """The growing file."""
        return self._path

    @property
    def on_file(self) -> int:
        """How many of the bytes others can read in the file."""
        return self._size if self._tail is None else self._tail.on_file

    def append(self, parts: Parts) -> int:
        """Write the parts and return their offset; the last of them may not be :attr:`on_file` yet."""
        offset = self._size
        count = sum(len(part) for part in parts)
        if not self._large and offset + count >= DIRECT_FROM:
            self._large = True
            with suppress(OSError):  # the file system takes no direct writes: plain ones will do
                self._tail = DirectTail(self._fd, self._path, offset)
        if self._tail is None:
            write_parts(self._fd, parts)
        else:
            self._tail.append(parts)
        self._size += count
        return offset

    def behind(self, count: int) -> bool:
        """Whether :meth:`append` of so many bytes would wait for the disk."""
        return self._tail is not None and self._tail.behind(count)

    def catch_up(self) -> None:
        """Wait for the disk."""
        if self._tail is not None:
            self._tail.catch_up()

    def settle(self) -> None:
        """Bring everything that was appended into the file."""
        if self._tail is not None:
            self._tail.settle()

    def hash_more(self, limit: int) -> bool:
        """Hash some of what was written.

        Reading brings it into the page cache, where its next readers find it: by now nobody waits for that.
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

    def _digest(self) -> str:
        """Return the hash of the whole, hashing what is left."""
        self.hash_more(self._size)
        return self._sha256.hexdigest()

    def _close(self) -> None:
        if self._tail is not None:
            self._tail.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

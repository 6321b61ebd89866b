"""An in-memory blob store that keeps the contract but for durability, and can be made to fail.

A blob is an anonymous file in memory (``memfd_create``, Linux), so that it has a path and a descriptor like a
real one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from strata.artifacts.blobs.growing import GrowingFile, Parts
from strata.artifacts.blobs.store import BLOB_GONE, BLOB_UNREADABLE, BlobFacts, BlobReader, Emptied
from strata.outcomes import Refused


class MemoryBlobStore:
    """Blobs in a dictionary of descriptors.

    Args:
        before: Called with the name of each call (``begin``, ``append``, ``commit``, ``open_reader`` …) before
            it; its exceptions are raised to the caller, such as an ``OSError`` for a full disk.
    """

    def __init__(self, before: Callable[[str], None] = lambda _call: None) -> None:
        self._before = before
        self._lock = threading.Lock()
        self._blobs: dict[tuple[str, str], int] = {}

    def begin(self, prefix: str) -> MemoryBlobWriter:
        """Begin a blob."""
        self._before("begin")
        return MemoryBlobWriter(prefix, self._before, self._keep)

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a blob; one whose size differs from ``size`` counts as missing."""
        try:
            self._before("open_reader")
            with self._lock:
                kept = self._blobs.get((prefix, sha256))
                if kept is None or os.fstat(kept).st_size != size:
                    return BLOB_GONE
                return BlobReader(os.open(_path(kept), os.O_RDONLY | os.O_CLOEXEC), size)
        except OSError:
            return BLOB_UNREADABLE

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it exists."""
        self._before("delete")
        with self._lock:
            kept = self._blobs.pop((prefix, sha256), None)
        if kept is not None:
            os.close(kept)

    def empty(self, prefix: str) -> Emptied:
        """Remove all blobs of a prefix."""
        self._before("empty")
        with self._lock:
            kept = [self._blobs.pop(key) for key in [key for key in self._blobs if key[0] == prefix]]
        sizes = [os.fstat(descriptor).st_size for descriptor in kept]
        for descriptor in kept:
            os.close(descriptor)
        return Emptied(len(kept), sum(sizes))

    def sweep(self) -> int:
        """Remove nothing: uncommitted blobs end with their process."""
        return 0

    def close(self) -> None:
        """Close all blobs."""
        while self._blobs:
            os.close(self._blobs.popitem()[1])

    def _keep(self, prefix: str, sha256: str, descriptor: int) -> Path:
        """Keep a finished blob, or the equal one that exists; return its path."""
        with self._lock:
            kept = self._blobs.get((prefix, sha256))
            if kept is None:
                kept = self._blobs[prefix, sha256] = os.dup(descriptor)
            return _path(kept)


class MemoryBlobWriter(GrowingFile):
    """See :class:`~strata.artifacts.BlobWriter`."""

    def __init__(
        self, prefix: str, before: Callable[[str], None], keep: Callable[[str, str, int], Path]
    ) -> None:
        descriptor = os.memfd_create("blob")
        super().__init__(descriptor, _path(descriptor))
        self._prefix = prefix
        self._before = before
        self._keep = keep

    def append(self, parts: Parts) -> int:
        """Write the parts and return their offset."""
        self._before("append")
        return super().append(parts)

    def commit(self) -> BlobFacts:
        """Keep the blob under its hash."""
        self._before("commit")
        digest = self._digest()
        path = self._keep(self._prefix, digest, self._fd)
        self._close()
        return BlobFacts(digest, self._size, path)

    def abort(self) -> None:
        """Discard what was written."""
        self._close()


def _path(descriptor: int) -> Path:
    return Path(f"/proc/{os.getpid()}/fd/{descriptor}")

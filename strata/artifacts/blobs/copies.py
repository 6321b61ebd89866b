"""Local copies of blobs that an object store keeps: at most so many bytes of them, the most recently read."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from strata.artifacts.blobs.store import SUFFIX, BlobFacts, BlobReader, LocalBlobStore, LocalBlobWriter
from strata.outcomes import Refused

COPIES_BYTES = 10 * 1024**3

LOOKS = 16
"""Files from earlier that are looked at with each that is used."""


class LocalCopies:
    """Copies below ``root``; safe to use from any thread.

    When a copy was last read is its file's access time, set by us, so that it survives a restart wherever the
    file system is mounted ``noatime``. A copy that is removed while it is read is read to its end: whoever
    reads it holds a descriptor.

    What is there from earlier is not looked at when the server starts but a little with every file that is
    used, and to its end as soon as there may be too much.

    Args:
        root: Directory of copies; what is there from earlier is taken over.
        budget: Bytes of copies that may stay. The newest copy stays even if it alone is larger, for its
            readers and the cache come right after it.
    """

    def __init__(self, root: Path, budget: int) -> None:
        self._local = LocalBlobStore(root)
        self._budget = budget
        self._guard = threading.Lock()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._bytes = 0
        self._earlier: dict[tuple[str, str], tuple[int, int]] = {}
        self._unseen: Iterator[Path] | None = root.glob(f"*/*/*{SUFFIX}")

    def begin(self, prefix: str) -> LocalBlobWriter:
        """Begin a file; once committed, :meth:`keep` makes it a copy."""
        return self._local.begin(prefix)

    def keep(self, prefix: str, facts: BlobFacts) -> None:
        """Count a committed file among the copies, and remove those that it leaves no room for."""
        with self._guard:
            self._note((prefix, facts.sha256), facts.size)
            self._look(LOOKS)
            if self._bytes > self._budget:
                self._look(sys.maxsize)
            surplus = []
            while self._bytes > self._budget and len(self._sizes) > 1:
                key, size = self._sizes.popitem(last=False)
                self._bytes -= size
                surplus.append(key)
            for old in surplus:
                self._local.delete(*old)

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a copy; refused as by :class:`~strata.artifacts.LocalBlobStore`."""
        found = self._local.open_reader(prefix, sha256, size)
        if isinstance(found, BlobReader):
            with self._guard:
                self._note((prefix, sha256), size)
                self._look(LOOKS)
            with suppress(OSError):  # a read-only file system: the order is then that of this process only
                os.utime(found.fd)
        return found

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a copy, if it is there."""
        with self._guard:
            self._bytes -= self._forget((prefix, sha256))
            self._local.delete(prefix, sha256)

    def sweep(self) -> int:
        """Remove what killed processes were writing."""
        return self._local.sweep()

    def _note(self, key: tuple[str, str], size: int) -> None:
        """Count a file as the most recently used, unless another thread has just removed it."""
        self._bytes -= self._forget(key)
        if self._local.holds(*key):
            self._sizes[key] = size
            self._bytes += size

    def _forget(self, key: tuple[str, str]) -> int:
        _, earlier = self._earlier.pop(key, (0, 0))
        return self._sizes.pop(key, earlier)

    def _look(self, most: int) -> None:
        """Look at so many files from earlier; when all were seen, they are older than all of this run."""
        if self._unseen is None:
            return
        for path in islice(self._unseen, most):
            most -= 1
            key = (path.parts[-3], path.stem)
            if key in self._sizes:
                continue
            with suppress(FileNotFoundError):
                facts = path.stat()
                self._earlier[key] = (facts.st_atime_ns, facts.st_size)
                self._bytes += facts.st_size
        if most:
            self._unseen = None
            for key in sorted(self._earlier, key=lambda key: self._earlier[key], reverse=True):
                self._sizes[key] = self._earlier[key][1]
                self._sizes.move_to_end(key, last=False)
            self._earlier = {}

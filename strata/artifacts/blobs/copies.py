"""Local copies of an object store's blobs, bounded in bytes; the least recently read are removed."""

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
"""Default for the bytes of local copies."""

LOOKS = 16
"""Files of earlier runs that are examined with each file used."""


class LocalCopies:
    """Copies below ``root``; thread-safe.

    A copy's last read is its file's access time, set explicitly so that it survives a restart, also on file
    systems mounted ``noatime``. A copy removed while it is read stays readable through the open descriptor.

    Files of earlier runs are not examined at start but a few with each file used, and all as soon as the
    known copies exceed the budget.

    Args:
        root: Directory of copies; files of earlier runs are taken over.
        budget: Maximum bytes of copies. The newest copy stays even if it alone is larger, since its readers
            and the cache open it right afterwards.
    """

    def __init__(self, root: Path, budget: int) -> None:
        self._local = LocalBlobStore(root)
        self._budget = budget
        self._guard = threading.Lock()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._bytes = 0
        self._earlier: dict[tuple[str, str], tuple[int, int]] = {}
        self._unexamined: Iterator[Path] | None = root.glob(f"*/*/*{SUFFIX}")

    def begin(self, prefix: str) -> LocalBlobWriter:
        """Begin a file; after its commit, :meth:`keep` makes it a copy."""
        return self._local.begin(prefix)

    def keep(self, prefix: str, facts: BlobFacts) -> None:
        """Add a committed file to the copies, and remove the least recently read beyond the budget."""
        with self._guard:
            self._note((prefix, facts.sha256), facts.size)
            self._examine(LOOKS)
            if self._bytes > self._budget:
                self._examine(sys.maxsize)
            surplus = []
            while self._bytes > self._budget and len(self._sizes) > 1:
                key, size = self._sizes.popitem(last=False)
                self._bytes -= size
                surplus.append(key)
            for old in surplus:
                with suppress(OSError):  # a copy that stays is counted again at the next start
                    self._local.delete(*old)

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a copy; returns the refusals of :class:`~strata.artifacts.LocalBlobStore`."""
        found = self._local.open_reader(prefix, sha256, size)
        if isinstance(found, BlobReader):
            with self._guard:
                self._note((prefix, sha256), size)
                self._examine(LOOKS)
            with suppress(OSError):  # read-only file system: the order lasts for this process only
                os.utime(found.fd)
        return found

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a copy, if it exists."""
        with self._guard:
            self._bytes -= self._forget((prefix, sha256))
            self._local.delete(prefix, sha256)

    def empty(self, prefix: str) -> None:
        """Remove all copies of a prefix."""
        with self._guard:
            for key in [key for key in (*self._sizes, *self._earlier) if key[0] == prefix]:
                self._bytes -= self._forget(key)
            self._local.empty(prefix)

    def sweep(self) -> int:
        """Remove unfinished files of killed processes; returns their number."""
        return self._local.sweep()

    def _note(self, key: tuple[str, str], size: int) -> None:
        """Record a file as the most recently used, unless another thread has just removed it."""
        self._bytes -= self._forget(key)
        if self._local.holds(*key):
            self._sizes[key] = size
            self._bytes += size

    def _forget(self, key: tuple[str, str]) -> int:
        _, earlier = self._earlier.pop(key, (0, 0))
        return self._sizes.pop(key, earlier)

    def _examine(self, most: int) -> None:
        """Examine up to ``most`` files of earlier runs; all of them count as older than this run's."""
        if self._unexamined is None:
            return
        with suppress(
            OSError
        ):  # a directory that cannot be listed: what is in it is counted at the next start
            for path in islice(self._unexamined, most):
                most -= 1
                key = (path.parts[-3], path.stem)
                if key in self._sizes:
                    continue
                with suppress(OSError):  # removed meanwhile, or unreadable
                    facts = path.stat()
                    self._earlier[key] = (facts.st_atime_ns, facts.st_size)
                    self._bytes += facts.st_size
        if most:
            self._unexamined = None
            for key in sorted(self._earlier, key=lambda key: self._earlier[key], reverse=True):
                self._sizes[key] = self._earlier[key][1]
                self._sizes.move_to_end(key, last=False)
            self._earlier = {}

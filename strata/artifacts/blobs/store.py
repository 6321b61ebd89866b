"""The bytes of results: content-addressed files in a directory per tenant.

A blob is written under a temporary name, synced, and renamed to its SHA-256; then the directory is synced. A
process killed at any instruction leaves the old state or the new one; :meth:`LocalBlobStore.sweep` removes
the temporaries, which are all in one directory, so that a start need not visit every tenant's. Every call
names the tenant's prefix: nothing is shared between two of them.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Protocol

import attrs
import structlog

from strata.artifacts.blobs.growing import GrowingFile, Parts
from strata.durable import PRIVATE_MODE, sync_directory
from strata.outcomes import Reason, Refused

SUFFIX = ".arrow"
TEMPORARY = ".part"

GROWING = "growing"
"""Directory of what is being written; no tenant's prefix, which are all digits of hexadecimal numbers."""

DIRECTORIES_REMEMBERED = 4096

log = structlog.get_logger(__name__)
BLOB_GONE = Refused(Reason.DATA_UNREADABLE, "The stored result cannot be read.", code="blob_missing")
"""The blob is not there, or not what it must be: it will never be readable again."""

BLOB_UNREADABLE = Refused(
    Reason.UNAVAILABLE, "The stored result cannot be read right now.", code="blob_unreadable", retry_after=1
)
"""The blob may well be there (no descriptor is left, say): no reason to give it up."""


@attrs.frozen
class BlobFacts:
    """A finished blob.

    Attributes:
        sha256: Hex digest of its bytes.
        size: Bytes.
        path: A local file with them, for whoever wants to link it.
    """

    sha256: str
    size: int
    path: Path


class BlobWriter(Protocol):
    """A blob being written; used by one thread at a time.

    Attributes:
        path: The growing file, which others may read up to what was appended.
    """

    @property
    def path(self) -> Path:
        """See the class."""

    @property
    def on_file(self) -> int:
        """How many of the bytes appended others can read in the file; the rest is on its way."""

    def append(self, parts: Parts) -> int:
        """Write the parts one after the other and return their offset."""

    def behind(self, count: int) -> bool:
        """Whether :meth:`append` of so many bytes would wait for the disk."""

    def catch_up(self) -> None:
        """Wait until it would not."""

    def settle(self) -> None:
        """Bring everything that was appended into the file."""

    def hash_more(self, limit: int) -> bool:
        """Hash at most ``limit`` of the bytes not hashed yet; whether any are left."""

    def commit(self) -> BlobFacts:
        """Make the blob durable under its final name, and return its facts.

        Raises:
            RefusalError: If a remote store does not take it; :meth:`abort` is still to be called.
            OSError: If the disk is full or broken; likewise.
        """

    def abort(self) -> None:
        """Remove what was written; harmless after :meth:`commit` and when repeated."""


@attrs.frozen
class BlobReader:
    """An open blob; whoever opened it closes ``fd``."""

    fd: int
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``."""
        return os.pread(self.fd, count, offset)


class BlobStore(Protocol):
    """What every blob store promises; calls block and may come from any thread."""

    def begin(self, prefix: str) -> BlobWriter:
        """Begin a blob of one tenant."""

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a blob.

        Refused with :data:`BLOB_GONE` if it is missing or not ``size`` bytes long, and with another refusal
        if that cannot be said.
        """

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it is there."""

    def sweep(self) -> int:
        """Remove what killed processes were writing; returns how many. Call before the first blob."""


class LocalBlobStore:
    """Blobs below ``root``: ``<root>/<prefix>/<first two digits>/<sha256>.arrow``.

    Args:
        root: Made, with its parents, if need be.
    """

    def __init__(self, root: Path) -> None:
        self._directories = _Directories(root)
        self._root = root

    def begin(self, prefix: str) -> LocalBlobWriter:
        """Begin a blob."""
        directory, growing = self._root / prefix, self._root / GROWING
        self._directories.ensure(directory)
        self._directories.ensure(growing)
        return LocalBlobWriter(directory, growing / f"{secrets.token_hex(8)}{TEMPORARY}", self._directories)

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a blob; one of another size than it must have is as good as missing."""
        try:
            descriptor = os.open(_place(self._root / prefix, sha256), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return BLOB_GONE
        except OSError as error:
            log.warning("blob cannot be opened", error=errno.errorcode.get(error.errno or 0, "unknown"))
            return BLOB_UNREADABLE
        if os.fstat(descriptor).st_size != size:
            os.close(descriptor)
            return BLOB_GONE
        return BlobReader(descriptor, size)

    def holds(self, prefix: str, sha256: str) -> bool:
        """Whether a blob is there."""
        return _place(self._root / prefix, sha256).exists()

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it is there."""
        _place(self._root / prefix, sha256).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what killed processes were writing; returns how many files. Call before the first blob."""
        swept = 0
        for leftover in self._root.glob(f"{GROWING}/*{TEMPORARY}"):
            leftover.unlink(missing_ok=True)
            swept += 1
        return swept


class LocalBlobWriter(GrowingFile):
    """See :class:`BlobWriter`."""

    def __init__(self, directory: Path, path: Path, directories: _Directories) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE), path)
        self._directory = directory
        self._directories = directories

    def commit(self) -> BlobFacts:
        """Sync, rename, sync the directory."""
        digest = self._digest()
        final = _place(self._directory, digest)
        self._directories.ensure(final.parent)
        os.fsync(self._fd)
        self._path.rename(final)
        sync_directory(final.parent)
        self._close()
        return BlobFacts(digest, self._size, final)

    def abort(self) -> None:
        """Remove the file, if it has not got its final name yet."""
        if self._fd >= 0:
            self._close()
            self._path.unlink(missing_ok=True)


class _Directories:
    """Makes directories whose names survive a power cut; remembers some of which it has seen to.

    A name is durable once the directory that holds it is synced. Whoever finds a directory that another
    thread made syncs its parent all the same: the other may not have come to it yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()  # only added to, which is atomic

    def ensure(self, directory: Path) -> None:
        """Make ``directory``, which is the root or below it, and what is above it."""
        if directory in self._durable and directory.is_dir():
            return
        if directory == self._root:
            directory.parent.mkdir(parents=True, exist_ok=True)
        else:
            self.ensure(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)
        if len(self._durable) >= DIRECTORIES_REMEMBERED:
            self._durable = set()  # there are 257 to a tenant
        self._durable.add(directory)


def _place(directory: Path, sha256: str) -> Path:
    return directory / sha256[:2] / f"{sha256}{SUFFIX}"

"""The bytes of results: content-addressed files in a directory per tenant.

A blob is written under a temporary name, synced, and renamed to its SHA-256; then the directory is synced. A
process killed at any instruction leaves the old state or the new one; :meth:`LocalBlobStore.sweep` removes
the temporaries. Every call names the tenant's prefix: nothing is shared between two of them.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs
import pyarrow as pa

from strata.durable import sync_directory, write_parts
from strata.outcomes import Reason, Refused

SUFFIX = ".arrow"
TEMPORARY = ".part"
HASH_BLOCK = 1024 * 1024

BLOB_GONE = Refused(Reason.DATA_UNREADABLE, "The stored result cannot be read.", code="blob_missing")


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

    def append(self, parts: Sequence[bytes | pa.Buffer]) -> int:
        """Write the parts one after the other, without copying them, and return their offset."""

    def hash_more(self, limit: int) -> bool:
        """Hash at most ``limit`` of the bytes not hashed yet; whether any are left."""

    def commit(self) -> BlobFacts:
        """Make the blob durable under its final name, and return its facts."""

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
        """Open a blob; refused if it is missing or not ``size`` bytes long."""

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it is there."""


class LocalBlobStore:
    """Blobs below ``root``: ``<root>/<prefix>/<first two digits>/<sha256>.arrow``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def begin(self, prefix: str) -> LocalBlobWriter:
        """Begin a blob."""
        directory = self._root / prefix
        directory.mkdir(parents=True, exist_ok=True)
        return LocalBlobWriter(directory)

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a blob; one of another size than it must have is as good as missing."""
        try:
            descriptor = os.open(_place(self._root / prefix, sha256), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return BLOB_GONE
        if os.fstat(descriptor).st_size != size:
            os.close(descriptor)
            return BLOB_GONE
        return BlobReader(descriptor, size)

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it is there."""
        _place(self._root / prefix, sha256).unlink(missing_ok=True)

    def sweep(self) -> int:
        """Remove what killed processes were writing; returns how many files. Call before the first blob."""
        swept = 0
        for leftover in self._root.glob(f"*/*{TEMPORARY}"):
            leftover.unlink(missing_ok=True)
            swept += 1
        return swept


class LocalBlobWriter:
    """See :class:`BlobWriter`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / f"{secrets.token_hex(8)}{TEMPORARY}"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._size = 0
        self._hashed = 0
        self._sha256 = hashlib.sha256()

    @property
    def path(self) -> Path:
        """The growing file."""
        return self._path

    def append(self, parts: Sequence[bytes | pa.Buffer]) -> int:
        """Write the parts and return their offset."""
        offset = self._size
        self._size += write_parts(self._fd, parts)
        return offset

    def hash_more(self, limit: int) -> bool:
        """Hash some of what was written, out of the page cache it is still in."""
        stop = min(self._size, self._hashed + limit)
        while self._hashed < stop:
            block = os.pread(self._fd, min(HASH_BLOCK, stop - self._hashed), self._hashed)
            if not block:
                raise OSError("the blob's file is shorter than what was written to it")
            self._sha256.update(block)
            self._hashed += len(block)
        return self._hashed < self._size

    def commit(self) -> BlobFacts:
        """Sync, rename, sync the directory."""
        self.hash_more(self._size)
        digest = self._sha256.hexdigest()
        final = _place(self._directory, digest)
        if not final.parent.exists():
            final.parent.mkdir(exist_ok=True)
            sync_directory(self._directory)
        os.fsync(self._fd)
        self._path.rename(final)
        sync_directory(final.parent)
        self._close()
        return BlobFacts(digest, self._size, final)

    def abort(self) -> None:
        """Remove the file."""
        if self._fd >= 0:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def _place(directory: Path, sha256: str) -> Path:
    return directory / sha256[:2] / f"{sha256}{SUFFIX}"

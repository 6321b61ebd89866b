"""Blob store on local disk: content-addressed files in one directory per tenant.

A blob is written under a temporary name, synced, and renamed to its SHA-256; then the directory is synced. A
process killed at any instruction leaves the old state or the new one; :meth:`LocalBlobStore.sweep` removes
the temporary files, all in one directory, so that a start need not visit every tenant's. Every call names the
tenant's prefix; tenants share no file.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import attrs
import structlog

from strata.artifacts.blobs.growing import GrowingFile, Parts
from strata.durable import PRIVATE_MODE, sync_directory
from strata.outcomes import Reason, Refused
from strata.regular_files import open_regular

SUFFIX = ".arrow"
TEMPORARY = ".part"

GROWING = "growing"
"""Directory of unfinished files; cannot be a tenant's prefix, which has hexadecimal digits only."""

DIRECTORIES_REMEMBERED = 4096
"""Directories known to be durable; beyond, the set starts anew."""

_NO_FILE = (errno.EINVAL, errno.ELOOP, errno.ENXIO)
"""What ``open_regular`` raises where something else stands in the blob's place, which will not become one."""

log = structlog.get_logger(__name__)
BLOB_GONE = Refused(Reason.DATA_UNREADABLE, "The stored result cannot be read.", code="blob_missing")
"""The blob is missing or does not have its size or hash: it will never be readable."""

BLOB_UNREADABLE = Refused(
    Reason.UNAVAILABLE, "The stored result cannot be read right now.", code="blob_unreadable", retry_after=1
)
"""The blob cannot be opened now (no descriptors left, for example); it may exist."""


@attrs.frozen
class BlobFacts:
    """A finished blob.

    Attributes:
        sha256: Hex SHA-256 of the bytes.
        size: Length in bytes.
        path: A local file with the bytes, which can be hard-linked.
    """

    sha256: str
    size: int
    path: Path


class BlobWriter(Protocol):
    """Writer of a new blob; not thread-safe.

    Attributes:
        path: The growing file, which others may read up to :attr:`on_file`.
    """

    @property
    def path(self) -> Path:
        """Path of the growing file."""

    @property
    def on_file(self) -> int:
        """Length in bytes of the written part; appended bytes beyond it are being written."""

    def append(self, parts: Parts) -> int:
        """Append the parts and return their offset; raises :class:`OSError` if the disk is full or broken."""

    def behind(self, count: int) -> bool:
        """Test whether :meth:`append` of ``count`` bytes would wait for the disk."""

    def catch_up(self) -> None:
        """Wait for the oldest write in progress."""

    def settle(self) -> None:
        """Write all appended bytes to the file; raises :class:`OSError` if the disk is full or broken."""

    def hash_more(self, limit: int) -> bool:
        """Hash up to ``limit`` more bytes; returns whether any are left."""

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of all bytes, once :meth:`hash_more` has said that none are left."""

    def commit(self) -> BlobFacts:
        """Make the blob durable under its final name, and return its facts.

        Raises:
            RefusalError: UNAVAILABLE if a remote store does not take it; :meth:`abort` must still be called.
            OSError: If the disk is full or broken; :meth:`abort` must still be called.
        """

    def abort(self) -> None:
        """Remove the unfinished file; idempotent, and without effect after :meth:`commit`."""


@attrs.frozen
class Emptied:
    """What was removed of a prefix.

    Attributes:
        blobs: Number of blobs.
        nbytes: Their bytes.
    """

    blobs: int
    nbytes: int


@attrs.frozen
class BlobReader:
    """An open blob; the caller of ``open_reader`` closes ``fd``.

    Attributes:
        fd: File descriptor.
        size: Length in bytes.
    """

    fd: int
    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``."""
        return os.pread(self.fd, count, offset)


class BlobStore(Protocol):
    """Contract of every blob store; calls block and are thread-safe."""

    def begin(self, prefix: str) -> BlobWriter:
        """Begin a blob of one tenant."""

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open a blob of ``size`` bytes.

        Returns a refusal: :data:`BLOB_GONE` (DATA_UNREADABLE) if it is missing or damaged, an UNAVAILABLE one
        if that is not known.
        """

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it exists."""

    def empty(self, prefix: str) -> Emptied:
        """Remove all blobs of a prefix; one that is removed halfway is emptied by the next call.

        Raises:
            RefusalError: UNAVAILABLE if a remote store does not answer, or does not remove what it should.
            OSError: If the disk is broken, or a directory is not this process's.
        """

    def sweep(self) -> int:
        """Remove unfinished files of killed processes; returns their number. Call before the first blob."""


class LocalBlobStore:
    """Blobs below ``root``: ``<root>/<prefix>/<first two digits>/<sha256>.arrow``.

    Args:
        root: The directory, created with its parents if need be.
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
        """Open a blob; returns :data:`BLOB_GONE` if it is missing or not ``size`` bytes long."""
        try:
            descriptor = open_regular(_place(self._root / prefix, sha256))
        except (FileNotFoundError, NotADirectoryError):
            return BLOB_GONE
        except OSError as error:
            if error.errno in _NO_FILE:
                return BLOB_GONE
            log.warning("blob cannot be opened", error=errno.errorcode.get(error.errno or 0, "unknown"))
            return BLOB_UNREADABLE
        try:
            found = os.fstat(descriptor).st_size
        except OSError:
            os.close(descriptor)
            return BLOB_UNREADABLE
        if found != size:
            os.close(descriptor)
            return BLOB_GONE
        return BlobReader(descriptor, size)

    def holds(self, prefix: str, sha256: str) -> bool:
        """Test whether a blob exists."""
        return _place(self._root / prefix, sha256).exists()

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob, if it exists."""
        _place(self._root / prefix, sha256).unlink(missing_ok=True)

    def empty(self, prefix: str) -> Emptied:
        """Remove all blobs of a prefix, and their directories."""
        blobs = nbytes = 0
        place = self._root / check_prefix(prefix)
        for file in place.glob(f"*/*{SUFFIX}"):
            size = file.lstat().st_size
            file.unlink(missing_ok=True)
            blobs, nbytes = blobs + 1, nbytes + size
        for directory in (*place.glob("*"), place):
            with suppress(FileNotFoundError):
                directory.rmdir()
        self._directories.forget()
        return Emptied(blobs, nbytes)

    def sweep(self) -> int:
        """Remove unfinished files of killed processes; returns their number. Call before the first blob."""
        swept = 0
        for leftover in self._root.glob(f"{GROWING}/*{TEMPORARY}"):
            leftover.unlink(missing_ok=True)
            swept += 1
        return swept

    def sweep_unreferenced(self, prefix: str, referenced: Collection[str]) -> int:
        """Remove the blobs of a prefix that a killed process wrote and did not record; returns their number.

        Args:
            prefix: The prefix.
            referenced: SHA-256 of all blobs that are recorded.

        Call before the first blob.
        """
        swept = 0
        for file in (self._root / check_prefix(prefix)).glob(f"*/*{SUFFIX}"):
            if file.name.removesuffix(SUFFIX) not in referenced:
                file.unlink(missing_ok=True)
                swept += 1
        return swept


class LocalBlobWriter(GrowingFile):
    """Writer of a local blob; see :class:`BlobWriter`."""

    def __init__(self, directory: Path, path: Path, directories: _Directories) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE), path)
        self._directory = directory
        self._directories = directories

    def commit(self) -> BlobFacts:
        """Sync the file, rename it to its hash, sync the directory; returns the blob's facts."""
        digest = self._digest()
        final = _place(self._directory, digest)
        self._directories.ensure(final.parent)
        os.fsync(self._fd)
        self._path.rename(final)
        sync_directory(final.parent)
        self._close()
        return BlobFacts(digest, self._size, final)

    def abort(self) -> None:
        """Remove the file, unless it is committed; idempotent."""
        if self._fd >= 0:
            try:
                self._path.unlink(missing_ok=True)
            finally:
                self._close()


class _Directories:
    """Create directories that survive a power cut; remembers those known to be durable.

    A directory's name is durable once its parent is synced. The parent of a directory that exists already is
    synced, too: the thread that created it may not have done so yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()  # only added to, which is atomic

    def forget(self) -> None:
        """Forget which directories are durable: some were removed."""
        self._durable = set()

    def ensure(self, directory: Path) -> None:
        """Create ``directory`` (the root or below it) and its parents, durably."""
        if directory in self._durable and directory.is_dir():
            return
        if directory == self._root:
            directory.parent.mkdir(parents=True, exist_ok=True)
        else:
            self.ensure(directory.parent)
        directory.mkdir(exist_ok=True)
        sync_directory(directory.parent)
        if len(self._durable) >= DIRECTORIES_REMEMBERED:
            self._durable = set()  # a tenant has up to 257
        self._durable.add(directory)


def check_prefix(prefix: str) -> str:
    """Return a prefix; an empty one would be that of all tenants.

    Raises:
        ValueError: If it is no name of a directory of blobs.
    """
    if not prefix.isalnum():
        raise ValueError("the prefix of blobs is not a tenant's")
    return prefix


def _place(directory: Path, sha256: str) -> Path:
    return directory / sha256[:2] / f"{sha256}{SUFFIX}"

"""Results in an object store: S3, Google Cloud Storage or Azure, through obstore.

A blob is built in a local file, as with :class:`~strata.artifacts.LocalBlobStore`: readers follow it there
and the cache adopts it. Its commit uploads it under its hash before it counts as finished; the object appears
whole or not at all. Reading prefers the local copy and fetches a missing one whole, checked against its hash.
The local copies are a cache: the directory may be emptied while the server is down.

An upload overwrites: the key is the hash of the bytes, so whoever comes second writes the same, and an object
that was damaged is whole again. Parts of an upload that never ended are invisible but stay; let the bucket's
lifecycle rules remove them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from strata.artifacts.blobs import BLOB_GONE, SUFFIX, BlobFacts, BlobReader, LocalBlobStore, LocalBlobWriter
from strata.artifacts.growing import Parts
from strata.artifacts.object_stores import open_object_store
from strata.outcomes import Reason, RefusalError, Refused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["ObjectBlobStore", "open_object_store"]

PART_BYTES = 8 * 1024 * 1024
"""Bytes of one request, each of which has ``s3_request_timeout_seconds``."""

UPLOADS = 4
"""Parts of one blob on their way at a time; so many times :data:`PART_BYTES` are held in memory."""

STORE_DOWN = Refused(
    Reason.UNAVAILABLE, "The store of results does not answer.", code="blob_store_down", retry_after=5
)

log = structlog.get_logger(__name__)


class ObjectBlobStore:
    """Blobs below ``prefix`` of an object store, with local copies below ``root``.

    Args:
        store: The obstore store.
        prefix: Path in the bucket or container.
        root: Directory of local copies.
    """

    def __init__(self, store: ObjectStore, prefix: str, root: Path) -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        self._local = LocalBlobStore(root)
        self._fetching = _Locks()

    def begin(self, prefix: str) -> UploadingWriter:
        """Begin a blob in a local file."""
        return UploadingWriter(self, prefix, self._local.begin(prefix))

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open the local copy, fetched first if need be; a blob whose bytes are not its hash's is missing."""
        found = self._local.open_reader(prefix, sha256, size)
        if found != BLOB_GONE:
            return found
        with self._fetching.held(f"{prefix}/{sha256}"):
            found = self._local.open_reader(prefix, sha256, size)
            if found != BLOB_GONE:
                return found
            refused = self._fetch(prefix, sha256, size)
            return refused if refused is not None else self._local.open_reader(prefix, sha256, size)

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob and its local copy.

        Raises:
            RefusalError: If the store does not answer.
        """
        import obstore  # noqa: PLC0415  # an extra

        with _answering(), suppress(FileNotFoundError):  # some stores say so, most do not
            obstore.delete(self._store, self._key(prefix, sha256))
        self._local.delete(prefix, sha256)

    def sweep(self) -> int:
        """Remove what killed processes were writing locally."""
        return self._local.sweep()

    def upload(self, prefix: str, facts: BlobFacts) -> None:
        """Put a finished local blob into the store.

        Raises:
            RefusalError: If the store does not take it.
        """
        import obstore  # noqa: PLC0415  # an extra

        key = self._key(prefix, facts.sha256)
        with _answering(), facts.path.open("rb") as file:
            obstore.put(self._store, key, file, chunk_size=PART_BYTES, max_concurrency=UPLOADS)

    def forget(self, prefix: str, sha256: str) -> None:
        """Remove the local copy only."""
        self._local.delete(prefix, sha256)

    def _fetch(self, prefix: str, sha256: str, size: int) -> Refused | None:
        """Make a local copy; returns why there is none."""
        try:
            with _answering():
                return self._copy(prefix, sha256, size)
        except RefusalError as error:
            return error.refused

    def _copy(self, prefix: str, sha256: str, size: int) -> Refused | None:
        import obstore  # noqa: PLC0415  # an extra

        key = self._key(prefix, sha256)
        try:
            if obstore.head(self._store, key)["size"] != size:
                return BLOB_GONE
        except FileNotFoundError:
            # A bucket that is not there says the same: then nothing can be said of the blob.
            next(iter(obstore.list(self._store, self._prefix or None, chunk_size=1)), None)
            return BLOB_GONE
        writer = self._local.begin(prefix)
        try:
            for start in range(0, size, PART_BYTES):
                part = obstore.get_range(self._store, key, start=start, end=min(start + PART_BYTES, size))
                writer.append([bytes(part)])
            facts = writer.commit()
        finally:
            writer.abort()
        if (facts.sha256, facts.size) != (sha256, size):
            self._local.delete(prefix, facts.sha256)
            return BLOB_GONE
        return None

    def _key(self, prefix: str, sha256: str) -> str:
        return "/".join(filter(None, (self._prefix, prefix, f"{sha256}{SUFFIX}")))


class UploadingWriter:
    """A local writer whose commit includes the upload; see :class:`~strata.artifacts.BlobWriter`."""

    def __init__(self, store: ObjectBlobStore, prefix: str, local: LocalBlobWriter) -> None:
        self._store = store
        self._prefix = prefix
        self._local = local

    @property
    def path(self) -> Path:
        """The growing file."""
        return self._local.path

    def append(self, parts: Parts) -> int:
        """Write the parts and return their offset."""
        return self._local.append(parts)

    def hash_more(self, limit: int) -> bool:
        """Hash some of what was written."""
        return self._local.hash_more(limit)

    def commit(self) -> BlobFacts:
        """Finish the local file and upload it; a blob that was not taken leaves no local copy either."""
        facts = self._local.commit()
        try:
            self._store.upload(self._prefix, facts)
        except BaseException:
            self._store.forget(self._prefix, facts.sha256)
            raise
        return facts

    def abort(self) -> None:
        """Remove the local file, if it has not got its final name yet."""
        self._local.abort()


class _Locks:
    """A lock per key, for as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                users = self._locks[key][1] - 1
                if users:
                    self._locks[key] = (lock, users)
                else:
                    del self._locks[key]


@contextmanager
def _answering() -> Iterator[None]:
    """Turn whatever the store or the disk says into a refusal; the log has the kind, not the URL in it."""
    from obstore.exceptions import BaseError  # noqa: PLC0415  # an extra

    try:
        yield
    except (BaseError, OSError) as error:
        log.warning("object store does not answer", error=type(error).__name__)
        raise RefusalError(STORE_DOWN) from error

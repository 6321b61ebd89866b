"""Results in an object store: S3, Google Cloud Storage or Azure, through obstore.

A blob is built in a local file, as with :class:`~strata.artifacts.LocalBlobStore`: readers follow it there
and the cache adopts it. Its commit uploads it under its hash before it counts as finished; the object appears
whole or not at all. Reading prefers the local copy and fetches a missing one whole, checked against its hash.
The local copies are a cache of bounded size: the directory may be emptied while the server is down.

An upload overwrites: the key is the hash of the bytes, so whoever comes second writes the same, and an object
that was damaged is whole again. Parts of an upload that never ended are invisible but stay; let the bucket's
lifecycle rules remove them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog

from strata.artifacts.blobs.copies import COPIES_BYTES, LocalCopies
from strata.artifacts.blobs.growing import Parts
from strata.artifacts.blobs.object_stores import open_object_store
from strata.artifacts.blobs.store import BLOB_GONE, SUFFIX, BlobFacts, BlobReader, LocalBlobWriter
from strata.outcomes import Reason, RefusalError, Refused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["ObjectBlobStore", "open_object_store"]

PART_BYTES = 8 * 1024 * 1024
"""Bytes of one request of an upload, each of which has ``s3_request_timeout_seconds``; S3 wants 5 MiB."""

FETCH_BYTES = 8 * 1024 * 1024
"""Likewise of a download."""

UPLOADS = 4
"""Parts of one blob on their way at a time; so many times :data:`PART_BYTES` are held in memory."""

MOST_PARTS = 10_000
"""Of one upload, says S3; the parts of a larger blob are larger."""

FETCHES = 3
"""How often a copy is fetched that was removed again before it could be opened."""

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
        copies_bytes: How many bytes of them may stay.
    """

    def __init__(
        self, store: ObjectStore, prefix: str, root: Path, *, copies_bytes: int = COPIES_BYTES
    ) -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        self._local = LocalCopies(root, copies_bytes)
        self._fetching = _Flights()

    def begin(self, prefix: str) -> UploadingWriter:
        """Begin a blob in a local file."""
        return UploadingWriter(self, prefix, self._local.begin(prefix))

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open the local copy, fetched first if need be; a blob whose bytes are not its hash's is missing."""
        for _ in range(FETCHES):
            found = self._local.open_reader(prefix, sha256, size)
            if found != BLOB_GONE:
                return found
            refused = self._fetching.join(f"{prefix}/{sha256}", lambda: self._fetch(prefix, sha256, size))
            if refused is not None:
                return refused
        found = self._local.open_reader(prefix, sha256, size)
        return STORE_DOWN if found == BLOB_GONE else found  # a copy that does not stay is no lost blob

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

    def upload(self, prefix: str, facts: BlobFacts, file: IO[bytes]) -> None:
        """Put a finished blob into the store, out of ``file``; its local file is a copy from now on.

        Raises:
            RefusalError: If the store does not take it.
        """
        import obstore  # noqa: PLC0415  # an extra

        key = self._key(prefix, facts.sha256)
        part = max(PART_BYTES, -(-facts.size // MOST_PARTS))
        with _answering():
            obstore.put(self._store, key, file, chunk_size=part, max_concurrency=UPLOADS)
        self._local.keep(prefix, facts)

    def forget(self, prefix: str, sha256: str) -> None:
        """Remove the local copy only."""
        self._local.delete(prefix, sha256)

    def _fetch(self, prefix: str, sha256: str, size: int) -> Refused | None:
        """Make a local copy, if nobody else has just made it; returns why there is none."""
        found = self._local.open_reader(prefix, sha256, size)
        if isinstance(found, BlobReader):
            os.close(found.fd)
            return None
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
            for start in range(0, size, FETCH_BYTES):
                part = obstore.get_range(self._store, key, start=start, end=min(start + FETCH_BYTES, size))
                writer.append([bytes(part)])
            facts = writer.commit()
        finally:
            writer.abort()
        if (facts.sha256, facts.size) != (sha256, size):
            self._local.delete(prefix, facts.sha256)
            return BLOB_GONE
        self._local.keep(prefix, facts)
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

    @property
    def on_file(self) -> int:
        """How much of it others can read."""
        return self._local.on_file

    def behind(self, count: int) -> bool:
        """Whether appending would wait for the disk."""
        return self._local.behind(count)

    def catch_up(self) -> None:
        """Wait for the disk."""
        self._local.catch_up()

    def settle(self) -> None:
        """Bring everything into the local file."""
        self._local.settle()

    def hash_more(self, limit: int) -> bool:
        """Hash some of what was written."""
        return self._local.hash_more(limit)

    def commit(self) -> BlobFacts:
        """Finish the local file and upload it; a blob that was not taken leaves no local copy either."""
        with self.path.open("rb") as file:  # held: an older copy of equal bytes may be removed at any moment
            facts = self._local.commit()
            try:
                self._store.upload(self._prefix, facts, file)
            except BaseException:
                self._store.forget(self._prefix, facts.sha256)
                raise
        return facts

    def abort(self) -> None:
        """Remove the local file, if it has not got its final name yet."""
        self._local.abort()


class _Flights:
    """What is being fetched: whoever wants the same meanwhile shares its outcome, good or bad.

    With a store that is down, many readers wait for one timeout, not for one after the other.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._flights: dict[str, Future[Refused | None]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, key: str, fetch: Callable[[], Refused | None]) -> Refused | None:
        with self._guard:
            flight = self._flights.get(key)
            if flight is None:
                mine = self._flights[key] = Future()
        if flight is not None:
            return flight.result()
        try:
            mine.set_result(fetch())
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._guard:
                del self._flights[key]
        return mine.result()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn whatever the store or the disk says into a refusal; the log has the kind, not the URL in it."""
    from obstore.exceptions import BaseError  # noqa: PLC0415  # an extra

    try:
        yield
    except (BaseError, OSError) as error:
        log.warning("object store does not answer", error=type(error).__name__)
        raise RefusalError(STORE_DOWN) from error

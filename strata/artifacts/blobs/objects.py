"""Blob store on an object store: S3, Google Cloud Storage or Azure, through obstore.

A blob is written to a local file, as by :class:`~strata.artifacts.LocalBlobStore`: readers follow it and
the cache adopts it. Its commit uploads it under its hash, and asks the store for its size, before it counts
as finished; the object appears complete or not at all. Reads use the local copy; a missing one is downloaded
whole and checked against its hash. Local copies are a cache of bounded size: the directory may be emptied
while the server is down.

An answer with other bytes than those of the hash does not mean that the object is lost: it is fetched again,
and readers are refused for the time being. A blob counts as lost only if the store says that the object does
not exist or has another size.

An upload overwrites: since the key is the hash of the bytes, a second upload writes the same bytes and
repairs a damaged object.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog

from strata.artifacts.blobs.copies import COPIES_BYTES, LocalCopies
from strata.artifacts.blobs.growing import Parts
from strata.artifacts.blobs.object_failures import (
    DAMAGED,
    NOT_REMOVED,
    NOT_STORED,
    STORE_DOWN,
    failures_as_refusals,
)
from strata.artifacts.blobs.object_stores import open_object_store
from strata.artifacts.blobs.store import (
    BLOB_GONE,
    SUFFIX,
    BlobFacts,
    BlobReader,
    Emptied,
    LocalBlobWriter,
    check_prefix,
)
from strata.outcomes import RefusalError, Refused
from strata.regular_files import read_regular

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

__all__ = ["STORE_DOWN", "ObjectBlobStore", "open_object_store"]

PART_BYTES = 8 * 1024 * 1024
"""Bytes per request of an upload, each with ``s3_request_timeout_seconds``; S3 requires at least 5 MiB."""

FETCH_BYTES = 8 * 1024 * 1024
"""Bytes per request of a download, each with ``s3_request_timeout_seconds``."""

UPLOADS = 4
"""Parts of one blob uploaded at a time; each occupies :data:`PART_BYTES` of memory."""

MOST_PARTS = 10_000
"""Maximum parts of an upload to S3; larger blobs have larger parts."""

FETCHES = 3
"""Downloads of a copy that is evicted before it could be opened; then the store counts as unavailable."""

LISTED = 1000
"""Objects that are listed and removed in one request each; the most that S3 permits."""

ANSWERS = 2
"""Downloads of an object whose answers have other bytes than its hash says; then readers are refused for the
time being. Each reader that comes later has it downloaded anew."""

log = structlog.get_logger(__name__)


class ObjectBlobStore:
    """Blobs below ``prefix`` of an object store, with local copies below ``root``.

    Args:
        store: The obstore store.
        prefix: Key prefix in the bucket or container.
        root: Directory of local copies.
        copies_bytes: Maximum bytes of local copies.
    """

    def __init__(
        self, store: ObjectStore, prefix: str, root: Path, *, copies_bytes: int = COPIES_BYTES
    ) -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        self._local = LocalCopies(root, copies_bytes)
        self._fetching = _SharedFetches()

    def begin(self, prefix: str) -> UploadingWriter:
        """Begin a blob in a local file."""
        return UploadingWriter(self, prefix, self._local.begin(prefix))

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open the local copy, downloaded first if need be; see :meth:`BlobStore.open_reader`.

        Returns a refusal: :data:`BLOB_GONE` if the object is missing or has another size; :data:`DAMAGED` if
        the store gives other bytes; another one of :mod:`~strata.artifacts.blobs.object_failures` if the
        object store does not answer or the copy is evicted again and again.
        """
        for _ in range(FETCHES):
            found = self._local.open_reader(prefix, sha256, size)
            if found != BLOB_GONE:
                return found
            refused = self._fetching.join(f"{prefix}/{sha256}", lambda: self._fetch(prefix, sha256, size))
            if refused is not None:
                return refused
        found = self._local.open_reader(prefix, sha256, size)
        return STORE_DOWN if found == BLOB_GONE else found  # an evicted copy does not mean a lost blob

    def presign(self, prefix: str, sha256: str, size: int, seconds: float) -> str | Refused:
        """Return an address of the object that is valid for ``seconds``, for GET only.

        Returns a refusal: :data:`BLOB_GONE` if the object is missing or has another size; another one of
        :mod:`~strata.artifacts.blobs.object_failures` if the object store does not answer.
        """
        import obstore  # noqa: PLC0415  # an extra
        from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  # an extra

        assert isinstance(self._store, AzureStore | GCSStore | S3Store)  # the others sign nothing
        key, lasting = self._key(prefix, sha256), timedelta(seconds=seconds)
        try:
            with failures_as_refusals("sign"):
                refused = self._missing(prefix, sha256, size)
                if refused is not None:
                    return refused
                return obstore.sign(self._store, "GET", key, expires_in=lasting)
        except RefusalError as error:
            return error.refused

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob and its local copy.

        Raises:
            RefusalError: UNAVAILABLE if the object store does not answer.
        """
        import obstore  # noqa: PLC0415  # an extra

        with (
            failures_as_refusals("delete"),
            suppress(FileNotFoundError),
        ):  # most stores do not report a missing object
            obstore.delete(self._store, self._key(prefix, sha256))
        self._local.delete(prefix, sha256)

    def empty(self, prefix: str) -> Emptied:
        """Remove all blobs of a prefix, however many, and their local copies.

        Raises:
            RefusalError: UNAVAILABLE if the object store does not answer, or still lists what it removed.
        """
        import obstore  # noqa: PLC0415  # an extra

        place = "/".join(filter(None, (self._prefix, check_prefix(prefix))))
        blobs = nbytes = 0
        last: set[str] = set()
        # Each time from the start: where a page begins after a removal differs between stores.
        while page := self._first_page(place):
            paths = {found["path"] for found in page}
            if paths & last:
                log.error("object store lists what it removed", objects=len(paths & last))
                raise RefusalError(NOT_REMOVED)
            with failures_as_refusals("delete"), suppress(FileNotFoundError):
                obstore.delete(self._store, sorted(paths))
            blobs, nbytes, last = blobs + len(page), nbytes + sum(one["size"] for one in page), paths
        self._local.empty(prefix)
        return Emptied(blobs, nbytes)

    def _first_page(self, place: str) -> list[ObjectMeta]:
        import obstore  # noqa: PLC0415  # an extra

        # An empty object is no blob, but a mark of a folder, as consoles make it: its key ends in a slash,
        # which obstore drops, so that it cannot be removed by the name it is listed with.
        with failures_as_refusals("list"):
            for page in obstore.list(self._store, place, chunk_size=LISTED):
                if blobs := [found for found in page if found["size"]]:
                    return blobs
        return []

    def sweep(self) -> int:
        """Remove unfinished local files of killed processes; returns their number."""
        return self._local.sweep()

    def upload(self, prefix: str, facts: BlobFacts, file: IO[bytes]) -> None:
        """Upload a finished blob from ``file``; its local file becomes a copy.

        Raises:
            RefusalError: UNAVAILABLE if the upload fails.
        """
        import obstore  # noqa: PLC0415  # an extra

        key = self._key(prefix, facts.sha256)
        part = max(PART_BYTES, -(-facts.size // MOST_PARTS))
        with failures_as_refusals("put"):
            obstore.put(self._store, key, file, chunk_size=part, max_concurrency=UPLOADS)
        # A store may acknowledge what it does not have: a gateway that lost its disk, a quota, a proxy.
        with failures_as_refusals("head"):
            try:
                stored = obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                stored = None
        if stored != facts.size:
            log.error("object store acknowledged an object and does not have it", stored_bytes=stored)
            raise RefusalError(NOT_STORED)
        self._local.keep(prefix, facts)

    def forget(self, prefix: str, sha256: str) -> None:
        """Remove the local copy only."""
        self._local.delete(prefix, sha256)

    def _fetch(self, prefix: str, sha256: str, size: int) -> Refused | None:
        """Download a local copy, unless it exists by now; returns a refusal if it cannot be made."""
        found = self._local.open_reader(prefix, sha256, size)
        if isinstance(found, BlobReader):
            os.close(found.fd)
            return None
        try:
            with failures_as_refusals("get"):
                for _ in range(ANSWERS):
                    refused = self._copy(prefix, sha256, size)
                    if refused != DAMAGED:
                        break
                return refused
        except RefusalError as error:
            return error.refused

    def _copy(self, prefix: str, sha256: str, size: int) -> Refused | None:
        import obstore  # noqa: PLC0415  # an extra

        key = self._key(prefix, sha256)
        refused = self._missing(prefix, sha256, size)
        if refused is not None:
            return refused
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
            log.error("object store gives other bytes than were stored", wanted=sha256, found=facts.sha256)
            return DAMAGED
        self._local.keep(prefix, facts)
        return None

    def _missing(self, prefix: str, sha256: str, size: int) -> Refused | None:
        """Return :data:`BLOB_GONE` if the store says that it has no such object, or one of another size."""
        import obstore  # noqa: PLC0415  # an extra

        try:
            if obstore.head(self._store, self._key(prefix, sha256))["size"] != size:
                return BLOB_GONE
        except FileNotFoundError:
            # A missing bucket gives the same error: listing it fails, and the blob does not count as gone.
            next(iter(obstore.list(self._store, self._prefix or None, chunk_size=1)), None)
            return BLOB_GONE
        return None

    def _key(self, prefix: str, sha256: str) -> str:
        return "/".join(filter(None, (self._prefix, prefix, f"{sha256}{SUFFIX}")))


class UploadingWriter:
    """A local writer with a commit that includes the upload; see :class:`~strata.artifacts.BlobWriter`."""

    def __init__(self, store: ObjectBlobStore, prefix: str, local: LocalBlobWriter) -> None:
        self._store = store
        self._prefix = prefix
        self._local = local

    @property
    def path(self) -> Path:
        """Path of the growing local file."""
        return self._local.path

    def append(self, parts: Parts) -> int:
        """Append the parts and return their offset."""
        return self._local.append(parts)

    @property
    def on_file(self) -> int:
        """Length in bytes of the written part, which others can read."""
        return self._local.on_file

    def behind(self, count: int) -> bool:
        """Test whether appending ``count`` bytes would wait for the disk."""
        return self._local.behind(count)

    def catch_up(self) -> None:
        """Wait for the oldest write in progress."""
        self._local.catch_up()

    def settle(self) -> None:
        """Write all appended bytes to the local file."""
        self._local.settle()

    def hash_more(self, limit: int) -> bool:
        """Hash up to ``limit`` more bytes; returns whether any are left."""
        return self._local.hash_more(limit)

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the bytes that were hashed."""
        return self._local.sha256

    def commit(self) -> BlobFacts:
        """Finish the local file and upload it; without a successful upload no local copy stays.

        Raises:
            RefusalError: UNAVAILABLE if the upload fails.
            OSError: If the disk is full or broken.
        """
        # Open before the commit: a copy of equal bytes may be evicted at any moment.
        with read_regular(self.path) as file:
            facts = self._local.commit()
            try:
                self._store.upload(self._prefix, facts, file)
            except BaseException:  # raised again: the copy of a blob that was not stored is none
                self._store.forget(self._prefix, facts.sha256)
                raise
        return facts

    def abort(self) -> None:
        """Remove the local file, unless it is committed."""
        self._local.abort()


class _SharedFetches:
    """Downloads in progress by key: concurrent requests for one blob share one download and its outcome.

    With a store that is down, waiting readers share one timeout instead of queueing one timeout each.
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
        except BaseException as error:  # raised again, here and where it is waited for
            mine.set_exception(error)
            raise
        finally:
            with self._guard:
                del self._flights[key]
        return mine.result()

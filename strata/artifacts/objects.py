"""Results in an object store: S3, Google Cloud Storage or Azure, through obstore.

A blob is built in a local file, as with :class:`~strata.artifacts.LocalBlobStore`: readers follow it there
and the cache adopts it. Its commit uploads it under its hash before it counts as finished. Reading prefers
the local copy and fetches a missing one whole, checked against its hash. The local copies are a cache: the
directory may be emptied while the server is down.

S3 is tested against moto. Google Cloud Storage and Azure are configured by the same code and **unverified
against the real services**.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strata.artifacts.blobs import BLOB_GONE, SUFFIX, BlobFacts, BlobReader, BlobWriter, LocalBlobStore
from strata.outcomes import Reason, Refused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PART_BYTES = 8 * 1024 * 1024
RETRIES = 3

STORE_DOWN = Refused(
    Reason.UNAVAILABLE, "The store of results does not answer.", code="blob_store_down", retry_after=5
)


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
        self._fetching: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def begin(self, prefix: str) -> BlobWriter:
        """Begin a blob in a local file."""
        return _UploadingWriter(self, prefix, self._local.begin(prefix))

    def open_reader(self, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        """Open the local copy, fetched first if need be; a blob whose bytes are not its hash's is missing."""
        found = self._local.open_reader(prefix, sha256, size)
        if isinstance(found, BlobReader):
            return found
        with self._lock(f"{prefix}/{sha256}"):
            found = self._local.open_reader(prefix, sha256, size)
            if isinstance(found, BlobReader):
                return found
            refused = self._fetch(prefix, sha256, size)
            return refused if refused is not None else self._local.open_reader(prefix, sha256, size)

    def delete(self, prefix: str, sha256: str) -> None:
        """Remove a blob and its local copy."""
        import obstore  # noqa: PLC0415  # an extra

        obstore.delete(self._store, self._key(prefix, sha256))
        self._local.delete(prefix, sha256)

    def sweep(self) -> int:
        """Remove what killed processes were writing locally."""
        return self._local.sweep()

    def upload(self, prefix: str, facts: BlobFacts) -> None:
        """Put a finished local blob into the store; equal content may be put twice."""
        import obstore  # noqa: PLC0415  # an extra

        with facts.path.open("rb") as file:
            obstore.put(self._store, self._key(prefix, facts.sha256), file, chunk_size=PART_BYTES)

    def _fetch(self, prefix: str, sha256: str, size: int) -> Refused | None:
        import obstore  # noqa: PLC0415  # an extra
        from obstore.exceptions import BaseError  # noqa: PLC0415

        writer = self._local.begin(prefix)
        try:
            for chunk in obstore.get(self._store, self._key(prefix, sha256)).stream(
                min_chunk_size=PART_BYTES
            ):
                writer.append([bytes(chunk)])
            facts = writer.commit()
        except FileNotFoundError:
            return BLOB_GONE
        except (BaseError, OSError):
            return STORE_DOWN
        finally:
            writer.abort()
        if (facts.sha256, facts.size) != (sha256, size):
            self._local.delete(prefix, facts.sha256)
            return BLOB_GONE
        return None

    def _key(self, prefix: str, sha256: str) -> str:
        return "/".join(filter(None, (self._prefix, prefix, f"{sha256}{SUFFIX}")))

    def _lock(self, key: str) -> threading.Lock:
        with self._guard:
            return self._fetching.setdefault(key, threading.Lock())


class _UploadingWriter:
    """A local writer whose commit includes the upload."""

    def __init__(self, store: ObjectBlobStore, prefix: str, local: BlobWriter) -> None:
        self._store = store
        self._prefix = prefix
        self._local = local
        self.path = local.path
        self.append = local.append
        self.hash_more = local.hash_more
        self.abort = local.abort

    def commit(self) -> BlobFacts:
        facts = self._local.commit()
        self._store.upload(self._prefix, facts)
        return facts


def open_object_store(backend: str, settings: Any) -> tuple[ObjectStore, str]:
    """Return the store and prefix that ``artifact_blob_backend`` and its settings name.

    Raises:
        ImportError: If the extra ``objectstore`` is not installed.
    """
    from obstore.store import AzureStore, GCSStore, S3Store  # noqa: PLC0415  # an extra

    client: Any = {
        "connect_timeout": timedelta(seconds=settings.s3_connect_timeout_seconds),
        "timeout": timedelta(seconds=settings.s3_request_timeout_seconds),
        "allow_http": True,
    }
    retry: Any = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=settings.s3_request_timeout_seconds),
    }
    if backend == "gcs":
        store: Any = GCSStore(settings.artifact_gcs_bucket, client_options=client, retry_config=retry)
        return store, settings.artifact_gcs_prefix
    if backend == "azure":
        store = AzureStore(settings.artifact_azure_container, client_options=client, retry_config=retry)
        return store, settings.artifact_azure_prefix
    given = {
        "region": settings.s3_region,
        "endpoint": settings.s3_endpoint_url,
        "access_key_id": settings.s3_access_key,
        "secret_access_key": settings.s3_secret_key,
        "skip_signature": settings.s3_anonymous or None,
    }
    options = {key: value for key, value in given.items() if value is not None}
    store = S3Store(settings.artifact_s3_bucket, client_options=client, retry_config=retry, **options)
    return store, settings.artifact_s3_prefix

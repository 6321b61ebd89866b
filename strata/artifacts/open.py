"""Open the blob store that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strata.artifacts.blobs.object_stores import ObjectStoreSettings, open_object_store
from strata.artifacts.blobs.objects import ObjectBlobStore
from strata.artifacts.blobs.store import LocalBlobStore


def open_blob_store(
    root: Path, *, artifact_blob_backend: str = "local", **settings: Any
) -> LocalBlobStore | ObjectBlobStore:
    """Return the blob store for the given settings; connects to nothing yet.

    Args:
        root: Directory of local blobs, or of the local copies of remote ones.
        artifact_blob_backend: ``local``, ``s3``, ``gcs`` or ``azure`` (the last two are unverified against
            the real services).
        **settings: Any of :class:`~strata.artifacts.blobs.object_stores.ObjectStoreSettings`, by name.

    Raises:
        ImportError: If an object store is named and the extra ``objectstore`` is not installed.
        TypeError: For an unknown setting.
        ValueError: For an unknown backend.
    """
    known = ObjectStoreSettings(**settings)
    if artifact_blob_backend == "local":
        return LocalBlobStore(root)
    return ObjectBlobStore(*open_object_store(artifact_blob_backend, known), root)

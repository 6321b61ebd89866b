"""The blob store that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strata.artifacts.blobs.object_stores import ObjectStoreSettings, open_object_store
from strata.artifacts.blobs.objects import ObjectBlobStore
from strata.artifacts.blobs.store import LocalBlobStore


def open_blob_store(
    root: Path, *, artifact_blob_backend: str = "local", **settings: Any
) -> LocalBlobStore | ObjectBlobStore:
    """Return the store that holds results.

    Args:
        root: Directory of local blobs, or of the local copies of remote ones.
        artifact_blob_backend: ``local``, ``s3``, ``gcs`` (unverified against the real service) or ``azure``
            (likewise).
        **settings: Any of :class:`~strata.artifacts.blobs.object_stores.ObjectStoreSettings`, by their names.

    Raises:
        ImportError: If an object store is named and the extra ``objectstore`` is not installed.
        TypeError: For a setting that is none.
        ValueError: For a backend that is none.
    """
    known = ObjectStoreSettings(**settings)
    if artifact_blob_backend == "local":
        return LocalBlobStore(root)
    return ObjectBlobStore(*open_object_store(artifact_blob_backend, known), root)

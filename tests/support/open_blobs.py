"""Opens the blob store that settings name, as a server does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strata.artifacts import BlobStore
from strata.config import Settings
from strata.server.stores import _open_blobs


def open_blob_store(root: Path, **settings: Any) -> BlobStore:
    return _open_blobs(Settings(**settings), root)

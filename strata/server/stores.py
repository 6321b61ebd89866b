"""Open the stores of results, one server at a time; explain to the operator why they cannot be opened."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import sqlalchemy as sa
import structlog

from strata.artifacts import BlobStore, LocalBlobStore, MetadataStore, NewerDatabaseError, SqlMetadataStore
from strata.artifacts.blobs.objects import ObjectBlobStore, open_object_store
from strata.config import Settings
from strata.durable import PRIVATE_MODE
from strata.outcomes import RefusalError

LOCK_NAME = "server.lock"
"""File in ``artifact_dir`` that the running server keeps locked."""

log = structlog.get_logger(__name__)


class CannotOpenError(Exception):
    """The stores cannot be opened; the message tells the operator why and, where known, the remedy."""


@attrs.frozen(eq=False)
class Stores:
    """Open stores.

    Attributes:
        metadata: Store of artifacts, builds and names.
        blobs: Store of the results' bytes.
    """

    metadata: MetadataStore
    blobs: BlobStore
    _held: ExitStack

    def close(self) -> None:
        """Close the database and release the lock."""
        self._held.close()


def open_stores(settings: Settings) -> Stores:
    """Open the stores, and clean up after a process that was killed. Blocking.

    Raises:
        CannotOpenError: If a file or the database cannot be opened, or another server has the directory open,
            whose files the clean-up would remove.
    """
    root = settings.artifact_root
    database = Path(settings.metadata_db).expanduser() if settings.metadata_db else root / "metadata.db"
    with ExitStack() as held, _explained(root, database):
        for directory in (root, database.parent):
            directory.mkdir(parents=True, exist_ok=True)
        held.enter_context(_alone_in(root))
        blobs = _open_blobs(settings, root / "blobs")
        metadata = SqlMetadataStore(database, time.time)
        held.callback(metadata.close)
        interrupted, leftovers = metadata.sweep_interrupted(), blobs.sweep()
        if interrupted or leftovers:
            log.warning("cleaned up after a killed process", builds=interrupted, files=leftovers)
        return Stores(metadata, blobs, held.pop_all())


def _open_blobs(settings: Settings, root: Path) -> LocalBlobStore | ObjectBlobStore:
    backend = settings.artifact_blob_backend
    if backend == "local":
        return LocalBlobStore(root)
    try:
        store, prefix = open_object_store(backend, settings)
    except ImportError:
        raise CannotOpenError(
            f"artifact_blob_backend: {backend} needs an extra; pip install 'strata[objectstore]'."
        ) from None
    return ObjectBlobStore(store, prefix, root, copies_bytes=settings.artifact_copies_bytes)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Lock ``directory`` until the end of the block; the system unlocks it when the process dies."""
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CannotOpenError(f"artifact_dir: {directory} is in use by another server.") from None
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explained(root: Path, database: Path) -> Iterator[None]:
    try:
        yield
    except NewerDatabaseError as error:
        raise CannotOpenError(f"{database}: {error}") from None
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise CannotOpenError(f"{database} cannot be opened as a metadata database: {cause}.") from error
    except RefusalError as error:
        raise CannotOpenError(f"{database}: {error.refused.detail}") from error
    except OSError as error:
        raise CannotOpenError(f"{error.filename or root}: {error.strerror or error}.") from error

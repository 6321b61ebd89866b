"""Open the stores of results, one server at a time; explain to the operator why they cannot be opened."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import sqlalchemy as sa
import structlog

from strata import __version__
from strata.artifacts import BlobStore, LocalBlobStore, MetadataStore, SqlMetadataStore
from strata.artifacts.accesses.contract import AccessStore
from strata.artifacts.accesses.sql_accesses import SqlAccesses
from strata.artifacts.blobs.object_failures import fault_of, is_clients
from strata.artifacts.blobs.object_stores import RETRIES, open_object_store
from strata.artifacts.blobs.objects import ObjectBlobStore
from strata.artifacts.blobs.store import GROWING, TEMPORARY
from strata.artifacts.database.contract import Database
from strata.artifacts.database.migrate import SchemaError
from strata.artifacts.database.sqlite import SqliteDatabase
from strata.artifacts.moving.copying import Side
from strata.artifacts.provenance import tenant_prefix
from strata.artifacts.registry.contract import RegistryStore
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.artifacts.retention.contract import RetentionStore
from strata.artifacts.retention.sql_retention import SqlRetention
from strata.artifacts.servers.contract import ServerFacts, ServerStore
from strata.artifacts.servers.sql_servers import DatabaseClock, SqlServers, servers_of
from strata.auth import DEFAULT_TENANT
from strata.config import Settings
from strata.durable import PRIVATE_MODE
from strata.notebooks.store.contract import NotebookStore
from strata.notebooks.store.sql_store import SqlNotebookStore
from strata.outcomes import RefusalError
from strata.postgres_address import parse_dsn
from strata.server.scratch import scratch_directory

if TYPE_CHECKING:
    from obstore.store import ObjectStore

LOCK_NAME = "server.lock"
"""File in ``artifact_dir`` that the running server keeps locked."""

PRIVATE_DIRECTORY = 0o700
"""Permissions of a directory that the server makes; one that exists keeps its own."""

PERMISSIONS = 0o777
"""The bits of a file's mode that are permissions."""

SHARING_SECONDS = 10.0
"""Seconds to wait while another server removes unfinished files from a shared directory as it starts."""

ABANDONED_SECONDS = 86_400.0
"""Seconds after its last write in which an unfinished file in a shared directory counts as in use."""

log = structlog.get_logger(__name__)


class CannotOpenError(Exception):
    """The stores cannot be opened; the message tells the operator why and, where known, the remedy."""


@attrs.frozen(eq=False)
class Stores:
    """Open stores.

    Attributes:
        metadata: Store of artifacts, builds and names.
        retention: Its part that ends results.
        registry: Its part that keeps names, aliases, tags and pins.
        notebooks: Store of notebooks, in the same database.
        blobs: Store of the results' bytes.
        root: Directory of results, or of unfinished ones and local copies if nothing of value is local.
        servers: The servers that share the database; None if this one has it alone.
        accesses: Store of the access audit, in the same database; None in a simulation.
    """

    metadata: MetadataStore
    retention: RetentionStore
    registry: RegistryStore
    notebooks: NotebookStore
    blobs: BlobStore
    root: Path
    _held: ExitStack
    servers: ServerStore | None = None
    accesses: AccessStore | None = None

    def close(self) -> None:
        """Close the database and release the lock."""
        self._held.close()


def open_stores(settings: Settings) -> Stores:
    """Open the stores, and clean up after a process that was killed. Blocking.

    Raises:
        CannotOpenError: If a file or the database cannot be opened, or another server has the directory open,
            whose files the clean-up would remove.
    """
    with ExitStack() as held, explained(settings):
        if settings.needs_no_directory:
            root = held.enter_context(scratch_directory())
            directories = [root]
        else:
            root = settings.artifact_root
            directories = [root, database_file(settings).parent]
        for directory in (*directories, Path(settings.cache_dir).expanduser()):
            directory.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        shared = settings.artifact_metadata_dsn is not None
        blobs = _open_blobs(settings, root / "blobs")
        if shared and settings.artifact_blob_backend == "local":
            swept = held.enter_context(_sharing(root, blobs.sweep))
        else:
            held.enter_context(_alone_in(root))
            swept = blobs.sweep()
        database = database_of(settings)
        held.callback(database.close)
        if shared:
            return _shared(settings, database, blobs, root, held, swept=swept)
        metadata = SqlMetadataStore(database, time.time)
        tenants = metadata.interrupted()
        interrupted = metadata.sweep_interrupted()
        if isinstance(blobs, LocalBlobStore):  # a build may have been ended between its bytes and its row
            swept += sum(
                blobs.sweep_unreferenced(tenant_prefix(tenant), metadata.hashes(tenant)) for tenant in tenants
            )
        if interrupted or swept:
            log.warning("cleaned up after a killed process", builds=interrupted, files=swept)
        notebooks = SqlNotebookStore(metadata.transactions, time.time)
        parts = (SqlRetention(metadata), SqlRegistry(metadata), notebooks)
        return Stores(metadata, *parts, blobs, root, held.pop_all(), accesses=SqlAccesses(metadata))


def _shared(
    settings: Settings, database: Database, blobs: BlobStore, root: Path, held: ExitStack, *, swept: int
) -> Stores:
    """Return the stores of a server that may share its database, and take a lease for it."""
    clock = DatabaseClock()
    metadata = SqlMetadataStore(database, clock)
    servers = SqlServers(metadata, settings.artifact_lease_seconds, clock)
    servers.beat(facts_of(settings, None, "starting"))
    held.callback(_leave, servers)
    ended = servers.end_dead()
    if ended or swept:
        log.warning("cleaned up after a dead server", builds=ended, files=swept)
    notebooks = SqlNotebookStore(
        metadata.transactions,
        clock,
        owner=servers.server_id,
        lease_seconds=settings.artifact_lease_seconds,
        alone=False,
        dead=metadata.dead_servers,
    )
    held.callback(_leave_sessions, notebooks)
    parts = (SqlRetention(metadata), SqlRegistry(metadata), notebooks)
    return Stores(metadata, *parts, blobs, root, held.pop_all(), servers, SqlAccesses(metadata))


def _leave(servers: SqlServers) -> None:
    try:
        servers.leave()
    except RefusalError:  # the lease ends by itself
        log.warning("lease not given back")


def _leave_sessions(notebooks: SqlNotebookStore) -> None:
    try:
        notebooks.leases.leave()
    except RefusalError:  # the leases end by themselves
        log.warning("leases of notebooks not given back")


def facts_of(settings: Settings, policy_version: str | None, state: str) -> ServerFacts:
    """Return what a server tells the others of itself."""
    shown = sorted(
        (field.name, repr(getattr(settings, field.name))) for field in attrs.fields(Settings) if field.repr
    )
    place = settings.unix_socket or f"{settings.host}:{settings.port}"
    return ServerFacts(
        name=f"{socket.gethostname()} {place}"[:256],
        version=__version__,
        config_version=hashlib.sha256(repr(shown).encode()).hexdigest()[:16],
        policy_version=policy_version,
        state=state,
    )


@contextmanager
def opened_side(settings: Settings, tenant: str | None) -> Iterator[Side]:
    """Open a tenant's results for a command that copies or removes them, without a server. Blocking.

    Nothing is cleaned up: with a database server, other servers may be at work.

    Args:
        settings: The settings of the store.
        tenant: The tenant; None: the only one of a store without tenants.

    Raises:
        CannotOpenError: As of :func:`open_stores`.
    """
    with ExitStack() as held:
        with explained(settings):
            if settings.needs_no_directory:
                root = held.enter_context(scratch_directory())
            else:
                root = settings.artifact_root
                root.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
                database_file(settings).parent.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
                held.enter_context(_alone_in(root))
            blobs = _open_blobs(settings, root / "blobs")
            database = database_of(settings)
            held.callback(database.close)
            metadata = SqlMetadataStore(database, time.time)
        yield Side(metadata, blobs, DEFAULT_TENANT if tenant is None else tenant)


def refuse_beside_servers(settings: Settings, side: Side) -> None:
    """Refuse to change a store that servers use. Blocking.

    Beside a local database no server can be: :func:`opened_side` holds the directory.

    Raises:
        CannotOpenError: If a server has a lease on the database; names all that have one.
    """
    living = [] if settings.artifact_metadata_dsn is None else [one.name for one in servers_of(side.store)]
    if living:
        raise CannotOpenError(
            f"artifact_metadata_dsn: servers use the database: {', '.join(living)}. Stop them first; the "
            f"lease of one that was killed is over in {settings.artifact_lease_seconds:g} s "
            "(artifact_lease_seconds)."
        )


def database_file(settings: Settings) -> Path:
    """Return the SQLite file of the metadata, which is not used with ``artifact_metadata_dsn``."""
    if settings.metadata_db:
        return Path(settings.metadata_db).expanduser()
    return settings.artifact_root / "metadata.db"


def database_of(settings: Settings) -> Database:
    """Return the configured database of the metadata; makes its file if that is SQLite's. Blocking.

    Raises:
        CannotOpenError: If its driver is not installed.
    """
    if settings.artifact_metadata_dsn is None:
        file = database_file(settings)
        _keep_private(file)
        return SqliteDatabase(file)
    if importlib.util.find_spec("psycopg") is None:
        raise CannotOpenError("artifact_metadata_dsn: it needs an extra; pip install 'strata[postgres]'.")
    from strata.artifacts.database.postgres import PostgresDatabase  # noqa: PLC0415  # needs the extra

    return PostgresDatabase(parse_dsn(settings.artifact_metadata_dsn), settings.artifact_metadata_connections)


def _open_blobs(settings: Settings, root: Path) -> LocalBlobStore | ObjectBlobStore:
    if settings.artifact_blob_backend == "local":
        return LocalBlobStore(root)
    return ObjectBlobStore(*open_bucket(settings), root, copies_bytes=settings.artifact_copies_bytes)


def open_bucket(settings: Settings, *, retries: int = RETRIES) -> tuple[ObjectStore, str]:
    """Return the configured object store and its key prefix; connects to nothing yet.

    Raises:
        CannotOpenError: If the extra is not installed, or the settings describe no store.
    """
    backend = settings.artifact_blob_backend
    try:
        return open_object_store(backend, settings, retries=retries)
    except ImportError:
        raise CannotOpenError(
            f"artifact_blob_backend: {backend} needs an extra; pip install 'strata[objectstore]'."
        ) from None
    except Exception as error:  # obstore's errors have no common class; what is not its is raised again
        if not is_clients(error):
            raise
        raise CannotOpenError(f"artifact_blob_backend: {fault_of(error)}") from None


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
def _sharing(directory: Path, sweep: Callable[[], int]) -> Iterator[int]:
    """Lock ``directory`` together with other servers of one database; yields what ``sweep`` returned.

    It is called if no other server uses the directory: unfinished files belong to no living server then.
    """
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE)
    try:
        swept = 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            swept = sweep()
        except BlockingIOError:
            swept = _sweep_abandoned(directory / "blobs")
        _lock_shared(descriptor, directory)
        yield swept
    finally:
        os.close(descriptor)


def _sweep_abandoned(blobs: Path) -> int:
    """Remove unfinished files that no living server can be writing, beside servers that do write."""
    swept, before = 0, time.time() - ABANDONED_SECONDS
    for file in blobs.glob(f"{GROWING}/*{TEMPORARY}"):
        with suppress(FileNotFoundError):  # another server finishes or removes it
            if file.stat().st_mtime < before:
                file.unlink()
                swept += 1
    return swept


def _lock_shared(descriptor: int, directory: Path) -> None:
    until = time.monotonic() + SHARING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise CannotOpenError(
                    f"artifact_dir: {directory} is in use by a server with another database."
                ) from None
            time.sleep(0.05)
        else:
            return


def _keep_private(database: Path) -> None:
    """Make the database file, and let only its owner read it: it names principals, tables and filter values.

    SQLite gives its other files, the write-ahead log first of all, the mode of the database.
    """
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_MODE))
    for name in (database.name, f"{database.name}-wal", f"{database.name}-shm"):
        file = database.with_name(name)
        try:
            if file.stat().st_mode & ~PRIVATE_MODE & PERMISSIONS:
                file.chmod(PRIVATE_MODE)
        except FileNotFoundError:
            continue
        except PermissionError:  # another user's file, whose mode is that user's business
            log.warning("others can read the metadata database", file=str(file))


@contextmanager
def explained(settings: Settings) -> Iterator[None]:
    """Turn what keeps the stores from being opened into :class:`CannotOpenError`."""
    try:
        yield
    except SchemaError as error:
        raise CannotOpenError(f"{_place(settings)}: {error}") from None
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        words = f"{_place(settings)} cannot be opened as a metadata database: {cause}."
        raise CannotOpenError(_redacted(settings, words)) from error
    except RefusalError as error:
        cause = error.__cause__.orig if isinstance(error.__cause__, sa.exc.DBAPIError) else None
        why = "" if cause is None else f" {' '.join(str(cause).split())}"
        words = f"{_place(settings)}: {error.refused.detail}{why}"
        raise CannotOpenError(_redacted(settings, words)) from error
    except OSError as error:
        raise CannotOpenError(
            f"{error.filename or settings.artifact_root}: {error.strerror or error}."
        ) from error


def place_of_metadata(settings: Settings) -> str:
    """Return the file or the address of the metadata's database, without a password."""
    if settings.artifact_metadata_dsn is None:
        return str(database_file(settings))
    return str(parse_dsn(settings.artifact_metadata_dsn))


def _place(settings: Settings) -> str:
    """Return the database as the beginning of an error names it."""
    setting = "" if settings.artifact_metadata_dsn is None else "artifact_metadata_dsn: "
    return setting + place_of_metadata(settings)


def _redacted(settings: Settings, text: str) -> str:
    if settings.artifact_metadata_dsn is None:
        return text
    return parse_dsn(settings.artifact_metadata_dsn).redacted(text)

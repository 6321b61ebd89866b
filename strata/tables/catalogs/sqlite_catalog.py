"""Find a table's metadata location in a pyiceberg ``SqlCatalog`` on SQLite with one SELECT.

pyiceberg's own ``SqlCatalog`` creates the file and its tables when they are absent, and uses an ORM. This
reader opens the file read-only, so that naming a directory creates nothing in it, and takes microseconds, so
that every request can read the current location.

A hand-over to a worker thread costs ten times as much as the SELECT. So a location is cached with the file's
change counter (SQLite's file format, "File change counter": with a rollback journal, every transaction that
changes the file increments the counter before it commits). The counter is read while the SELECT's lock
excludes writers: while the counter is unchanged, the location is, too.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from cachetools import LRUCache

from strata.regular_files import open_regular
from strata.tables.catalogs.refs import TableRef

T = TypeVar("T")

_CURRENT = (
    "SELECT metadata_location FROM iceberg_tables"
    " WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?"
    " AND (iceberg_type IS NULL OR iceberg_type = 'TABLE')"
)
# Catalog files written before views existed have no iceberg_type column (JdbcCatalog schema v0).
_CURRENT_V0 = (
    "SELECT metadata_location FROM iceberg_tables"
    " WHERE catalog_name = ? AND table_namespace = ? AND table_name = ?"
)
_BEHIND = (
    " FROM iceberg_tables"
    " WHERE catalog_name = ? AND (table_namespace, table_name) > (?, ?)"
    " ORDER BY table_namespace, table_name LIMIT ?"
)
_BEHIND_IN_NAMESPACE = (
    " FROM iceberg_tables"
    " WHERE catalog_name = ? AND table_namespace = ? AND table_name > ?"
    " ORDER BY table_name LIMIT ?"
)
_LISTED = "SELECT table_namespace, table_name, iceberg_type"
_LISTED_V0 = "SELECT table_namespace, table_name, NULL"
_LOCK_TIMEOUT_SECONDS = 5.0
"""Wait for a writer's lock on the file; afterwards the file counts as unavailable."""
_MAX_IDLE = 8
"""Idle connections kept per file; more are closed."""
_MAX_LOCATIONS = 1024
"""Tables per file whose location is cached; beyond, the least recently read goes."""

_HEADER_BYTES = 28
_WRITE_VERSION, _ROLLBACK_JOURNAL = 18, 1
_CHANGE_COUNTER = slice(24, 28)
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

Identity = tuple[int, int]
"""Device and inode."""


class CatalogFileError(Exception):
    """The catalog file cannot be read now, or is gone."""


class DirectoryMissingError(CatalogFileError):
    """The directory of the catalog file is missing: a file system that is not mounted, for example."""


class SqliteCatalog:
    """Reads one catalog file. Thread-safe: a connection is lent to one caller at a time.

    A connection is closed when the path no longer names the file it opened, so a replaced catalog file is
    noticed like any commit.

    Args:
        path: Path of the file; it need not exist yet.
        catalog_name: Value of ``catalog_name`` in the rows to read.
        configured: Whether the file's directory must exist; one that is not mounted has no other tables.

    Attributes:
        reading: Calls under way. Closed meanwhile, their locks would be lost (see :class:`_Header`).
    """

    def __init__(self, path: str, catalog_name: str, *, configured: bool = True) -> None:
        self._path = path
        self._configured = configured
        self._seen = _has_content(path)
        self._catalog_name = catalog_name
        self._idle: deque[tuple[sqlite3.Connection, Identity]] = deque()
        self._lock = threading.Lock()
        self._header = _Header()
        self.reading = 0
        self._known: LRUCache[TableRef, tuple[Identity, bytes, str]] = LRUCache(_MAX_LOCATIONS)

    def __repr__(self) -> str:
        return f"<SqliteCatalog {self._path!r} {self._catalog_name!r}>"

    def peek(self, ref: TableRef) -> str | None:
        """Return the location of the table's current metadata if no I/O has to be waited for, else ``None``.

        Costs one ``stat`` and one non-blocking read (``RWF_NOWAIT``), which network file systems do not
        support: for them the result is always ``None``.
        """
        with self._lock:
            known = self._known.get(ref)
        if known is None:
            return None
        identity, counter, location = known
        if self._header.counter(identity) != counter or not self._is_current_file(identity):
            return None
        return location

    def metadata_location(self, ref: TableRef) -> str | None:
        """Return the location of the table's current metadata; blocking. ``None``: no such table.

        Raises:
            CatalogFileError: If the file is locked, damaged, no regular file or not readable by this process,
                or was there before and is missing or empty now.
        """
        location = self._reading(lambda found, identity: self._read_location(found, ref, identity), None)
        self._seen = self._seen or location is not None
        return location

    def names_behind(
        self, namespace: str | None, place: tuple[str, str], most: int
    ) -> list[tuple[str, str, str | None]]:
        """Return the next tables and views in the order of their namespaces and names; blocking.

        Args:
            namespace: The only namespace to list; ``None``: all.
            place: Namespace and name of the last one before.
            most: Most rows to return.

        Returns:
            Of each its namespace, name and type (``TABLE``, ``VIEW``; ``None`` means a table).

        Raises:
            CatalogFileError: As of :meth:`metadata_location`.
        """
        key = (self._catalog_name, *place, most)
        which = _BEHIND if namespace is None else _BEHIND_IN_NAMESPACE

        def read(connection: sqlite3.Connection, _identity: Identity) -> list[tuple[str, str, str | None]]:
            try:
                return connection.execute(_LISTED + which, key).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    self._check_not_gone(error)
                    return []
                if "no such column" not in str(error):
                    raise
                return connection.execute(_LISTED_V0 + which, key).fetchall()

        return self._reading(read, [])

    def _reading(self, read: Callable[[sqlite3.Connection, Identity], T], nothing: T) -> T:
        """Return what ``read`` reads with a connection; ``nothing`` if there is no file yet."""
        with self._lock:
            self.reading += 1
        try:
            return self._read(read, nothing)
        finally:
            with self._lock:
                self.reading -= 1

    def _read(self, read: Callable[[sqlite3.Connection, Identity], T], nothing: T) -> T:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a Path object would double the cost of this call
        except FileNotFoundError as cause:
            self._check_not_gone(cause)
            return nothing
        except OSError as cause:
            raise CatalogFileError from cause
        if not stat.S_ISREG(status.st_mode):
            raise CatalogFileError("not a regular file")  # SQLite would wait for the other end of a FIFO
        identity = (status.st_dev, status.st_ino)
        try:
            connection = self._borrow(identity)
            try:
                found = read(connection, identity)
            except BaseException:  # raised again: no other code closes it
                connection.close()
                raise
        except sqlite3.Error as cause:
            raise CatalogFileError from cause
        self._give_back(connection, identity)
        return found

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, deque()
        for connection, _ in idle:
            connection.close()
        self._header.close()

    def _is_current_file(self, identity: Identity) -> bool:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a Path object would double the cost of this call
        except OSError:
            return False
        return identity == (status.st_dev, status.st_ino)

    def _read_location(self, connection: sqlite3.Connection, ref: TableRef, identity: Identity) -> str | None:
        """Read the location, and cache it with the change counter it belongs to."""
        connection.execute("BEGIN")
        location = self._select(connection, ref)
        # The transaction's lock keeps writers out of the file until it ends.
        counter = self._header.open(self._path, identity)
        connection.execute("COMMIT")
        with self._lock:
            if location is None or counter is None:
                self._known.pop(ref, None)
            else:
                self._known[ref] = (identity, counter, location)
        return location

    def _select(self, connection: sqlite3.Connection, ref: TableRef) -> str | None:
        key = (self._catalog_name, ".".join(ref.namespace), ref.table)
        try:
            row = connection.execute(_CURRENT, key).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                self._check_not_gone(error)
                return None
            if "no such column" not in str(error):
                raise
            row = connection.execute(_CURRENT_V0, key).fetchone()
        return None if row is None else row[0]

    def _check_not_gone(self, cause: Exception) -> None:
        """Check that a catalog without its table of tables is one that has no tables yet.

        Raises:
            CatalogFileError: If it had a catalog before, or its directory is missing, too.
        """
        if self._configured and not os.path.isdir(os.path.dirname(self._path)):  # noqa: PTH112, PTH120
            raise DirectoryMissingError from cause
        if self._seen:
            raise CatalogFileError from cause

    def _borrow(self, identity: Identity) -> sqlite3.Connection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection, opened = self._idle.pop()
            if opened == identity:
                return connection
            connection.close()
        return sqlite3.connect(
            f"file:{quote(self._path)}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=_LOCK_TIMEOUT_SECONDS,
            check_same_thread=False,
        )

    def _give_back(self, connection: sqlite3.Connection, identity: Identity) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append((connection, identity))
                return
        connection.close()


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0  # noqa: PTH116 - as above
    except OSError:
        return False


class _Header:
    """The header of a catalog file, read through a descriptor that stays open.

    The descriptor is closed only when the file was replaced or the catalog is closed: when a process closes
    *any* descriptor of a file, POSIX releases all its locks on that file, those of SQLite's connections
    included.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fd = -1
        self._identity: Identity | None = None

    def open(self, path: str, identity: Identity) -> bytes | None:
        """Return the change counter of the file at ``path``; ``None`` as for :meth:`counter`."""
        with self._lock:
            if self._identity != identity:
                self._close()
                try:
                    self._fd = open_regular(path, follow=True)
                except OSError:
                    return None
                status = os.fstat(self._fd)
                self._identity = (status.st_dev, status.st_ino)
        return self.counter(identity)

    def counter(self, identity: Identity) -> bytes | None:
        """Return the change counter; ``None`` if a read would wait or commits do not change it."""
        header = bytearray(_HEADER_BYTES)
        with self._lock:
            if self._identity != identity or not _NOWAIT:
                return None
            try:
                if os.preadv(self._fd, [header], 0, _NOWAIT) != _HEADER_BYTES:
                    return None
            except OSError:
                return None
        if header[_WRITE_VERSION] != _ROLLBACK_JOURNAL:
            return None  # with a write-ahead log, commits do not change the counter
        return bytes(header[_CHANGE_COUNTER])

    def close(self) -> None:
        """Close the descriptor."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._identity = -1, None

"""Metadata in a SQLite file in WAL mode, used by one server at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from strata.artifacts.database.connections import (
    begin,
    end_if_interrupted,
    failures_as_refusals,
    interruptible,
    prepare,
    use_wal,
)
from strata.artifacts.database.contract import BUSY_SECONDS, STORE_DOWN
from strata.artifacts.database.database_file import DatabaseFile
from strata.artifacts.database.migrate import opening, upgrade
from strata.artifacts.database.store_secret import store_secret
from strata.outcomes import RefusalError


class SqliteDatabase:
    """A SQLite file; see :class:`.contract.Database`.

    Args:
        path: The file; its directory must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
            poolclass=sa.pool.QueuePool,
            pool_size=8,
            max_overflow=64,
        )
        self.writer = self.engine.execution_options(writes=True)
        self._unsynced_writer = self.engine.execution_options(writes=True, unsynced=True)
        self._write_lock = threading.Lock()
        event.listen(self.engine, "connect", prepare)
        event.listen(self.engine, "begin", begin)
        event.listen(self.engine, "before_cursor_execute", end_if_interrupted)

    def open(self) -> bytes:
        """See :class:`.contract.Database`; an older schema is migrated."""
        with opening(self._path):
            use_wal(self.engine)
            upgrade(self.writer)
            secret = store_secret(self.writer)
        file = DatabaseFile(self._path)
        event.listen(self.engine, "begin", file.check)
        # A connection to another file would stay in the pool when the file is put back.
        event.listen(self.engine, "do_connect", lambda *_: file.check())
        return secret

    def probe(self) -> bool:
        """See :class:`.contract.Database`."""
        try:
            with self.reading() as connection:
                connection.execute(sa.text("SELECT 1 FROM alembic_version"))
        except (RefusalError, sa.exc.SQLAlchemyError):
            return False
        return True

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """See :class:`.contract.Database`."""
        with failures_as_refusals(), self.engine.connect() as connection, interruptible(connection):
            yield connection

    @contextmanager
    def writing(self, _tenant: str | None, *, unsynced: bool = False) -> Iterator[sa.Connection]:
        """See :class:`.contract.Database`; writers of all tenants go one at a time.

        With ``unsynced``, it is synced with the next synced commit, and the database stays consistent.

        Writers of this process queue on a lock that wakes the next one at once. SQLite's own busy handler
        polls at intervals of up to a tenth of a second and may starve a writer.
        """
        if not self._write_lock.acquire(timeout=BUSY_SECONDS):
            raise RefusalError(STORE_DOWN)
        try:
            with (
                failures_as_refusals(),
                (self._unsynced_writer if unsynced else self.writer).begin() as connection,
                interruptible(connection),
            ):
                yield connection
        finally:
            self._write_lock.release()

    def apart(self) -> AbstractContextManager[sa.Connection]:
        """See :class:`.contract.Database`; there is one writer at a time."""
        return self.writing(None, unsynced=True)

    def close(self) -> None:
        """See :class:`.contract.Database`."""
        self.engine.dispose()

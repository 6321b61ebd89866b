"""Failures of a database as refusals; connections to SQLite: journal mode, transactions, interrupts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs
import sqlalchemy as sa
import structlog

from strata.artifacts.database.contract import STORE_DOWN, STORE_FULL
from strata.outcomes import RefusalError
from strata.work.waiting_threads import current_interrupt

LOOK_STEPS = 100_000
"""Steps of SQLite's machine, about a millisecond, after which a statement looks for an interrupt."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class Transactions:
    """Transactions on a metadata database, for stores of other things in it.

    Attributes:
        reading: Begins a transaction that only reads.
        writing: Begins a transaction that writes rows of a tenant, which no other one does meanwhile; it is
            durable when it ends.
    """

    reading: Callable[[], AbstractContextManager[sa.Connection]]
    writing: Callable[[str], AbstractContextManager[sa.Connection]]


def _sqlite_failure(cause: BaseException | None) -> bool:
    """Whether it is a full disk, a lock held too long or a damaged file, and not a statement's error."""
    if isinstance(cause, sqlite3.OperationalError | sa.exc.TimeoutError):
        return True
    return type(cause) is sqlite3.DatabaseError  # exactly this class: "malformed" and the like


@contextmanager
def failures_as_refusals(
    failure: Callable[[BaseException | None], bool] = _sqlite_failure, told: Callable[[str], str] = str
) -> Iterator[None]:
    """Turn failures of the database into a refusal; the cause is logged.

    Other database errors, such as a violated constraint, are bugs and pass.

    Args:
        failure: Whether an error of the driver is a failure of the database.
        told: Returns the first line of an error's message as the log may have it.
    """
    try:
        yield
    except (sa.exc.DatabaseError, sa.exc.TimeoutError) as error:
        cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
        if not failure(cause):
            raise
        if not current_interrupt().requested:
            log.warning("metadata store does not answer", cause=told((str(cause).splitlines() or [""])[0]))
        raise RefusalError(STORE_FULL if _is_full(cause) else STORE_DOWN) from error


def _is_full(cause: BaseException | None) -> bool:
    """Whether SQLite has met a full disk; PostgreSQL's disk is its administrator's business."""
    return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


@contextmanager
def interruptible(connection: sa.Connection) -> Iterator[None]:
    """Let the call's interrupt end a statement; a transaction with writes is rolled back then."""
    driver: Any = connection.connection.dbapi_connection
    with current_interrupt().stopping(driver.interrupt):
        yield


def end_if_interrupted(*_statement: object) -> None:
    """Begin no further statement of a call that was interrupted between two."""
    if current_interrupt().requested:
        raise RefusalError(STORE_DOWN)


def prepare(connection: sqlite3.Connection, _record: object) -> None:
    """Set a new connection's options."""
    connection.isolation_level = None  # SQLAlchemy's "begin" event begins, not the driver
    connection.execute("PRAGMA synchronous=FULL")
    # An interrupt that comes just before a statement begins has no effect on it (sqlite3_interrupt).
    connection.set_progress_handler(lambda: current_interrupt().requested, LOOK_STEPS)


def use_wal(engine: sa.Engine) -> None:
    """Set the journal mode, which persists in the file; it can be set only outside a transaction."""
    pooled = engine.raw_connection()
    try:
        pooled.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        pooled.close()


def begin(connection: sa.Connection) -> None:
    """Begin a transaction, with the writers' lock if it writes."""
    # Writers lock at their first statement, since upgrading a read lock could fail half-way.
    # Readers block no writer.
    options = connection.get_execution_options()
    if not options.get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if options.get('unsynced', False) else 'FULL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")

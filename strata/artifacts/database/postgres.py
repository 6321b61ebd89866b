"""Metadata in PostgreSQL, which several servers may share. Needs the extra ``postgres``.

Writers of one tenant go one at a time, on all servers together: each transaction that writes begins with the
tenant's advisory lock. So what holds on SQLite, where there is one writer, holds here within a tenant, and no
tenant waits for another one.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Final

import psycopg
import sqlalchemy as sa
import structlog
from sqlalchemy import event

from strata.artifacts.database.connections import end_if_interrupted, failures_as_refusals
from strata.artifacts.database.contract import BUSY_SECONDS, STORE_DOWN
from strata.artifacts.database.migrate import SchemaError, require_current
from strata.artifacts.database.store_secret import store_secret
from strata.outcomes import RefusalError
from strata.postgres_address import PostgresAddress
from strata.work.waiting_threads import current_interrupt

CONNECT_SECONDS: Final = 10
"""Seconds a connection may take to be made, for each host of the address; then the store does not answer."""

POOL_SECONDS: Final = 10
"""Seconds a call waits for one of the server's connections; then the store does not answer."""

SILENT_SECONDS: Final = 20
"""Seconds sent bytes may stay unacknowledged, or a connection silent when probed; then it is given up."""

UNUSED_SECONDS: Final = 1800
"""Seconds after which an unused connection is made anew: firewalls drop those that are idle for long."""

APART: Final = 3
"""Connections for the server's health, its lease and its usage: no tenant's call uses them."""

OLDEST_SERVER: Final = 140000
"""The oldest PostgreSQL that is supported, 14, as its ``server_version_num``."""

_LIMITS: Final = "; ".join(
    f"SET {name} = '{value}'"
    for name, value in {
        "statement_timeout": "60s",  # callers give up before; then nothing runs on for long
        "lock_timeout": f"{BUSY_SECONDS}s",
        "idle_in_transaction_session_timeout": "15s",  # a frozen server keeps its locks no longer
        "client_connection_check_interval": "2s",  # a query whose caller has left ends
        "synchronous_commit": "on",
        "timezone": "UTC",
    }.items()
)
_OTHER_FAILURES: Final = frozenset({"25P03", "25P04", "25006"})
"""Codes of failures that are no ``OperationalError``: a transaction idle for too long, a read-only server."""

_TURN: Final = "pg_advisory_xact_lock(hashtextextended(:key, 0))"
_UNSYNCED: Final = sa.text("SELECT set_config('synchronous_commit', 'off', true)")
_TAKE_TURN: Final = sa.text(f"SELECT {_TURN}")
_TAKE_TURN_UNSYNCED: Final = sa.text(f"SELECT set_config('synchronous_commit', 'off', true), {_TURN}")

log = structlog.get_logger(__name__)


class PostgresDatabase:
    """A PostgreSQL database; see :class:`.contract.Database`.

    Args:
        address: Where it is.
        connections: Most connections of this server, besides :data:`APART`.
    """

    def __init__(self, address: PostgresAddress, connections: int) -> None:
        self._address = address
        self.engine = self._engine(connections)
        self._apart = self._engine(APART)
        self._reader = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._turns = _Turns()

    def _engine(self, connections: int) -> sa.Engine:
        made = sa.create_engine(
            "postgresql+psycopg://",
            creator=partial(_connect, self._address),
            poolclass=sa.pool.QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_recycle=UNUSED_SECONDS,
            pool_use_lifo=True,
            hide_parameters=True,  # an error would show the values of a tenant's filters
            use_native_hstore=False,
        )
        event.listen(made, "connect", _prepare)
        event.listen(made, "close", _forget_socket)
        event.listen(made, "before_cursor_execute", end_if_interrupted)
        event.listen(made, "handle_error", _keep_other_connections)
        return made

    def open(self) -> bytes:
        """See :class:`.contract.Database`; an empty database gets its tables, an older one is refused."""
        with self._failures():
            with self.engine.connect() as connection:
                version = connection.scalar(sa.text("SELECT current_setting('server_version_num')::int"))
                encoding = connection.scalar(sa.text("SELECT current_setting('server_encoding')"))
            if (version or 0) < OLDEST_SERVER:
                raise SchemaError(f"The server is PostgreSQL {(version or 0) // 10000}; use 14 or newer.")
            if encoding != "UTF8":
                raise SchemaError(f"The database's encoding is {encoding}; create one with ENCODING 'UTF8'.")
            require_current(self.engine)
            return store_secret(self.engine)

    def probe(self) -> bool:
        """See :class:`.contract.Database`; on a connection of its own, however busy the others are."""
        try:
            with self._failures(), self._apart.connect() as connection, _interruptible(connection):
                connection.execute(sa.text("SELECT 1 FROM alembic_version"))
        except (RefusalError, sa.exc.SQLAlchemyError):
            return False
        return True

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """See :class:`.contract.Database`."""
        with self._failures(), self._reader.connect() as connection, _interruptible(connection):
            yield connection

    @contextmanager
    def writing(self, tenant: str | None, *, unsynced: bool = False) -> Iterator[sa.Connection]:
        """See :class:`.contract.Database`.

        Writers of one tenant queue in this process first: they hold one of its connections, not all of them.
        """
        turn = nullcontext() if tenant is None else self._turns.holding(tenant)
        with turn, self._failures(), self.engine.begin() as connection, _interruptible(connection):
            if tenant is not None:
                taking = _TAKE_TURN_UNSYNCED if unsynced else _TAKE_TURN
                connection.execute(taking, {"key": f"strata tenant {tenant}"})
            yield connection

    @contextmanager
    def apart(self) -> Iterator[sa.Connection]:
        """See :class:`.contract.Database`; on connections that tenants' calls do not use."""
        with self._failures(), self._apart.begin() as connection, _interruptible(connection):
            connection.execute(_UNSYNCED)
            yield connection

    def close(self) -> None:
        """See :class:`.contract.Database`."""
        self.engine.dispose()
        self._apart.dispose()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        with failures_as_refusals(_passes, self._address.redacted):
            yield


class _Turns:
    """Locks by key, each kept as long as a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Hold the lock of a key.

        Raises:
            RefusalError: ``STORE_DOWN`` if it is not free within :data:`BUSY_SECONDS`.
        """
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            if not lock.acquire(timeout=BUSY_SECONDS):
                raise RefusalError(STORE_DOWN)
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = lock, users - 1


def _connect(address: PostgresAddress) -> psycopg.Connection[Any]:
    parameters: dict[str, Any] = {"application_name": "strata", **address.parameters}
    return psycopg.connect(
        connect_timeout=CONNECT_SECONDS,
        client_encoding="utf8",
        keepalives_idle=SILENT_SECONDS,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=SILENT_SECONDS * 1000,
        **parameters,
    )


def _prepare(connection: psycopg.Connection[Any], record: Any) -> None:
    """Set a new connection's limits, and keep its socket for interrupts."""
    connection.autocommit = True
    connection.execute(_LIMITS)
    connection.autocommit = False
    # A descriptor of its own: psycopg may close the connection's, whose number may be another file's then.
    record.info["socket"] = socket.socket(fileno=os.dup(connection.fileno()))


def _forget_socket(_connection: object, record: Any) -> None:
    found = record.info.pop("socket", None)
    if found is not None:
        found.close()


@contextmanager
def _interruptible(connection: sa.Connection) -> Iterator[None]:
    """Let the call's interrupt end a statement, at once, also when the database is silent.

    It ends the connection: PostgreSQL rolls the transaction back, and a request to cancel would be one more
    wait. The connection is closed, and not used again.
    """
    found: socket.socket = connection.connection.info["socket"]
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        with suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)

    try:
        with current_interrupt().stopping(stop):
            yield
    except BaseException:  # raised again: an interrupted connection is of no use to others
        if stopped.is_set():
            connection.invalidate()  # also where no statement has met the end of the connection
        raise
    if stopped.is_set():
        connection.invalidate()
        raise RefusalError(STORE_DOWN)


def _keep_other_connections(context: sa.engine.ExceptionContext) -> None:
    """A connection that an interrupt has ended says nothing about the others of the pool."""
    if current_interrupt().requested:
        context.invalidate_pool_on_disconnect = False


def _passes(cause: BaseException | None) -> bool:
    """Whether a failure is one of the database, its machine or the network, not of a statement."""
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError | sa.exc.TimeoutError):
        return True
    return isinstance(cause, psycopg.Error) and cause.sqlstate in _OTHER_FAILURES

"""Connections to PostgreSQL that break at random moments, also between a commit and the word that it was done."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import psycopg
import sqlalchemy as sa
from sqlalchemy import event


@attrs.define(eq=False)
class Breaker:
    """Breaks one in so many statements and commits; thread-safe.

    Attributes:
        address: Of the database, as libpq has it.
        draw: Draws which.
        one_in: One in how many, by kind: ``statement``, ``commit``.
        broken: How often something was broken, by its kind.
    """

    address: str
    draw: random.Random
    one_in: dict[str, int] = attrs.field(factory=dict)
    broken: Counter[str] = attrs.field(factory=Counter)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def break_now(self, kind: str) -> bool:
        with self._lock:
            if kind not in self.one_in or self.draw.randrange(self.one_in[kind]):
                return False
            self.broken[kind] += 1
            return True

    def terminate(self, pid: int) -> None:
        """Have the server end a connection, as an administrator or a failover does."""
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))

    def watch(self, engine: sa.Engine) -> None:
        """End connections of an engine before some of their statements."""

        def before(connection: sa.Connection, *_: object) -> None:
            if self.break_now("statement"):
                self.terminate(connection.connection.info["pid"])

        def connected(connection: Any, record: Any) -> None:
            record.info["pid"] = connection.info.backend_pid

        event.listen(engine, "connect", connected)
        event.listen(engine, "before_cursor_execute", before)

    def connecting(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that connects: some commits are done, and their answer is lost."""

        def connected(address: Any) -> Any:
            made = connect(address)
            commit = made.commit

            def commit_and_break() -> None:
                writes = made.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS
                commit()
                if writes and self.break_now("commit"):
                    made.close()
                    raise psycopg.OperationalError("the connection was lost")

            made.commit = commit_and_break
            return made

        return connected

"""Contract of a database that holds metadata: transactions that end in time, and failures as refusals."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final, Protocol

import sqlalchemy as sa

from strata.outcomes import Reason, Refused

STORE_DOWN: Final = Refused(
    Reason.UNAVAILABLE, "The metadata store does not answer.", code="metadata_store_down", retry_after=5
)
"""The refusal of a request that needs a database which does not answer."""

STORE_FULL: Final = Refused(
    Reason.UNAVAILABLE,
    "The disk of the metadata store is full: what is stored can be read, and nothing can be changed.",
    code="storage_unavailable",
    retry_after=30,
)
"""The refusal of a request that would write to a database whose disk is full."""

BUSY_SECONDS: Final = 30
"""Seconds a write waits for other writers, such as a backup; then the store counts as not answering."""


class Database(Protocol):
    """Contract of every database of metadata. Calls block and are thread-safe.

    A call that :func:`~strata.work.waiting_threads.current_interrupt` interrupts ends at once, and its
    transaction is rolled back. A database that does not answer raises
    :class:`~strata.outcomes.RefusalError` with :data:`STORE_DOWN`, one whose disk is full with
    :data:`STORE_FULL`; other errors of it are bugs and pass.
    """

    @property
    def engine(self) -> sa.Engine:
        """The engine of its connections."""

    def open(self) -> bytes:
        """Bring the schema to this version's revision where that is permitted; returns the store's secret.

        Raises:
            SchemaError: If the schema is not one that this version can use.
        """

    def probe(self) -> bool:
        """Test whether the database answers."""

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Read a snapshot of the database; waits for no writer."""

    def writing(self, tenant: str | None, *, unsynced: bool = False) -> AbstractContextManager[sa.Connection]:
        """Transaction that excludes other writers of a tenant and is durable when it ends.

        Args:
            tenant: The tenant whose rows it writes; ``None``: rows of no tenant.
            unsynced: A crash of the database's machine may undo it; a crash of this process does not.
        """

    def apart(self) -> AbstractContextManager[sa.Connection]:
        """Transaction for the server itself, which waits for no tenant's call; durable as ``unsynced``."""

    def close(self) -> None:
        """Close the connections."""

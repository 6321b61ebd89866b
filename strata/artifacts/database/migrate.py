"""Migrate a metadata database to this version's schema, with the migrations shipped in the package."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import attrs
import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from strata.artifacts.database.schema import schema_support
from strata.durable import PRIVATE_MODE

LOCK_SUFFIX = ".lock"


_LOCK_KEY = 0x5374726174610001
"""Number of PostgreSQL's advisory lock that servers hold while they change the schema."""

log = structlog.get_logger(__name__)


class SchemaError(Exception):
    """The database's schema is not one that this version can use; the message tells why and the remedy."""


class NewerDatabaseError(SchemaError):
    """A newer Strata changed the schema so that this version cannot use it."""


class OlderDatabaseError(SchemaError):
    """The schema is that of an older Strata, and is migrated by ``strata migrate`` only."""


@attrs.frozen
class SchemaState:
    """The schema of a database, and what this version has.

    Attributes:
        current: Revision of the database; ``None``: it has no tables yet.
        head: Revision of this version.
        known: Whether this version has the database's revision, or the database has none.
        oldest: Least revision of a version that can use the database; ``None``: not noted.
    """

    current: str | None
    head: str
    known: bool
    oldest: str | None

    @property
    def is_current(self) -> bool:
        """Whether this version can use the schema as it is."""
        return self.current == self.head or (
            not self.known and self.oldest is not None and self.oldest <= self.head
        )

    def check_not_newer(self) -> None:
        """Raise :class:`NewerDatabaseError` if a newer version has ended this version's use of the schema."""
        if not self.known and not self.is_current:
            raise NewerDatabaseError(
                f"The metadata database has revision {self.current}, which this version of Strata does not "
                "know: it was written by a newer one. Upgrade Strata, or restore the database from before."
            )

    def check_not_older(self) -> None:
        """Raise :class:`OlderDatabaseError` if the database has tables that have to be migrated first."""
        if self.known and self.current not in (None, self.head):
            raise OlderDatabaseError(
                f"The metadata database has revision {self.current}, and this version of Strata needs "
                f"{self.head}. Run strata migrate with this configuration; servers that run on the database "
                "may go on meanwhile."
            )


@contextmanager
def opening(database: Path) -> Iterator[None]:
    """Context manager: exclude other processes and threads from opening ``database``.

    SQLite switches a file to WAL without waiting for others that do the same (its busy timeout does not
    apply), so processes that open a new file take turns on a lock file beside it. The lock ends with its
    holder, even a killed one.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(database.with_name(database.name + LOCK_SUFFIX), flags, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def upgrade(engine: sa.Engine) -> SchemaState:
    """Apply the missing migrations, in one transaction that excludes other processes.

    Args:
        engine: An engine with transactions that, on SQLite, exclude other writers from their first statement.

    Returns:
        The state before. A newer schema that this version can use stays as it is.

    Raises:
        NewerDatabaseError: If the database's revision is one that this version cannot use.
    """
    with engine.begin() as connection:
        exclude_others(connection)
        return _upgrade(connection)


def require_current(engine: sa.Engine) -> None:
    """Create the tables of an empty database, and require a schema that this version can use.

    Raises:
        NewerDatabaseError: If a newer version changed it.
        OlderDatabaseError: If it has to be migrated.
    """
    with engine.begin() as connection:
        exclude_others(connection)
        schema_state(connection).check_not_older()
        _upgrade(connection)


def schema_state(connection: sa.Connection) -> SchemaState:
    """Return the state of a database's schema."""
    head, known = _revisions()
    current = MigrationContext.configure(connection).get_current_revision()
    oldest = None
    if sa.inspect(connection).has_table(schema_support.name):
        oldest = connection.scalar(sa.select(schema_support.c.oldest))
    return SchemaState(current, head, current is None or current in known, oldest)


@cache
def _revisions() -> tuple[str, frozenset[str]]:
    """Return this version's revision and all that it knows; each is a module that is run to find it."""
    scripts = ScriptDirectory.from_config(_config())
    head = scripts.get_current_head()
    assert head is not None
    return head, frozenset(script.revision for script in scripts.walk_revisions())


def exclude_others(connection: sa.Connection) -> None:
    """Let no other process migrate the database until the end of the transaction; SQLite's already does."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))


def _upgrade(connection: sa.Connection) -> SchemaState:
    found = schema_state(connection)
    found.check_not_newer()
    if not found.known:
        log.warning("metadata database is of a newer version, which this one can use", revision=found.current)
        return found
    if found.current != found.head:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "strata.artifacts:migrations")
    return config

"""Migrate a metadata database to this version's schema, with the migrations shipped in the package."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from strata.durable import PRIVATE_MODE

LOCK_SUFFIX = ".lock"


class NewerDatabaseError(Exception):
    """The database was written by a newer Strata with a schema unknown to this one."""


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


def upgrade(engine: sa.Engine) -> None:
    """Apply the missing migrations, in one transaction that excludes other processes.

    Args:
        engine: An engine with transactions that exclude other writers from their first statement on.

    Raises:
        NewerDatabaseError: If the database's revision is unknown to this version.
    """
    config = Config()
    config.set_main_option("script_location", "strata.artifacts:migrations")
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if current is not None and current not in known:
            raise NewerDatabaseError(
                f"The metadata database has revision {current}, which this version of Strata does not know: "
                "it was written by a newer one. Upgrade Strata, or restore the database from before."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

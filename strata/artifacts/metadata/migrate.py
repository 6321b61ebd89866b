"""Bring a metadata database to this version's schema, with the migrations shipped in the package."""

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
    """The database was written by a newer Strata, whose schema this one does not know."""


@contextmanager
def opening(database: Path) -> Iterator[None]:
    """Let one process or thread at a time open ``database``.

    SQLite switches a file to WAL without waiting for others that try the same (its busy timeout does not
    apply), so those who open a new file together take turns on a lock beside it. The lock goes with its
    holder, however that ends.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(database.with_name(database.name + LOCK_SUFFIX), flags, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def upgrade(engine: sa.Engine) -> None:
    """Apply what is missing, in one transaction that excludes other processes.

    Args:
        engine: Its transactions exclude other writers from their first statement on.

    Raises:
        NewerDatabaseError: If the database's revision is none of ours.
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

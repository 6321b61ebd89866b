"""Bring a metadata database to this version's schema, with the migrations shipped in the package."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory


class NewerDatabaseError(Exception):
    """The database was written by a newer Strata, whose schema this one does not know."""


def upgrade(engine: sa.Engine) -> None:
    """Apply what is missing, in one transaction that excludes other processes.

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

"""The schema of the configured metadata database: examined and migrated without a running server."""

from __future__ import annotations

import time
from contextlib import closing

import attrs
import sqlalchemy as sa

from strata.artifacts.database.migrate import SchemaState, schema_state, upgrade
from strata.artifacts.database.sqlite import SqliteDatabase
from strata.artifacts.metadata.ownership import DATABASE_NOW
from strata.config import Settings
from strata.server.stores import CannotOpenError, database_file, database_of, explained, place_of_metadata


@attrs.frozen
class SchemaReport:
    """The schema of a database.

    Attributes:
        place: The database, without a password.
        before: Its revision, before a migration; None: it has no tables.
        head: Revision of this version.
        changes: Whether a migration has, or would have, something to do.
        ahead: Seconds by which the database's clock is ahead of this machine's; 0 where that was not read.
    """

    place: str
    before: str | None
    head: str
    changes: bool
    ahead: float = 0.0


def migrate_schema(settings: Settings, *, dry_run: bool = False) -> SchemaReport:
    """Migrate the configured database, or tell what would be migrated. Blocking.

    Raises:
        CannotOpenError: If the database does not answer, or a newer version wrote it.
    """
    place = place_of_metadata(settings)
    if settings.artifact_metadata_dsn is None:
        file = database_file(settings)
        if not file.is_file():
            raise CannotOpenError(f"{place} does not exist yet; a server makes it when it starts.")
    with explained(settings), closing(database_of(settings)) as database:
        with database.reading() as connection:
            found = schema_state(connection)
        found.check_not_newer()
        if not (found.is_current or dry_run):
            engine = database.writer if isinstance(database, SqliteDatabase) else database.engine
            found = upgrade(engine)
    return _report(place, found)


def check_postgres(settings: Settings) -> SchemaReport:
    """Return the schema of the configured PostgreSQL database, which stays as it is. Blocking.

    Raises:
        CannotOpenError: If a server with these settings could not open it.
    """
    place = place_of_metadata(settings)
    with explained(settings), closing(database_of(settings)) as database:
        with database.reading() as connection:
            found = schema_state(connection)
            ahead = connection.execute(sa.select(DATABASE_NOW)).scalar_one() - time.time()
        found.check_not_newer()
        found.check_not_older()
    return attrs.evolve(_report(place, found), ahead=ahead)


def _report(place: str, found: SchemaState) -> SchemaReport:
    return SchemaReport(place, found.current, found.head, not found.is_current)

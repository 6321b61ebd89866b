"""Give new SQLite databases the schema at once: one migration after the other takes longer than most tests.

A pytest plugin. The statements are those of a database that the migrations have made; databases with tables, those
of other processes and those that tests migrate themselves are migrated as ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from strata.artifacts.database import sqlite
from strata.artifacts.database.migrate import SchemaState, upgrade

_statements: list[str] = []


def _upgrade(engine: sa.Engine) -> SchemaState:
    with engine.begin() as connection:
        fresh = not sa.inspect(connection).get_table_names()
        if fresh:
            for statement in _statements:
                connection.exec_driver_sql(statement)
    found = upgrade(engine)
    if fresh and not _statements:
        with engine.connect() as connection:
            made = connection.connection.driver_connection
            assert isinstance(made, sqlite3.Connection)
            _statements.extend(
                line for line in made.iterdump() if line not in {"BEGIN TRANSACTION;", "COMMIT;"}
            )
    return found


@pytest.fixture(autouse=True, scope="session")
def _schema_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite, "upgrade", _upgrade)
        yield

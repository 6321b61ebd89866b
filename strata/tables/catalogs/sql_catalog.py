"""Find a table's metadata location in a pyiceberg ``SqlCatalog`` on a database server with one SELECT.

``SqlCatalog.load_table`` fetches and parses the metadata file every time and opens files with the table's own
properties, in which the table's writers may name any Python class (``py-io-impl``).
"""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from sqlalchemy import event, literal, select, tuple_

from strata.tables.catalogs.refs import TableRef

CONNECT_SECONDS = 5
"""Seconds a connection to a PostgreSQL catalog may take; then the catalog counts as unavailable."""

STATEMENT_SECONDS = 20
"""Seconds a statement may run on a PostgreSQL catalog's server, which ends it then."""


def bound_waits(catalog: SqlCatalog) -> None:
    """Set deadlines for connections and statements of a PostgreSQL catalog, unless its URL sets them.

    A server that vanishes is noticed by the system within ``STATEMENT_SECONDS``, too (``tcp_user_timeout``).
    """
    if catalog.engine.dialect.name != "postgresql":
        return

    def connecting(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters.setdefault("connect_timeout", CONNECT_SECONDS)
        parameters.setdefault("tcp_user_timeout", int(STATEMENT_SECONDS * 1000))
        parameters.setdefault("options", f"-c statement_timeout={int(STATEMENT_SECONDS * 1000)}")

    event.listen(catalog.engine, "do_connect", connecting)
    catalog.engine.dispose()  # the connection that found the catalog's schema version has no deadlines


def current_location(catalog: SqlCatalog, ref: TableRef) -> str | None:
    """Return the location of the table's current metadata file; ``None`` if there is no such table. Blocking.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: If the database does not answer.
    """
    columns = (IcebergTables.table_namespace, IcebergTables.table_name, IcebergTables.metadata_location)
    namespace = ".".join(ref.namespace)
    statement = select(*columns).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == namespace,
        IcebergTables.table_name == ref.table,
    )
    only_tables = catalog._iceberg_type_filter()  # noqa: SLF001 - knows which schema version the database has
    if only_tables is not None:
        statement = statement.where(only_tables)
    with catalog.engine.connect() as connection:
        rows = connection.execute(statement).all()
    # Compared once more: a database's collation may equate names that differ in case or accents, and access
    # rules match exactly one of them.
    return next((location for *name, location in rows if name == [namespace, ref.table]), None)


def names_behind(
    catalog: SqlCatalog, namespace: str | None, place: tuple[str, str], most: int
) -> list[tuple[str, str, str | None]]:
    """Return the next tables and views as :meth:`SqliteCatalog.names_behind`, in the database's order.

    Blocking.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: If the database does not answer.
    """
    names = (IcebergTables.table_namespace, IcebergTables.table_name)
    has_types = catalog._iceberg_type_filter() is not None  # noqa: SLF001 - knows the database's schema version
    kind = IcebergTables.iceberg_type if has_types else literal(None)
    statement = select(*names, kind).where(IcebergTables.catalog_name == catalog.name)
    if namespace is not None:
        statement = statement.where(IcebergTables.table_namespace == namespace)
    statement = statement.where(tuple_(*names) > tuple_(*map(literal, place)))
    with catalog.engine.connect() as connection:
        rows = connection.execute(statement.order_by(*names).limit(most)).all()
    return [(row[0], row[1], row[2]) for row in rows]

"""Find a table's metadata location in a pyiceberg ``SqlCatalog`` on a database server with one SELECT.

``SqlCatalog.load_table`` fetches and parses the metadata file every time and opens files with the table's own
properties, in which the table's writers may name any Python class (``py-io-impl``).
"""

from __future__ import annotations

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from sqlalchemy import select

from strata.tables.catalogs.refs import TableRef


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

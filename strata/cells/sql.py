"""Run the query of an SQL cell inside of its sandboxed process, over values of cells and tables.

A query is one SELECT statement. It sees the tables that ``@table`` names, and the tables among the values
that the cell takes; nothing else: no file, no network, no setting.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pyarrow as pa

from strata.transforms.sql_settings import RESULT_SETTINGS

ENGINE_SHARE: Final = 0.8
"""Part of a cell's memory that the engine may use; the rest is for the result and the libraries."""

THREADS: Final = 2
"""Threads of a query."""

ONE_SELECT: Final = "An SQL cell is one SELECT statement; nothing else can be run, and nothing after it."

NOT_INSTALLED: Final = "SQL cells need an extra on the server: pip install 'strata[sql]'."

_CLOSED: Final[Mapping[str, object]] = {
    "home_directory": "",
    "extension_directory": "",
    "secret_directory": "",
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    **RESULT_SETTINGS,
}
"""Settings of every query, besides its limits."""


class SqlError(Exception):
    """The query cannot be run; the message is a sentence for its author."""


def open_engine() -> Any:
    """Open the database of a process that has one thread, before it is forked; ``None`` without the engine.

    One that is opened behind the walls could not read its own files.
    """
    try:
        import duckdb  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 0})
    _set(connection, _CLOSED)
    return connection


def query(
    engine: Any,
    source: str,
    values: Mapping[str, object],
    tables: Iterable[tuple[str, pa.Table]],
    memory: int,
) -> pa.Table:
    """Return the result of a query.

    Args:
        engine: The database of :func:`open_engine`.
        source: The query.
        values: The values that the cell takes; those that are tables can be queried by name.
        tables: Further tables by name.
        memory: Bytes of memory that the cell may use.

    Raises:
        SqlError: If it is not one SELECT statement, or fails.
    """
    if engine is None:
        raise SqlError(NOT_INSTALLED)
    import duckdb  # noqa: PLC0415  # as above

    limits = {"threads": THREADS, "memory_limit": f"{int(memory * ENGINE_SHARE)}B", "temp_directory": ""}
    _set(engine, {**limits, "enable_external_access": False, "lock_configuration": True})
    try:
        statements = engine.extract_statements(source)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise SqlError(ONE_SELECT)
        for name, value in values.items():
            if _is_table(value):
                engine.register(name, value)
        for name, table in tables:
            engine.register(name, table)
        return engine.sql(statements[0]).to_arrow_table()
    except duckdb.Error as error:
        raise SqlError(str(error)) from None


def _is_table(value: object) -> bool:
    if isinstance(value, pa.Table):
        return True
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    return (pandas is not None and isinstance(value, pandas.DataFrame)) or (
        polars is not None and isinstance(value, polars.DataFrame)
    )


def _set(engine: Any, settings: Mapping[str, object]) -> None:
    for name, value in settings.items():
        shown = str(value).lower() if isinstance(value, bool) else f"'{value}'"
        engine.execute(f"SET {name} = {shown}")

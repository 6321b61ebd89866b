"""Decide which columns of its inputs a query can touch; where that is not certain, all of them.

A column may be left out only if nothing in the query can name it: no text anywhere in the parsed query is its
name, and no construct takes columns without their names. Removing such a column changes no binding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa

_EXPRESSIONS: Final = frozenset(
    {
        "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT",
        "FUNCTION", "LAMBDA", "OPERATOR", "SUBQUERY", "TYPE", "WINDOW",
    }
)  # fmt: skip
"""Classes of expressions that take columns by their names only, as STAR and POSITIONAL_REFERENCE do not."""

_NODES: Final = frozenset(
    {
        "BASE_TABLE", "DISTINCT_MODIFIER", "EMPTY", "EXPRESSION_LIST", "JOIN", "LIMIT_MODIFIER",
        "ORDER_ASCENDING", "ORDER_DEFAULT", "ORDER_DESCENDING", "ORDER_MODIFIER", "SELECT_NODE",
        "SET_OPERATION_NODE", "SUBQUERY", "CTE_NODE",
    }
)  # fmt: skip
"""Other parts of a query that take columns by their names only, as PIVOT and TABLE_FUNCTION do not."""

_JOINS: Final = frozenset({"REGULAR", "CROSS", "ASOF"})
"""Joins whose condition names its columns: NATURAL does not."""


class _NotCertainError(Exception):
    """The query may touch columns that it does not name."""


def touched_columns(
    connection: duckdb.DuckDBPyConnection, sql: str, schemas: Sequence[pa.Schema], names: Sequence[str]
) -> list[list[str]] | None:
    """Return for each input the columns that must be read, in their order; None for all of all inputs.

    At least one column of each input is read, for the number of its rows. The result's columns are bound with
    and without the columns left out, on tables without rows, and must be the same.

    Args:
        connection: A database with no table, behind the walls.
        sql: The query.
        schemas: The columns of the inputs.
        names: Their names besides ``input0`` …; may be empty.
    """
    try:
        mentioned = _mentioned(connection, sql)
    except (_NotCertainError, duckdb.Error, ValueError, KeyError, TypeError):
        return None
    kept = [_kept(schema, mentioned) for schema in schemas]
    if any(one is None for one in kept):
        return None
    narrow = [
        pa.schema([schema.field(name) for name in one or ()])
        for schema, one in zip(schemas, kept, strict=True)
    ]
    try:
        before = _bound(connection, sql, schemas, names)
        after = _bound(connection, sql, narrow, names)
    except duckdb.Error:
        return None  # the error is told by the query itself, with all columns
    return [one or [] for one in kept] if before == after else None


def _kept(schema: pa.Schema, mentioned: frozenset[str]) -> list[str] | None:
    """Return the columns to read; None if their names are equal without case, or there are none."""
    folded = [name.casefold() for name in schema.names]
    if not folded or len(set(folded)) < len(folded):
        return None
    found = [name for name in schema.names if name.casefold() in mentioned]
    return found or [min(schema, key=_width).name]


def _width(field: pa.Field) -> int:
    try:
        return int(field.type.bit_width)
    except ValueError:
        return 1 << 20  # of no fixed width


def _bound(
    connection: duckdb.DuckDBPyConnection, sql: str, schemas: Sequence[pa.Schema], names: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Return the columns of the result, with their types, on tables without rows."""
    for index, schema in enumerate(schemas):
        for name in {f"input{index}", *names[index : index + 1]}:
            connection.register(name, schema.empty_table())
    return connection.execute("DESCRIBE " + sql).fetchall()


def _mentioned(connection: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str]:
    """Return every text in the query, without case.

    Raises:
        _NotCertainError: If the query may touch columns that it does not name.
    """
    ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    parsed = json.loads(text)
    if parsed.get("error") or len(parsed["statements"]) != 1:
        raise _NotCertainError
    texts: set[str] = set()
    rows: set[str] = set()
    relations: set[str] = set()
    for part in parts_of(parsed["statements"][0]["node"]):
        _check(part)
        for value in part.values():
            if isinstance(value, str):
                texts.add(value.casefold())
            elif isinstance(value, list):
                texts.update(one.casefold() for one in value if isinstance(one, str))
        if part.get("class") == "COLUMN_REF":
            rows.add(part["column_names"][-1].casefold())
        elif "class" not in part:
            relations.update(str(part.get(key) or "").casefold() for key in ("alias", "table_name", "key"))
    if rows & relations:
        raise _NotCertainError  # it may be a whole row
    return frozenset(texts)


def parts_of(node: object) -> Iterator[Mapping[str, Any]]:
    """Yield each object of a parsed query; ORDER BY ALL, which takes the columns of the result, has none."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            if one.get("type") == "ORDER_MODIFIER" and _is_order_by_all(one["orders"]):
                continue
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _is_order_by_all(orders: Sequence[Mapping[str, Any]]) -> bool:
    if len(orders) != 1 or orders[0]["expression"]["class"] != "STAR":
        return False
    star = orders[0]["expression"]
    plain = {"class", "type", "columns"}  # ALL is written as COLUMNS(*)
    return not any(value for key, value in star.items() if key not in plain and "location" not in key)


def _check(part: Mapping[str, Any]) -> None:
    kind, node = part.get("class"), part.get("type")
    if kind is not None:
        certain = kind in _EXPRESSIONS
    elif isinstance(node, str):
        certain = node in _NODES or node.endswith("_TYPE_INFO")
    else:
        certain = True
    if node == "JOIN" and kind is None:
        certain = certain and part["ref_type"] in _JOINS
    if not certain or part.get("sample") or part.get("column_name_alias") or part.get("at_clause"):
        raise _NotCertainError

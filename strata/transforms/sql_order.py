"""Decide whether a query fixes the order of its rows, or may return them in another order next time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb


def is_ordered(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Return whether the query orders its rows by every column of its result, or has one row at most.

    Rows that are equal in every column are the same in any order. A query of which that cannot be told is not
    ordered.
    """
    ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    found = json.loads(text)
    if found.get("error") or len(found["statements"]) != 1:
        return False
    return node_is_ordered(found["statements"][0]["node"])


def node_is_ordered(node: Mapping[str, Any]) -> bool:
    """Decide on a parsed query, as DuckDB writes it in JSON."""
    if _is_one_row(node):
        return True
    orders = next((one["orders"] for one in node["modifiers"] if one["type"] == "ORDER_MODIFIER"), None)
    if orders is None:
        return False
    expressions = [one["expression"] for one in orders]
    if any(one["class"] == "STAR" for one in expressions):  # ORDER BY ALL
        return True
    selected = node.get("select_list", ())
    if any(one["class"] == "STAR" for one in selected):
        return False  # more columns than can be counted here
    names = [_name(one) for one in selected]
    covered: set[int] = set()
    for one in expressions:
        covered |= _columns_of(one, names)
    return covered == set(range(len(selected)))


def _is_one_row(node: Mapping[str, Any]) -> bool:
    """Return whether a query has aggregates of all rows only."""
    if node["type"] != "SELECT_NODE" or node["group_expressions"] or node["group_sets"]:
        return False
    selected: Sequence[Mapping[str, Any]] = node["select_list"]
    return bool(selected) and all(
        one["class"] == "FUNCTION" and one["function_name"] in _ONE_VALUE for one in selected
    )


_ONE_VALUE = frozenset({"count", "count_star", "sum", "min", "max", "avg"})
"""Aggregates whose value does not depend on the order of the rows."""


def _name(expression: Mapping[str, Any]) -> str:
    if expression["alias"]:
        return str(expression["alias"]).lower()
    if expression["class"] == "COLUMN_REF":
        return str(expression["column_names"][-1]).lower()
    return ""


def _columns_of(expression: Mapping[str, Any], names: Sequence[str]) -> set[int]:
    """Return the result's columns that an expression of ORDER BY is; none for one that is no column."""
    if expression["class"] == "CONSTANT":
        text = str(expression.get("literal", {}).get("text", expression.get("value")))
        return {int(text) - 1} if text.isdigit() else set()
    if expression["class"] != "COLUMN_REF" or len(expression["column_names"]) != 1:
        return set()
    name = str(expression["column_names"][0]).lower()
    return {index for index, one in enumerate(names) if one == name and name}

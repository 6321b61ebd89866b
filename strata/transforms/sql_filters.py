"""Decide which conditions of a query can be tested while its tables are scanned, without another result.

The query keeps its conditions; a scan may only leave out rows that the query itself would leave out. So a
condition is taken where each row that satisfies it in DuckDB satisfies it in a scan:

- It is a member of the conjunction of a WHERE, compares a column of an input with constants, and the input
  alone is the FROM of the same SELECT.
- The query reads nothing else, in no subquery and no CTE. Fewer rows would change how DuckDB joins, and so
  the order of the joined rows, on which a LIMIT, a sum of floats or a list depends.
- Column and constant have the same type: integers, texts, dates, or timestamps without a time zone. Of
  others two engines may think differently: floating point has NaN, decimals have scales, time zones rules.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import duckdb
import pyarrow as pa

from strata.transforms.sql_columns import parts_of

MOST_FILTERS: Final = 50
"""Most conditions of an input that are tested in its scan."""

MOST_VALUES: Final = 1000
"""Values of a list above which its condition is left to the query."""

_OPERATORS: Final = {
    "COMPARE_EQUAL": ("=", "="),
    "COMPARE_NOTEQUAL": ("!=", "!="),
    "COMPARE_LESSTHAN": ("<", ">"),
    "COMPARE_LESSTHANOREQUALTO": ("<=", ">="),
    "COMPARE_GREATERTHAN": (">", "<"),
    "COMPARE_GREATERTHANOREQUALTO": (">=", "<="),
}
"""Operators of a scan by DuckDB's, with the column on the left and on the right."""

_NULL_CHECKS: Final = {"OPERATOR_IS_NULL": "is null", "OPERATOR_IS_NOT_NULL": "is not null"}

_SOURCES: Final = {"BASE_TABLE", "TABLE_FUNCTION", "EXPRESSION_LIST", "COLUMN_DATA", "EMPTY"}
"""What brings rows into a query: tables and CTEs by name, functions, ``VALUES``, and the row of no FROM."""

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIMESTAMP: Final = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(\.\d{1,6})?", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,19}", re.ASCII)

Filter = dict[str, Any]
"""A filter as in the parameters of a scan: ``column``, ``op``, ``value``."""


@attrs.frozen
class _Table:
    """The one reference of an input.

    Attributes:
        schema: The columns of the input.
        alias: The name by which its columns are qualified, without case.
    """

    schema: pa.Schema
    alias: str


class _NoFilterError(Exception):
    """A condition is left to the query."""


def pushed_filters(
    connection: duckdb.DuckDBPyConnection, sql: str, schemas: Sequence[pa.Schema], names: Sequence[str]
) -> list[list[Filter]]:
    """Return for each input the conditions that its scan can test; none where that is not certain.

    Args:
        connection: A database, behind the walls.
        sql: A query of which :func:`~strata.transforms.sql_columns.touched_columns` is certain.
        schemas: The columns of the inputs, whose names differ in more than case.
        names: Their names besides ``input0`` …; may be empty.
    """
    try:
        found = _pushed_filters(connection, sql, schemas, names)
    except (KeyError, TypeError, ValueError):  # a query that another version of DuckDB writes otherwise
        return [[] for _ in schemas]
    return [one[:MOST_FILTERS] for one in found]


def _pushed_filters(
    connection: duckdb.DuckDBPyConnection, sql: str, schemas: Sequence[pa.Schema], names: Sequence[str]
) -> list[list[Filter]]:
    found: list[list[Filter]] = [[] for _ in schemas]
    ((text,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    parts = [*parts_of(json.loads(text)["statements"][0]["node"])]
    inputs = {f"input{index}": index for index in range(len(schemas))}
    inputs |= {name.casefold(): index for index, name in enumerate(names)}
    defined = {str(part["key"]).casefold() for part in parts if "key" in part}
    if defined & inputs.keys():
        return found  # a name of an input means something else in a part of the query
    read = [part for part in parts if part.get("type") in _SOURCES]
    if len(read) != 1 or (index := inputs.get(_name_of(read[0]))) is None:
        return found
    alias = str(read[0].get("alias") or read[0]["table_name"])
    for part in parts:
        if part.get("type") != "SELECT_NODE" or not part.get("where_clause"):
            continue
        if part["from_table"] is not read[0] or not alias.isascii():
            continue
        own = _Table(schemas[index], alias.casefold())
        aliases = {str(one.get("alias") or "").casefold() for one in part["select_list"]}
        for condition in _conjunction(part["where_clause"]):
            try:
                found[index] += _filters(condition, own, aliases)
            except (_NoFilterError, KeyError, TypeError, ValueError):
                continue
    return found


def _name_of(table: Mapping[str, Any]) -> str:
    """Return the name of a table, without case and qualification."""
    return str(table["qualified_name"]["path"][-1]).casefold()


def _conjunction(condition: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if condition["type"] != "CONJUNCTION_AND":
        yield condition
        return
    for one in condition["children"]:
        yield from _conjunction(one)


def _filters(condition: Mapping[str, Any], table: _Table, aliases: set[str]) -> list[Filter]:
    """Return a condition as filters.

    Raises:
        _NoFilterError: If it is none on this table, or not certainly the same.
    """
    kind = condition["type"]
    if kind in _NULL_CHECKS:
        field = _column(condition["children"][0], table, aliases)
        return [{"column": field.name, "op": _NULL_CHECKS[kind]}]
    if kind == "COMPARE_BETWEEN":
        field = _column(condition["input"], table, aliases)
        ends = ((">=", condition["lower"]), ("<=", condition["upper"]))
        return [{"column": field.name, "op": op, "value": _value(field, end)} for op, end in ends]
    negated = kind == "OPERATOR_NOT"
    if negated:
        condition = condition["children"][0]
        kind = condition["type"]
    if kind in ("COMPARE_IN", "COMPARE_NOT_IN") and len(condition["children"]) <= MOST_VALUES:
        field = _column(condition["children"][0], table, aliases)
        values = [_value(field, one) for one in condition["children"][1:]]
        op = "in" if (kind == "COMPARE_IN") is not negated else "not in"
        return [{"column": field.name, "op": op, "value": values}]
    if kind in _OPERATORS and not negated:
        left, right = condition["left"], condition["right"]
        way = 0 if left["class"] == "COLUMN_REF" else 1
        field = _column(right if way else left, table, aliases)
        return [
            {
                "column": field.name,
                "op": _OPERATORS[kind][way],
                "value": _value(field, left if way else right),
            }
        ]
    raise _NoFilterError


def _column(expression: Mapping[str, Any], table: _Table, aliases: set[str]) -> pa.Field:
    """Return the column of the table that an expression is."""
    if expression["class"] != "COLUMN_REF":
        raise _NoFilterError
    written = [str(one) for one in expression["column_names"]]
    if not all(one.isascii() for one in written):
        raise _NoFilterError  # Python and DuckDB need not agree on their case
    names = [one.casefold() for one in written]
    columns = {field.name.casefold(): field for field in table.schema}
    qualified = len(names) == 2 and names[0] == table.alias and table.alias not in columns  # noqa: PLR2004
    if not qualified and not (len(names) == 1 and names[0] not in aliases):
        raise _NoFilterError
    field = columns[names[-1]]
    if "." in field.name or not field.name.isascii() or not _is_plain(field.type):
        raise _NoFilterError  # a scan takes the point for a field of a struct
    return field


def _is_plain(kind: pa.DataType) -> bool:
    tests = pa.types.is_primitive, pa.types.is_string, pa.types.is_large_string
    return any(test(kind) for test in tests)


def _value(field: pa.Field, expression: Mapping[str, Any]) -> int | str:
    """Return a constant of a column's own type as the value of a filter."""
    convert = next((one for test, one in _CONSTANTS if test(field.type)), None)
    if convert is None:
        raise _NoFilterError
    return convert(field, expression)


def _integer(field: pa.Field, expression: Mapping[str, Any]) -> int:
    number = int(_literal(expression, "INTEGER", _INTEGER))
    if not -(1 << field.type.bit_width - 1) <= number < 1 << field.type.bit_width - 1:
        raise _NoFilterError
    return number


def _text(_field: pa.Field, expression: Mapping[str, Any]) -> str:
    return f"__str__:{_literal(expression, 'STRING')}"


def _date(_field: pa.Field, expression: Mapping[str, Any]) -> str:
    text = _literal(_cast_to("DATE", expression), "STRING", _DATE)
    dt.date.fromisoformat(text)
    return f"__date__:{text}"


def _timestamp(_field: pa.Field, expression: Mapping[str, Any]) -> str:
    text = _literal(_cast_to("TIMESTAMP", expression), "STRING", _TIMESTAMP)
    dt.datetime.fromisoformat(text)
    return f"__timestamp__:{text}"


def _cast_to(name: str, expression: Mapping[str, Any]) -> Mapping[str, Any]:
    path = expression["type_expr"]["qualified_name"]["path"]
    plain = expression["type"] == "OPERATOR_CAST" and not expression.get("try_cast")
    if not plain or path != [name] or expression["type_expr"].get("children"):
        raise _NoFilterError
    child: Mapping[str, Any] = expression["child"]
    return child


def _literal(expression: Mapping[str, Any], kind: str, form: re.Pattern[str] | None = None) -> str:
    if expression["type"] != "VALUE_CONSTANT" or expression["literal"]["kind"] != kind:
        raise _NoFilterError
    text = expression["literal"]["text"]
    if not isinstance(text, str) or "\0" in text or (form is not None and form.fullmatch(text) is None):
        raise _NoFilterError
    return text


def _is_microseconds(kind: pa.DataType) -> bool:
    return bool(kind == pa.timestamp("us"))


_CONSTANTS: Final[
    tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Field, Mapping[str, Any]], int | str]], ...]
] = (
    (pa.types.is_signed_integer, _integer),
    (pa.types.is_string, _text),
    (pa.types.is_large_string, _text),
    (pa.types.is_date32, _date),
    (_is_microseconds, _timestamp),
)
"""How a constant is read, by the column's type."""

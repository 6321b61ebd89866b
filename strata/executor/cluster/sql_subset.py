"""Decide which SQL runs on Daft, and write it as Daft must get it.

A query is parsed here, and Daft gets what is written from the parse, never the caller's text and without its
comments; what is written is parsed and checked once more. Only what :data:`ALLOWED` lists goes through:
SQL of Daft has functions that read files and addresses. What Daft computes otherwise than DuckDB is refused
by name, or written so that both compute the same:

- ``sum`` of a 64-bit integer wraps: it is computed as ``DECIMAL(38, 0)``, as DuckDB does.
- ``avg`` of large integers overflows: it is computed in doubles, as DuckDB's result is.
- ``CASE WHEN`` of an unknown condition gives NULL instead of the next branch: the condition is written as
  ``coalesce(…, FALSE)``.
- The place of NULL in an order is written out: last, unless the query says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError

ALLOWED: Final = (
    exp.Select, exp.From, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset,
    exp.Join, exp.Table, exp.TableAlias, exp.Subquery, exp.With, exp.CTE, exp.Union, exp.Distinct, exp.Star,
    exp.Alias, exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Tuple,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In, exp.Is,
    exp.Like, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Neg, exp.Case, exp.If, exp.Coalesce, exp.Cast,
    exp.DataType, exp.DataTypeParam, exp.Count, exp.Sum, exp.Avg, exp.Min, exp.Max, exp.Upper, exp.Lower,
)  # fmt: skip
"""The parts that a query may have; every other one is refused."""

CASTS: Final = frozenset({"DOUBLE", "DECIMAL", "DATE", "TIMESTAMP"})
"""Types to cast to: others are rounded, cut or written differently by the two engines."""

ARITHMETIC: Final = (exp.Add, exp.Sub, exp.Mul, exp.Neg)
"""Operators that wrap around silently on integers."""

MOST_PARTS: Final = 5000
"""Most parts of a query."""


class SubsetError(Exception):
    """A query is not run on this engine; the message says what in it is not."""


class _Generator(DuckDB.Generator):  # type: ignore[misc]  # sqlglot's classes are made at run time
    """Writes the place of NULL into every order."""

    def ordered_sql(self, expression: exp.Ordered) -> str:
        """Return a key of an order."""
        way = " DESC" if expression.args.get("desc") else ""
        place = "FIRST" if expression.args.get("nulls_first") else "LAST"
        return f"{self.sql(expression, 'this')}{way} NULLS {place}"


def rewrite(sql: str, inputs: Mapping[str, pa.Schema]) -> str:
    """Return a query for Daft.

    Args:
        sql: The query.
        inputs: The columns of the inputs by each of their names.

    Raises:
        SubsetError: If something in it is not run on Daft.
    """
    types = _types(inputs)
    tree, parts = _checked(sql, inputs, types)
    for part in parts:
        _widen(part, types)
    try:
        written = str(_Generator(dialect=DuckDB(), comments=False).generate(tree))
    except SqlglotError as error:
        raise SubsetError(str(error).partition("\n")[0][:300]) from None
    except RecursionError:
        raise SubsetError("the query is nested too deeply") from None
    _checked(written, inputs, types)  # what Daft gets, and not only what it was made of
    if any(token.comments for token in sqlglot.tokenize(written, dialect="duckdb")):
        raise SubsetError("a comment cannot be left out of the query; remove it")
    return written


def _checked(
    sql: str, inputs: Mapping[str, pa.Schema], types: Mapping[str, pa.DataType | None]
) -> tuple[exp.Expression, list[exp.Expression]]:
    """Parse a query and check it; returns it with all of its parts."""
    try:
        statements = sqlglot.parse(sql, dialect="duckdb")
    except SqlglotError as error:
        raise SubsetError(str(error).partition("\n")[0][:300]) from None
    except RecursionError:
        raise SubsetError("the query is nested too deeply") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select | exp.Union):
        raise SubsetError("a query is one SELECT statement")
    tree = statements[0]
    parts = [*tree.walk()]
    if len(parts) > MOST_PARTS:
        raise SubsetError(f"the query has more than {MOST_PARTS} parts")
    for part in parts:
        _check(part, inputs)
    for part in parts:
        _check_numbers(part, types)
    return tree, parts


def _types(inputs: Mapping[str, pa.Schema]) -> Mapping[str, pa.DataType | None]:
    """Return the type of each column by its name without case; None where two inputs differ in it."""
    found: dict[str, pa.DataType | None] = {}
    for schema in inputs.values():
        for field in schema:
            name = field.name.casefold()
            known = found.setdefault(name, field.type)
            if known != field.type:
                found[name] = None
    return found


def _check(part: exp.Expression, inputs: Mapping[str, pa.Schema]) -> None:
    if type(part) not in ALLOWED:
        shown = part.name if isinstance(part, exp.Anonymous) else type(part).__name__
        raise SubsetError(f"{shown[:60]} is not run on this engine")
    if isinstance(part, exp.Table):
        _check_table(part, inputs)
    elif isinstance(part, exp.Group):
        _check_group(part)
    elif isinstance(part, exp.Cast):
        kind = part.to.this.value
        if type(part) is not exp.Cast or kind not in CASTS:
            raise SubsetError(
                f"a cast to {kind} is not run on this engine; it casts to {', '.join(sorted(CASTS))}"
            )
        if kind == "DECIMAL" and len(part.to.expressions) != 2:  # noqa: PLR2004  # precision and scale
            raise SubsetError("a cast to DECIMAL names precision and scale")
    elif isinstance(part, exp.Ordered) and isinstance(part.this, exp.Literal):
        raise SubsetError("ORDER BY a number is not run on this engine; name the column")
    elif isinstance(part, exp.Join) and (part.args.get("using") or part.args.get("method")):
        raise SubsetError("a join has ON with this engine")


def _check_group(part: exp.Group) -> None:
    if any(isinstance(one, exp.Literal) for one in part.expressions):
        raise SubsetError("GROUP BY a number is not run on this engine; name the column")
    if {key for key, value in part.args.items() if value} - {"expressions"}:
        raise SubsetError("GROUP BY takes expressions only on this engine")


def _check_table(part: exp.Table, inputs: Mapping[str, pa.Schema]) -> None:
    known = {name.casefold() for name in inputs}
    common = {
        one.alias_or_name.casefold()
        for scope in (part.find_ancestor(exp.With), *part.root().find_all(exp.With))
        if scope is not None
        for one in scope.expressions
    }
    plain = isinstance(part.this, exp.Identifier) and not part.args.get("db") and not part.args.get("catalog")
    if not plain or part.name.casefold() not in known | common:
        raise SubsetError(f"{part.name[:60] or 'a function'} is no input of the query")
    if part.args.get("sample") or part.args.get("when") or part.args.get("pivots"):
        raise SubsetError("a sample of a table is not run on this engine")


def _check_numbers(part: exp.Expression, types: Mapping[str, pa.DataType | None]) -> None:
    """Refuse integer arithmetic, which wraps around on this engine and is an error on DuckDB."""
    if isinstance(part, ARITHMETIC) and not _is_exact(part, types):
        raise SubsetError(
            "arithmetic on integers wraps around on this engine; cast to DOUBLE or DECIMAL(38, 0) first"
        )
    if isinstance(part, exp.Sum | exp.Avg):
        argument = part.this
        if not isinstance(argument, exp.Column) and not _is_exact(argument, types):
            raise SubsetError(
                "sum and avg take a column, or what is cast to DOUBLE or DECIMAL, on this engine"
            )
        if isinstance(argument, exp.Column) and types.get(argument.name.casefold()) is None:
            raise SubsetError(f"cast {argument.name[:60]} to DOUBLE or DECIMAL(38, 0) within sum or avg")


def _is_exact(node: exp.Expression, types: Mapping[str, pa.DataType | None]) -> bool:
    """Return whether no integer of a column, and none that is large, is computed with in an expression."""
    if isinstance(node, exp.Cast):
        return True
    if isinstance(node, exp.Column):
        kind = types.get(node.name.casefold())
        return kind is not None and not pa.types.is_integer(kind)
    if isinstance(node, exp.Literal):
        return node.is_string or len(node.name) < 10  # noqa: PLR2004  # digits of 32 bits
    if isinstance(node, exp.Case | exp.Coalesce | exp.Count):
        return False
    return all(_is_exact(one, types) for one in node.iter_expressions())


def _widen(part: exp.Expression, types: Mapping[str, pa.DataType | None]) -> None:
    """Compute sum and avg of integers in types that hold them, and have an unknown condition be false."""
    if isinstance(part, exp.If):
        if isinstance(part.parent, exp.Case) and part.parent.this is not None:
            raise SubsetError("CASE takes conditions, not a value, on this engine")
        part.set("this", exp.Coalesce(this=part.this.copy(), expressions=[exp.false()]))
    if not isinstance(part, exp.Sum | exp.Avg) or not isinstance(part.this, exp.Column):
        return
    kind = types[part.this.name.casefold()]
    if kind is not None and pa.types.is_integer(kind):
        wide = "DECIMAL(38, 0)" if isinstance(part, exp.Sum) else "DOUBLE"
        part.set("this", exp.cast(part.this.copy(), wide, dialect="duckdb"))

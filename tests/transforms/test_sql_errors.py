"""Errors of queries: the place is exact, and no value of a row is told."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.transforms.sql_errors import HIDDEN, MOST_LINE, explain, place, without_values


def error_of(sql: str) -> tuple[str, str]:
    with duckdb.connect() as connection:
        connection.execute("SET errors_as_json = true")
        connection.execute(
            "CREATE VIEW input0 AS SELECT range AS id, 'secret' || range AS name FROM range(9)"
        )
        with pytest.raises(duckdb.Error) as caught:
            connection.execute(sql).fetchall()
    return explain(caught.value, sql)


def test_the_caret_stands_below_the_fault() -> None:
    """Lines and columns count from 1, in characters, also after characters of several bytes."""
    code, message = error_of("SELECT 'äöü' AS a,\n  idd\nFROM input0")
    assert "BinderException" == code
    lines = message.splitlines()
    shown, caret, where = lines[-3:]
    assert "LINE 2:   idd" == shown
    assert "i" == shown[caret.index("^")]
    assert "(line 2, column 3)" == where


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT CAST(name AS INT) FROM input0",
        "SELECT CAST(name AS DATE) FROM input0",
        "SELECT strptime(name, '%Y') FROM input0",
        "SELECT CAST(name AS DECIMAL(9, 2)) FROM input0",
        "SELECT error(name) FROM input0",
        "SELECT CAST(name AS STRUCT(a INT)) FROM input0",
        "SELECT decode(CAST(name AS BLOB) || '\\xFF'::BLOB) FROM input0",
    ],
)
def test_a_value_of_a_row_is_hidden(sql: str) -> None:
    """DuckDB puts values into its messages; they do not reach the client."""
    assert "secret0" not in error_of(sql)[1]


def test_what_is_in_the_query_is_told() -> None:
    """A value that the query itself has helps its author."""
    assert "'abc'" in error_of("SELECT CAST('abc' AS INT)")[1]
    assert f"({HIDDEN} + 7)" == without_values("(12 + 7)", "SELECT a + 7")
    assert f"file {HIDDEN}" == without_values("file /etc/x", "SELECT 1")


@given(st.text(max_size=600), st.integers(-5, 3000))
def test_any_place_of_any_text_can_be_shown(sql: str, position: int) -> None:
    """Whatever the query and the offset, there is a line with a caret below it, of a bounded length."""
    lines = place(sql, max(0, position)).split("\n")
    assert lines[-2].strip() == "^"
    assert len(lines[-3]) <= MOST_LINE + 20

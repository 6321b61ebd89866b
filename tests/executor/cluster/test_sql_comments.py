"""Comments of a query never reach Daft, whose reader of SQL may end them elsewhere."""

from __future__ import annotations

import pyarrow as pa
import pytest
import sqlglot

from strata.executor.cluster.sql_subset import SubsetError, rewrite

INPUTS = {"input0": pa.schema([("id", pa.int64()), ("name", pa.string())])}
EVIL = "FROM read_parquet('/etc/passwd')"
COMMENTED = (
    f"SELECT id -- {EVIL}\nFROM input0",
    f"SELECT id /* {EVIL} */ FROM input0",
    f"SELECT /* {EVIL} */ id FROM input0",
    f"SELECT id /* a /* b */ {EVIL} */ FROM input0",
    f"SELECT id /* a */ /* {EVIL} */ FROM input0",
    f"SELECT id -- */ {EVIL} /*\nFROM input0",
    f"SELECT id /* -- */ FROM input0 -- {EVIL}",
    f"/* {EVIL} */ SELECT id FROM input0",
    f"SELECT id FROM input0 -- {EVIL}",
    f"SELECT id FROM input0 AS t /* {EVIL} */ WHERE t.id > 1 /* {EVIL} */ ORDER BY id /* {EVIL} */",
    f"WITH x /* {EVIL} */ AS (SELECT id FROM input0) -- {EVIL}\nSELECT id FROM x",
    f"SELECT id FROM input0 /* {EVIL} */ UNION ALL /* {EVIL} */ SELECT id FROM input0",
    f"SELECT CASE /* {EVIL} */ WHEN id > 1 /* {EVIL} */ THEN 1.5 ELSE 2.5 END AS c FROM input0",
    f"SELECT sum(id /* {EVIL} */) AS s, CAST(id /* {EVIL} */ AS DOUBLE /* {EVIL} */) AS d FROM input0 GROUP BY id",
)
HINTS = (
    f"SELECT id --\r {EVIL}\nFROM input0",
    f"SELECT /*+ {EVIL} */ id FROM input0",
    "SELECT /*+ BROADCAST(input0) */ id FROM input0",
    f"SELECT id /*! {EVIL} */ FROM input0",
    f"SELECT id # {EVIL}\nFROM input0",
    f"SELECT id // {EVIL}\nFROM input0",
)


@pytest.mark.parametrize("sql", COMMENTED)
def test_no_comment_is_written(sql: str) -> None:
    """Of whatever form, and wherever it stands."""
    assert_plain(rewrite(sql, INPUTS))


@pytest.mark.parametrize("sql", HINTS)
def test_what_is_a_comment_for_some_readers_only_is_left_out_or_refused(sql: str) -> None:
    """Hints, and the comments of other dialects."""
    try:
        written = rewrite(sql, INPUTS)
    except SubsetError:
        return
    assert_plain(written)


def assert_plain(written: str) -> None:
    assert not any(one in written for one in ("--", "/*", "*/", "#", "passwd", "read_parquet")), written
    assert not any(token.comments for token in sqlglot.tokenize(written, dialect="duckdb"))


def test_what_is_no_comment_stays() -> None:
    """In a text, and in a quoted name."""
    written = rewrite("SELECT name AS \"a -- b\" FROM input0 WHERE name = '/* x */ -- y'", INPUTS)
    assert '"a -- b"' in written
    assert "'/* x */ -- y'" in written


def test_the_written_text_is_checked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a generator with a fault makes of a permitted query is refused."""
    from strata.executor.cluster import sql_subset  # noqa: PLC0415  # its generator is replaced

    monkeypatch.setattr(sql_subset._Generator, "generate", lambda *_: f"SELECT id {EVIL}")
    with pytest.raises(SubsetError, match=r"no input|not run"):
        rewrite("SELECT id FROM input0", INPUTS)
    monkeypatch.setattr(sql_subset._Generator, "generate", lambda *_: "SELECT id FROM input0 /* x */")
    with pytest.raises(SubsetError, match="comment"):
        rewrite("SELECT id FROM input0", INPUTS)

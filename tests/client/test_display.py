"""What people see: progress in a line, and answers in a notebook, in which no value is markup."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest

from strata.client import QueryResult
from strata.client.answers import Build, Dependents, Edge, Lineage, Node
from strata.client.display.html import LONGEST, SHOWN_ROWS, Listing
from strata.client.display.progress import Progress, ProgressLine, progress_text, size_text
from strata.client.tables import Description, Table

EVIL = "<script>alert('x')</script>&"
ESCAPED = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    """In powers of a thousand."""
    assert text == size_text(size)


def test_rows_and_bytes_have_their_totals_where_they_are_known() -> None:
    """Without them, only what has arrived."""
    assert "1,200 of 5,000 rows, 1.5 kB of 6.0 kB" == progress_text(Progress(1200, 5000, 1500, 6000))
    assert "7 rows, 12 bytes" == progress_text(Progress(7, None, 12, None))


def test_away_from_a_terminal_progress_is_one_plain_line() -> None:
    """A log or a notebook gets no control characters."""
    out = io.StringIO()
    line = ProgressLine(out)
    for rows in (1, 2, 3):
        line.show(Progress(rows, 3, rows * 10, 30))
    line.end(Progress(3, 3, 30, 30), whole=True)
    assert "3 of 3 rows, 30 bytes of 30 bytes\n" == out.getvalue()


def test_on_a_terminal_one_line_changes() -> None:
    """At most ten times a second, and it says when a result broke off."""
    out, now = Terminal(), [0.0]
    line = ProgressLine(out, clock=lambda: now[0])
    for at, rows in ((1.0, 1), (1.05, 2), (1.2, 3)):
        now[0] = at
        line.show(Progress(rows, None, rows, None))
    assert "\r\x1b[K1 rows, 1 bytes\r\x1b[K3 rows, 3 bytes" == out.getvalue()
    line.end(Progress(3, None, 3, None), whole=False)
    assert out.getvalue().endswith("3 rows, 3 bytes, then it broke off\n")


def test_a_notebook_shows_values_as_text() -> None:
    """Names of tables, columns and results are other people's: nothing of them is markup."""
    shown = [
        Listing([Table(EVIL, "c", (EVIL,), EVIL)]),
        Build(EVIL, "failed", error_message=EVIL),
        Description(EVIL, {"fields": [{"id": 1, "name": EVIL, "type": "int", "doc": EVIL}]}),
        Lineage(EVIL, (), (Edge(EVIL, EVIL, EVIL),)),
        Dependents(EVIL, (Node(EVIL, "artifact"),)),
        QueryResult(pa.table({EVIL: [EVIL]})),
    ]
    for one in shown:
        html = one._repr_html_()
        assert ESCAPED in html
        assert "<script" not in html


def test_a_notebook_shows_the_beginning_of_what_is_long() -> None:
    """With the number of what is left out; an empty listing says so."""
    tables = Listing(Table(f"wh:db.t{at}", "wh", ("db",), "x" * 1000) for at in range(SHOWN_ROWS + 5))
    html = tables._repr_html_()
    assert "and 5 more" in html
    assert f"wh:db.t{SHOWN_ROWS}" not in html
    assert "x" * (LONGEST + 1) not in html
    assert "nothing" in Listing()._repr_html_()
    assert "<caption>500 rows</caption>" in QueryResult(pa.table({"a": range(500)}))._repr_html_()


def test_a_listing_is_a_tuple() -> None:
    """Programs see what they saw before."""
    assert ("a", "b") == Listing(["a", "b"])

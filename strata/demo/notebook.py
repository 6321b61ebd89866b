"""The demo's notebook about the flights: made and run at the start, so that visitors see results."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from strata.client import NotebookRun, StrataClient
from strata.demo.dataset import ALIAS
from strata.demo.errors import require

TITLE: Final = "Delays of February 2013"

RUN_SECONDS: Final = 30.0
"""Seconds for a run of the whole notebook."""

CELLS: Final = (
    {
        "id": "intro",
        "language": "markdown",
        "source": f"# {TITLE}\n\nWhich airline left New York late? Change the month, run the cell, and see "
        "which cells are stale then.",
    },
    {"id": "month", "source": "month = 2", "name": "month"},
    {
        "id": "flights",
        "source": "flights = strata.fetch(\n"
        f'    "{ALIAS}:nyc.flights",\n'
        '    columns=["carrier", "dep_delay"],\n'
        '    filters=[("month", "=", month)],\n'
        ")\n"
        'print(f"{flights.num_rows:,} flights")',
    },
    {
        "id": "late",
        "language": "sql",
        "source": "-- @name late\n"
        "SELECT carrier, count(*) AS flights, round(avg(dep_delay), 1) AS minutes\n"
        "FROM flights WHERE dep_delay IS NOT NULL\n"
        "GROUP BY carrier ORDER BY minutes DESC, carrier",
    },
    {"id": "worst", "source": "worst = late.to_pylist()[:5]"},
    {
        "id": "chart",
        "source": "for one in worst:\n"
        '    bar = "#" * round(one["minutes"])\n'
        "    print(f\"{one['carrier']:3}{one['minutes']:6.1f} {bar}\")",
    },
)
"""Cells in Python, SQL and Markdown; each one but the first takes what the one before it leaves."""

EDITED: Final = "worst = late.slice(0, 5).to_pylist()"
"""Another source of the cell ``worst``, which leaves the same value."""


def make_and_run(user: StrataClient, colleague: StrataClient) -> str:
    """Make the notebook and run it as one member; another one takes all results. Returns what was seen."""
    name = user.create_notebook(TITLE, CELLS).name
    begun = time.perf_counter()
    first = user.run_notebook(name, timeout=RUN_SECONDS)
    seconds = time.perf_counter() - begun
    _all_ended(first, {"ok"}, len(CELLS) - 1)
    require(not _stale(user, name), "cells are stale after a run of all")
    chart = next(cell.result for cell in first.session.cells if cell.id == "chart")
    require(chart is not None and chart.stdout.count("#") > 0, "the chart has no bars")
    # Its rights to the tables are at least as wide, and its rows the same.
    _all_ended(colleague.run_notebook(name, timeout=RUN_SECONDS), {"reused"}, len(CELLS) - 1)
    return f"{name}: {len(first.ended)} cells ran in {seconds:.1f} s; demo-admin reuses all results"


def edit_and_run(user: StrataClient) -> str:
    """Edit a cell, run it, and edit it back. Returns what was seen."""
    found = next(one for one in user.notebooks() if one.title == TITLE)
    name, source = found.name, str(CELLS[4]["source"])
    changed = _edit(user, name, found.revision, EDITED)
    stale = _stale(user, name)
    require(
        stale == {"worst", "chart"}, f"stale after an edit of worst: {', '.join(sorted(stale)) or 'none'}"
    )
    run = user.run_notebook(name, ["worst"], timeout=RUN_SECONDS)
    require([(one.cell, one.how) for one in run.ended] == [("worst", "ok")], "another cell ran, too")
    require(not _stale(user, name), "cells behind an unchanged value are stale")
    _edit(user, name, changed, source)
    _all_ended(user.run_notebook(name, ["worst"], timeout=RUN_SECONDS), {"reused"}, 1)
    require(not _stale(user, name), "cells are stale after the edit was undone")
    return "worst edited: worst and chart stale; worst run: same value, chart valid; edited back: reused"


def _edit(user: StrataClient, name: str, revision: int, source: str) -> int:
    edits: Iterable[dict[str, str]] = [{"op": "replace", "id": "worst", "source": source}]
    return user.edit_notebook(name, revision, edits).revision


def _all_ended(run: NotebookRun, ways: set[str], cells: int) -> None:
    wrong = [f"{one.cell}: {one.how}. {one.message}" for one in run.ended if one.how not in ways]
    require(not wrong, "; ".join(wrong))
    require(len(run.ended) == cells, f"{len(run.ended)} cells ran instead of {cells}")


def _stale(user: StrataClient, name: str) -> set[str]:
    return {cell.id for cell in user.notebook_session(name).cells if cell.stale and cell.id != "intro"}

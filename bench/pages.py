"""Measure the pages in Chromium, by its traces: how soon they are there, and how a large grid scrolls.

Each view is loaded in a new window, with nothing in its caches:

- *painted*: the first contentful paint; the aim is 1 s;
- *there*: what the view is for is in the document;
- *interactive*: that, or the end of the last task of over 50 ms, whichever is later; the aim is 2 s.

Then a result of 1,000,000 rows and 200 columns is opened in the grid, and scrolled: by the wheel, sideways,
and from the first row to the last one in a few seconds, where every frame has other rows. Of each: frames
drawn per second (the aim is 60) and the longest task of the page (the aim is 50 ms).

Needs ``chromium``, Playwright, and an installation of Strata that has the pages.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import figures
import pyarrow as pa
import servers
import wire
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pyiceberg.catalog.sql import SqlCatalog

from strata.ui import installed_pages

PAINTED_MS, INTERACTIVE_MS, TASK_MS, FRAMES = 1000.0, 2000.0, 50.0, 60.0
NEARLY = 0.97
"""Share of :data:`FRAMES` that is enough: the first frame of a moment may fall before it."""

QUIET_MS = 1000
"""Milliseconds after which a view that was there has no further task of its loading."""

SCROLL_SECONDS = 4.0
SPEED = 6000
"""Pixels per second of the wheel."""

PATIENCE_MS = 600_000
SMALL = "wh.small"
MARK = "strata-here"

CATEGORIES = [
    "blink.user_timing",
    "devtools.timeline",
    "loading",
    "disabled-by-default-devtools.timeline",
    "disabled-by-default-devtools.timeline.frame",
]

THROUGH = """([seconds]) => new Promise(done => {
    const grid = document.querySelector('.grid');
    const most = grid.scrollHeight - grid.clientHeight;
    const began = performance.now();
    const step = now => {
        const part = Math.min(1, (now - began) / 1000 / seconds);
        grid.scrollTop = most * Math.max(0, part);
        if (part < 1) requestAnimationFrame(step); else done();
    };
    requestAnimationFrame(step);
})"""


@attrs.frozen
class View:
    """A page to load.

    Attributes:
        name: Its name in the figures.
        path: Its address; ``{notebook}`` stands for the name of one.
        wanted: A selector of what it is for.
    """

    name: str
    path: str
    wanted: str


VIEWS = (
    View("data", "ui/data", ".tables a"),
    View("a table's rows", "ui/table?uri=bench:wh.small", ".grid .cell"),
    View("a notebook", "ui/notebook?name={notebook}", ".nb-state"),
    View("results", "ui/results", "table a"),
    View("console", "ui/console", "table a"),
    View("me", "ui/me", ".checks"),
)


def fill(warehouse: Path, rows: int, columns: int) -> None:
    """Write a small table and a large one: half of its columns are numbers, half are true or false."""
    warehouse.mkdir()
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse / 'catalog.db'}", warehouse=str(warehouse))
    catalog.create_namespace("wh")
    small = pa.table({"id": range(1000), "name": [f"row {at}" for at in range(1000)]})
    catalog.create_table(SMALL, small.schema).append(small)
    part = 100_000
    first = _part(0, min(part, rows), columns)
    large = catalog.create_table("wh.large", first.schema)
    for start in range(0, rows, part):
        large.append(_part(start, min(part, rows - start), columns))
    catalog.close()


def _part(start: int, rows: int, columns: int) -> pa.Table:
    numbers = pa.array(range(start, start + rows), pa.int32())
    flags = pa.array([at % 3 == 0 for at in range(rows)], pa.bool_())
    return pa.table({f"c{at:03}": flags if at % 2 else numbers for at in range(columns)})


def result_of(target: servers.Target, table: str) -> str:
    """Have the server make a result of a whole table; returns the address of its page."""
    with target.connect() as connection:
        body = {"inputs": [f"bench:{table}"], "transform": {"executor": "scan@v1", "params": {}}}
        made = connection.post("/v1/materialize", body).json()
        if connection.get(made["stream_url"]).status != 200:
            raise wire.WireError("the result cannot be read")
        match = re.fullmatch(r"strata://artifact/(\w+)@v=(\d+)", made["artifact_uri"])
        if match is None:
            raise wire.WireError(f"no address of a result: {made['artifact_uri']}")
        while connection.get(f"/v1/artifacts/{match[1]}/v/{match[2]}", keep=True).json()["state"] != "ready":
            time.sleep(0.05)
    return f"ui/result?id={match[1]}&version={match[2]}"


def notebook_of(target: servers.Target) -> str:
    """Make a notebook; returns its name."""
    cells = [{"source": f"x{at} = {at}"} for at in range(20)]
    with target.connect() as connection:
        reply = connection.post("/v1/notebooks", {"title": "Twenty cells", "cells": cells})
    return str(reply.json()["name"])


def opened(browser: Browser, target: servers.Target) -> BrowserContext:
    """Return a new window, with the identity that a proxy would state."""
    context = browser.new_context(
        base_url=f"{target.url}/", extra_http_headers=dict(target.headers), locale="en-GB",
        viewport={"width": 1440, "height": 900},
    )  # fmt: skip
    context.set_default_timeout(PATIENCE_MS)
    return context


class Trace:
    """What Chromium notes of a page while it does something.

    Args:
        text: The trace.
        marked: The moment of its mark, by the page's clock.
    """

    def __init__(self, text: bytes, marked: float) -> None:
        self._events: list[dict[str, Any]] = json.loads(text)["traceEvents"]
        found = next(self._of(MARK), None)
        if found is None:
            raise wire.WireError("the trace has no mark of the page")
        self._thread = (found["pid"], found["tid"])
        self._zero = found["ts"] - marked * 1000

    def _of(self, name: str) -> Iterator[dict[str, Any]]:
        return (one for one in self._events if one["name"] == name)

    def tasks(self) -> list[tuple[float, float, float]]:
        """Return the tasks of the page's main thread: their beginning, length and processor time in ms."""
        return [
            (
                (one["ts"] - self._zero) / 1000,
                one.get("dur", 0) / 1000,
                one.get("tdur", one.get("dur", 0)) / 1000,
            )
            for one in self._of("RunTask")
            if (one["pid"], one["tid"]) == self._thread
        ]

    def frames(self) -> list[float]:
        """Return the moments of the frames that were drawn, in seconds."""
        return sorted(one["ts"] / 1e6 for one in self._of("DrawFrame") if one["pid"] == self._thread[0])


def mark(page: Page) -> float:
    """Leave a mark in the trace, which tells the page's process; returns its moment by the page's clock."""
    return float(page.evaluate("name => performance.mark(name).startTime", MARK))


def load(browser: Browser, target: servers.Target, view: View, known: Mapping[str, str]) -> dict[str, float]:
    """Load a view in a new window; returns when it was painted, there, and interactive."""
    context = opened(browser, target)
    page = context.new_page()
    browser.start_tracing(page=page, categories=CATEGORIES)
    page.goto(view.path.format(**known), wait_until="commit")
    there = page.wait_for_function(
        "selector => document.querySelector(selector) && performance.now()", arg=view.wanted
    )
    milliseconds = float(there.json_value())
    paint = page.wait_for_function(
        "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    )
    painted = float(paint.json_value())
    marked = mark(page)
    page.wait_for_timeout(QUIET_MS)
    trace = Trace(browser.stop_tracing(), marked)
    context.close()
    long = [begun + length for begun, length, _ in trace.tasks() if begun >= 0 and length > TASK_MS]
    return {
        "painted": painted,
        "there": milliseconds,
        "interactive": max([painted, milliseconds, *(end for end in long if end < milliseconds + QUIET_MS)]),
    }


def scrolled(browser: Browser, page: Page, how: str) -> dict[str, float]:
    """Scroll the grid; returns frames per second, and the longest task by the clock and of the processor."""
    page.locator(".grid").evaluate("one => { one.scrollTop = 0; one.scrollLeft = 0; }")
    page.wait_for_timeout(QUIET_MS)
    box = page.locator(".grid").bounding_box()
    assert box is not None
    browser.start_tracing(page=page, categories=CATEGORIES)
    marked = mark(page)
    if how == "all rows":
        page.evaluate(THROUGH, [SCROLL_SECONDS])
    else:
        along, size = ("xDistance", "Width") if how == "sideways" else ("yDistance", "Height")
        most = page.locator(".grid").evaluate(f"one => one.scroll{size} - one.client{size}")
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        distance = -min(SPEED * SCROLL_SECONDS, most)
        gesture = {"speed": SPEED, "gestureSourceType": "mouse", along: distance}
        page.context.new_cdp_session(page).send("Input.synthesizeScrollGesture", {**place, **gesture})
    trace = Trace(browser.stop_tracing(), marked)
    frames = trace.frames()
    if len(frames) < 2:  # a time between two
        raise wire.WireError(f"{how}: the trace has {len(frames)} frames")
    tasks = trace.tasks()
    return {
        "frames": (len(frames) - 1) / (frames[-1] - frames[0]),
        "longest task": max((length for _, length, _ in tasks), default=0.0),
        "longest task, processor time": max((worked for _, _, worked in tasks), default=0.0),
    }


def measure(scratch: Path, options: argparse.Namespace) -> list[figures.Figure]:
    """Load each view, and scroll the large grid, once in each run."""
    warehouse = scratch / "warehouse"
    fill(warehouse, options.rows, options.columns)
    found: dict[tuple[str, str], list[float]] = {}
    with servers.strata(scratch / "server", warehouse) as target, sync_playwright() as playwright:
        known = {"notebook": notebook_of(target)}
        result_of(target, SMALL)
        large = result_of(target, "wh.large")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for run in range(options.runs):
            for view in VIEWS:
                for what, milliseconds in load(browser, target, view, known).items():
                    found.setdefault((view.name, what), []).append(milliseconds)
            context = opened(browser, target)
            page = context.new_page()
            page.goto(large)
            page.locator(".grid .cell").first.wait_for()
            rows = page.locator(".grid").get_attribute("aria-rowcount")
            if rows != str(options.rows + 1):
                raise wire.WireError(f"the grid has {rows} rows in place of {options.rows + 1}")
            for how in ("by the wheel", "sideways", "all rows"):
                for what, figure in scrolled(browser, page, how).items():
                    found.setdefault((f"scrolled {how}", what), []).append(figure)
            context.close()
            print(f"run {run + 1} of {options.runs} done", file=sys.stderr)
        browser.close()
    return [_figure(where, what, samples) for (where, what), samples in found.items()]


def _figure(where: str, what: str, samples: list[float]) -> figures.Figure:
    """Return the line of a figure, beside its aim."""
    if what == "frames":
        return figures.Figure(
            f"{where}: {what}", "60 a second", "/s", samples, [FRAMES] * len(samples), NEARLY
        )
    aim = {"painted": PAINTED_MS, "there": INTERACTIVE_MS, "interactive": INTERACTIVE_MS}.get(what, TASK_MS)
    return figures.Figure(f"{where}: {what}", f"{aim:g} ms", "ms", samples, [aim] * len(samples), 1, "≤")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="nox -s bench_pages --", description=__doc__.partition("\n")[0])
    figures.add_options(parser)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large result (%(default)s)")
    parser.add_argument("--columns", type=int, default=200, help="columns of it (%(default)s)")
    options = parser.parse_args(arguments)
    if shutil.which("chromium") is None:
        raise wire.WireError("chromium is missing")
    if installed_pages() is None:
        raise wire.WireError("this installation of Strata has no pages: install it as a wheel")
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as scratch:
        lines = measure(Path(scratch), options)
    return figures.report(lines, options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except wire.WireError as error:
        sys.exit(f"bench: {error}")

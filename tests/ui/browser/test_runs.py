"""Runs without a browser, and schedules, in the pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hostile_tables import PAYLOADS, SECRET
from page_steps import RUN_MS, ask, barriers, make, opened, tab_to

if TYPE_CHECKING:
    from page_steps import Window

pytestmark = pytest.mark.slow

MONTH = {"source": "month = 1", "metadata": {"tags": ["parameters"]}}


def test_a_run_is_started_followed_and_read(window: Window) -> None:
    """By keyboard: with a parameter, to how each cell ended and what it printed; the run has an address."""
    context = window("author")
    name = make(context, MONTH, "print('month', month)", "1 / 0")
    page = opened(context, name, "&tab=runs")
    page.get_by_text("No runs yet").wait_for()
    page.get_by_role("tab", name="Runs").focus()
    tab_to(page, page.get_by_label("Parameters of the run, as JSON"))
    page.keyboard.type("[2]")
    page.keyboard.press("Enter")
    page.get_by_text("Parameters are a JSON object").wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.type('{"month": 2}')
    page.keyboard.press("Enter")
    one = page.get_by_role("region", name="One run")
    one.locator("dd", has_text="failed").wait_for(timeout=RUN_MS)
    cells = one.get_by_role("list", name="Cells of the run")
    cells.get_by_text("month 2").wait_for()
    cells.get_by_text("ZeroDivisionError: division by zero").first.wait_for()
    other = window("second").new_page()
    other.goto(page.url)
    other.get_by_role("list", name="Cells of the run").get_by_text("month 2").wait_for()


def test_a_run_is_cancelled(window: Window) -> None:
    """A run that goes on can be ended; a reader sees it without the button."""
    context = window("author")
    name = make(context, "import time\ntime.sleep(600)")
    page = opened(context, name, "&tab=runs")
    page.get_by_role("button", name="Start a run").click()
    one = page.get_by_role("region", name="One run")
    one.locator("dd", has_text="running").wait_for()
    reader = opened(window("user"), name, "&tab=runs")
    reader.get_by_role("region", name="One run").locator("dd", has_text="running").wait_for()
    assert 0 == reader.get_by_role("button", name="Cancel the run").count()
    assert 0 == reader.get_by_role("button", name="Start a run").count()
    one.get_by_role("button", name="Cancel the run").click()
    one.locator("dd", has_text="cancelled").wait_for(timeout=RUN_MS)


def test_nothing_of_a_denied_table_is_in_a_run_that_a_member_reads(window: Window) -> None:
    """Of a cell that read it, a member without the right receives how it ended, and no more."""
    author, denied = window("author"), window("denied")
    parts = SECRET.split("-")
    name = make(author, f"t = strata.fetch('wh:board.' + '-'.join({parts!r}))\nprint(t.to_pylist())")
    writing = opened(author, name, "&tab=runs")
    writing.get_by_role("button", name="Start a run").click()
    writing.get_by_role("list", name="Cells of the run").get_by_text(SECRET).wait_for(timeout=RUN_MS)
    page = denied.new_page()
    heard: dict[str, bytes] = {}
    page.on(
        "requestfinished",
        lambda request: (
            heard.update({request.url: request.response().body()}) if "/v1/" in request.url else None
        ),
    )
    page.goto(f"ui/notebook?name={name}&tab=runs")
    page.get_by_text("the rest comes from tables that you may not read").wait_for()
    assert [] != [url for url in heard if f"/v1/notebooks/{name}/runs" in url]
    assert [] == [url for url, body in heard.items() if SECRET.encode() in body]


def test_a_schedule_is_made_paused_and_deleted(window: Window) -> None:
    """By keyboard: with a time zone; its next times are those of that clock, none while it is paused."""
    context = window("author", timezone_id="Europe/Berlin")
    name = make(context, MONTH)
    page = opened(context, name, "&tab=runs")
    page.get_by_text("No schedule runs this notebook.").wait_for()
    page.get_by_role("tab", name="Runs").focus()
    tab_to(page, page.get_by_role("button", name="New schedule"))
    page.keyboard.press("Enter")
    form = page.get_by_role("form", name="New schedule")
    assert "Europe/Berlin" == form.get_by_label("Time zone").input_value()
    tab_to(page, form.get_by_label("Minute, hour, day, month, weekday"))
    page.keyboard.press("Control+a")
    page.keyboard.type("0 25 * * *")
    page.keyboard.press("Enter")
    form.get_by_text("a hour is from 0 to 23").wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.type("30 7 * * mon-fri")
    assert "" == form.get_by_label("Runs", exact=True).input_value()
    page.keyboard.press("Enter")
    one = page.get_by_role("list", name="Schedules").get_by_role("listitem")
    one.get_by_text("in Europe/Berlin").wait_for()
    assert 5 == one.get_by_text(re.compile("Next")).inner_text().count("07:30")
    tab_to(page, one.get_by_role("button", name="Pause: 30 7 * * mon-fri"))
    page.keyboard.press("Enter")
    one.get_by_text("Paused by ben.").wait_for()
    assert 0 == one.get_by_text("Next").count()
    one.get_by_role("button", name="Have go on: 30 7 * * mon-fri").click()
    one.get_by_text(re.compile("Next")).wait_for()
    one.get_by_role("button", name="Delete: 30 7 * * mon-fri").click()
    page.get_by_role("dialog").get_by_label("Type").fill("30 7 * * mon-fri")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No schedule runs this notebook.").wait_for()
    assert {"schedules": []} == ask(context, "GET", f"v1/notebooks/{name}/schedules")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_runs_has_no_barrier_and_shows_code_as_text(window: Window, scheme: str) -> None:
    """WCAG 2.2 AA as far as axe-core checks it; what cells print and errors say is text."""
    size = {"width": 1280, "height": 900} if scheme == "light" else {"width": 390, "height": 800}
    context = window("author", bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    name = make(context, f"for one in {PAYLOADS!r}:\n    print(one)", f"raise ValueError({PAYLOADS[0]!r})")
    ask(context, "POST", f"v1/notebooks/{name}/schedules", {"cron": "0 7 * * *", "parameters": {}})
    page = opened(context, name, "&tab=runs")
    page.get_by_role("button", name="Start a run").click()
    page.get_by_role("region", name="One run").locator("dd", has_text="failed").wait_for(timeout=RUN_MS)
    page.get_by_role("button", name="New schedule").click()
    assert 0 == page.locator("main img, main iframe, main script").count()
    assert page.evaluate("() => window.ran === undefined")
    assert {} == barriers(page)

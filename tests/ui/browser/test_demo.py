"""The demo's stack as people have it: ``deploy/demo/run``, its two ports, its tables, and a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_steps import RUN_MS, ask, cell, opened, result_of, saved, settled, show
from pages_kit import pages
from programs import need

from strata.demo.dataset import DataSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from page_steps import Window
    from playwright.sync_api import Browser, BrowserContext, Page

# The ports are those that the documentation names: one stack at a time has them.
pytestmark = [pytest.mark.slow, pytest.mark.alone]

ROOT = Path(__file__).parents[3]
PORTS = {"demo-user": 8865, "demo-admin": 8866}
FLIGHTS = "demo:nyc.flights"
INTERNAL = "demo:internal.delays"

BOTH = pytest.mark.parametrize("who", PORTS)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Run the whole stack, once for all tests; yields the folder of its files."""
    need("nginx")
    pages()
    place = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(ROOT / "deploy/demo/run"), "--directory", str(place / "run")]
    environ = os.environ | {"PYTHONPATH": str(_with_pages(place))}
    with (place / "said").open("wb") as said:
        process = subprocess.Popen(command, stderr=said, env=environ)
    try:
        for _ in range(4000):
            if "8866 is demo-admin" in (place / "said").read_text():
                break
            assert process.poll() is None, (place / "said").read_text()
            threading.Event().wait(0.05)
        else:
            pytest.fail((place / "said").read_text())
        yield place / "run"
    finally:
        process.terminate()
        process.wait(120)
    assert 0 == process.returncode, (place / "said").read_text()


def _with_pages(place: Path) -> Path:
    """Return the folder of a ``strata`` that has the pages under test: a source tree finds installed ones only."""
    if "PAGES" not in os.environ:
        return ROOT
    unused = shutil.ignore_patterns("__pycache__", "web", "dist")
    shutil.copytree(ROOT / "strata", place / "strata", ignore=unused)
    shutil.copytree(os.environ["PAGES"], place / "strata" / "ui" / "dist")
    return place


@pytest.fixture(scope="module")
def browser(stack: Path) -> Iterator[Browser]:
    """Run the browser, once for all tests of the stack."""
    assert stack.is_dir()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Return what opens a window at the port of one of the two; all are closed after the test."""
    opened_ones: list[BrowserContext] = []

    def open_window(who: str) -> BrowserContext:
        context = browser.new_context(base_url=f"http://localhost:{PORTS[who]}/", locale="en-GB")
        context.set_default_timeout(60_000)
        opened_ones.append(context)
        return context

    yield open_window
    for one in opened_ones:
        one.close()


@pytest.fixture(scope="module")
def carriers(stack: Path) -> list[str]:
    """Return the carrier of each flight, by pyiceberg."""
    with DataSet(stack / "data" / "demo", reused=True).catalog() as catalog:
        table = catalog.load_table("nyc.flights").scan(selected_fields=("carrier",)).to_arrow()
    return [str(one) for one in table["carrier"].to_pylist()]


def to_part(page: Page, name: str) -> None:
    """Go to a part of the pages by the frame."""
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
    settled(page)


@BOTH
def test_a_table_is_found_and_its_rows_are_seen(window: Window, who: str) -> None:
    """From / by a search: of five tables the one, and a thousand of its rows."""
    page = window(who).new_page()
    show(page, "")
    page.get_by_role("link", name="airports", exact=True).wait_for()
    page.get_by_label("Search tables").fill("flig")
    page.get_by_role("link", name="airports", exact=True).wait_for(state="detached")
    page.get_by_role("link", name="flights", exact=True).click()
    page.get_by_text("1,000 rows in").wait_for()
    page.get_by_role("grid").get_by_role("columnheader", name=re.compile("^carrier")).first.wait_for()


@BOTH
def test_rows_are_filtered_and_sorted_by_the_server(window: Window, carriers: list[str], who: str) -> None:
    """All flights of one airline, as many as pyiceberg counts; and the airlines from the last one."""
    page = window(who).new_page()
    show(page, f"ui/table?uri={FLIGHTS}")
    page.get_by_label("Where", exact=True).select_option("carrier")
    page.get_by_label("Value (string)").fill("HA")
    page.get_by_role("button", name="Add filter").click()
    page.get_by_text(re.compile(f"^{carriers.count('HA'):,} rows in")).wait_for()
    show(page, "ui/table?uri=demo:nyc.airlines")
    title = page.get_by_role("columnheader", name=re.compile("^carrier"))
    title.get_by_role("button").click()
    title.and_(page.locator("[aria-sort=ascending]")).wait_for()
    title.get_by_role("button").click()
    title.and_(page.locator("[aria-sort=descending]")).wait_for()
    page.locator(".row[aria-rowindex='2']").get_by_text(max(carriers), exact=True).wait_for()


def test_a_column_has_a_profile_of_all_rows(window: Window, carriers: list[str]) -> None:
    """The executor beside the server counts them: the most frequent airline with its flights."""
    page = window("demo-user").new_page()
    show(page, f"ui/table?uri={FLIGHTS}&tab=schema")
    page.get_by_role("button", name="Profile of carrier", exact=True).click()
    profile = page.get_by_role("region", name="Profile of carrier", exact=True)
    profile.get_by_role("row").nth(1).wait_for()
    facts = dict(
        zip(profile.locator("dt").all_inner_texts(), profile.locator("dd").all_inner_texts(), strict=True)
    )
    assert {
        "Rows": f"{len(carriers):,}",
        "Null": "0 (0%)",
        "Different values": str(len(set(carriers))),
        "Smallest": min(carriers),
        "Largest": max(carriers),
    } == facts
    [(most, flights)] = Counter(carriers).most_common(1)
    first = profile.get_by_role("row").nth(1)
    first.get_by_text(most, exact=True).wait_for()
    first.get_by_text(f"{flights:,}", exact=True).wait_for()


def test_versions_of_a_table_are_seen(window: Window) -> None:
    """The tag after the second quarter leads to the rows of its time: there is no flight of July."""
    page = window("demo-user").new_page()
    show(page, f"ui/table?uri={FLIGHTS}&tab=refs")
    page.get_by_role("link", name="first-half").click()
    page.get_by_text("1,000 rows in").wait_for()
    page.get_by_label("Where", exact=True).select_option("month")
    page.get_by_label("Is", exact=True).select_option(">")
    page.get_by_label(re.compile("^Value")).fill("6")
    page.get_by_role("button", name="Add filter").click()
    page.get_by_text("No row matches the filters").wait_for()
    page.get_by_label("Version").select_option(index=0)
    page.get_by_text("1,000 rows in").wait_for()


def test_a_notebook_is_made_of_a_table_and_shared(window: Window) -> None:
    """demo-user makes it and runs a cell on the demo's table; demo-admin sees who is there, and the result."""
    page = window("demo-user").new_page()
    show(page, "ui/notebooks")
    page.get_by_role("button", name="New notebook").click()
    page.keyboard.type("Airlines")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Airlines").wait_for()
    page.locator(".cm-content").click()
    page.keyboard.insert_text(
        'airlines = strata.fetch("demo:nyc.airlines")\nprint(airlines.num_rows, "airlines")'
    )
    page.keyboard.press("Shift+Enter")
    page.locator(".nb-cell").first.get_by_label("Printed").get_by_text("16 airlines").wait_for(timeout=RUN_MS)
    saved(page)
    other = opened(window("demo-admin"), page.url.partition("name=")[2])
    other.get_by_label("Printed").get_by_text("16 airlines").wait_for()
    other.get_by_role("list", name="Who is here").get_by_text("demo-user").wait_for()
    page.get_by_role("list", name="Who is here").get_by_text("demo-admin").wait_for()


def test_a_cell_that_may_not_read_a_table_says_so(window: Window) -> None:
    """The table that is denied to demo-user is one that does not exist, for cells too."""
    context = window("demo-user")
    body = {"title": "Denied", "cells": [{"id": "c0", "source": f'strata.fetch("{INTERNAL}")'}]}
    page = opened(context, ask(context, "POST", "v1/notebooks", body)["name"])
    page.get_by_role("button", name="Run all").click()
    error = cell(page, "c0").get_by_role("group", name="Error")
    error.get_by_text(re.compile("not found", re.IGNORECASE)).first.wait_for(timeout=RUN_MS)


@BOTH
def test_a_result_leads_to_the_table_that_it_was_made_of(window: Window, who: str) -> None:
    """From the list of results to its lineage, to why it is kept, and to a file."""
    context = window(who)
    made = result_of(context, "demo:nyc.planes", limit=50 + len(who))
    page = context.new_page()
    show(page, "ui/results")
    link = page.get_by_role("region", name="Results").get_by_role("link", name="demo:nyc.planes").first
    link.wait_for()
    assert made["artifact_id"] in str(link.get_attribute("href"))
    link.click()
    page.get_by_role("tab", name="Made of, and used by").click()
    page.locator(".graph").get_by_role("link", name=re.compile("^demo:nyc.planes")).first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert 51 + len(who) == len(Path(download.value.path()).read_text().splitlines())


@BOTH
def test_each_port_tells_who_one_is(window: Window, who: str) -> None:
    """The identity that the port injects, with its scopes."""
    page = window(who).new_page()
    show(page, "ui/data")
    to_part(page, "Me")
    page.get_by_text(who, exact=True).first.wait_for()
    page.get_by_text("demo-team", exact=True).first.wait_for()
    scope, other = ("notebook:execute", "admin:*") if who == "demo-user" else ("admin:*", "notebook:execute")
    page.get_by_text(scope, exact=True).first.wait_for()
    assert 0 == page.locator(".badge").get_by_text(other, exact=True).count()


def test_the_console_is_for_the_administrator(window: Window) -> None:
    """demo-admin sees the team, and the rule that keeps a table from demo-user; demo-user is offered nothing."""
    page = window("demo-admin").new_page()
    show(page, "ui/data")
    to_part(page, "Console")
    page.get_by_role("link", name="demo-team", exact=True).wait_for()
    page.get_by_role("tab", name="Who may see what").click()
    page.get_by_label("Principal").fill("demo-user")
    page.get_by_label("Resource").fill("tables/demo/internal/delays")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("denied", exact=True).first.wait_for()
    page.get_by_role("tab", name="Workers").click()
    page.get_by_role("heading", name=re.compile("^sidecar")).get_by_text("enabled").wait_for()
    user = window("demo-user").new_page()
    show(user, "ui/console")
    user.get_by_text("Nothing here is for you").wait_for()
    assert 0 == user.get_by_role("link", name="Console", exact=True).count()


def test_a_denied_table_is_there_for_the_administrator_alone(window: Window) -> None:
    """In the list, and by its address."""
    page, user = window("demo-admin").new_page(), window("demo-user").new_page()
    for one in (page, user):
        show(one, "ui/data")
        one.get_by_role("link", name="flights", exact=True).wait_for()
    page.get_by_role("link", name="delays", exact=True).click()
    page.get_by_text(re.compile(r"^[\d,]+ rows in")).wait_for()
    assert 0 == user.get_by_role("link", name="delays", exact=True).count()
    show(user, f"ui/table?uri={INTERNAL}")
    user.get_by_text("Table not found").first.wait_for()


@BOTH
def test_the_api_is_read_and_tried(window: Window, who: str) -> None:
    """The request is sent as the port's caller."""
    page = window(who).new_page()
    show(page, "ui/data")
    to_part(page, "API")
    page.get_by_label("Search the API").fill("GET /v1/me")
    page.get_by_role("button", name="Send it as you").first.click()
    page.get_by_label("answer", exact=True).get_by_text(f'"principal": "{who}"').wait_for()

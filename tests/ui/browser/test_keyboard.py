"""Whole journeys by keyboard alone: what is not reached by Tab, or has no visible focus, fails its test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_steps import (
    RUN_MS,
    Line,
    ask,
    cell,
    make,
    opened,
    result_of,
    saved,
    show,
    sources,
    tab_to,
    write_jupyter_file,
)

if TYPE_CHECKING:
    from page_steps import Window
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.slow

ORDERS = "wh:shop.orders"

NO_KEYS = (
    *("click", "dblclick", "tap", "hover", "focus", "fill", "type", "press", "press_sequentially", "clear"),
    *("check", "uncheck", "set_checked", "select_option", "set_input_files", "drag_to"),
)
"""What Playwright does to an element without the way that a person has to it."""


@pytest.fixture(autouse=True)
def _keyboard_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that goes to an element past the keyboard."""
    sync_api = pytest.importorskip("playwright.sync_api")

    def refused(*_given: object, **_named: object) -> None:
        pytest.fail("these tests have a keyboard alone")

    for of in (sync_api.Locator, sync_api.Page, sync_api.Mouse):
        for name in (*NO_KEYS, "move", "down", "up", "wheel"):
            if hasattr(of, name):
                monkeypatch.setattr(of, name, refused)


def reach(page: Page, target: Locator, *, back: bool = False) -> None:
    """Press Tab until an element has the focus, and see that it shows it."""
    tab_to(page, target, 160, key="Shift+Tab" if back else "Tab")
    shown = target.evaluate(
        "one => one.matches(':focus-visible') && getComputedStyle(one).outlineStyle !== 'none'"
    )
    assert shown, f"the focus of {target} is not to be seen"


def rewrite(page: Page, text: str) -> None:
    """Replace what is in the field or editor with the focus."""
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def has_focus(page: Page, target: Locator) -> None:
    """Wait until an element has the focus."""
    target.wait_for()
    page.wait_for_function("one => one === document.activeElement", arg=target.element_handle())


def test_a_notebook_is_imported(window: Window, tmp_path: Path) -> None:
    """From the list to the file's cells; what was not kept is told on the way."""
    file = tmp_path / "voyage.ipynb"
    write_jupyter_file(file, "x = 1")
    page = window("author").new_page()
    # Long before the key: the browser takes a moment to hand its choosers over, and a key waits for nothing.
    page.on("filechooser", lambda _: None)
    show(page, "ui/data")
    reach(page, page.get_by_role("navigation", name="Pages").get_by_role("link", name="Notebooks"))
    page.keyboard.press("Enter")
    upload = page.get_by_role("button", name="Import .ipynb")
    reach(page, upload)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(file)
    page.get_by_text("Not everything in the file could be kept").wait_for()
    has_focus(page, upload)
    reach(page, page.get_by_role("status", name="Import").get_by_role("link", name="voyage"))
    page.keyboard.press("Enter")
    page.locator(".cm-content").get_by_text("x = 1").wait_for()


def test_an_earlier_revision_is_compared_and_gone_back_to(window: Window) -> None:
    """From the list by the tab of the history; the focus stays among the revisions."""
    context = window("author")
    name = make(context, "a = 1", title="Goes back")
    edits = [{"op": "replace", "id": "c0", "source": "a = 2"}]
    ask(context, "POST", f"v1/notebooks/{name}/edits", {"revision": 1, "edits": edits})
    page = context.new_page()
    show(page, "ui/notebooks")
    reach(page, page.get_by_role("link", name="Goes back"))
    page.keyboard.press("Enter")
    reach(page, page.get_by_role("tab", name="Cells"))
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        if "tab=history" in page.url:
            break
    has_focus(page, page.get_by_role("tab", name="History"))
    page.get_by_role("region", name="Difference").get_by_text("+ a = 2").wait_for()
    first = page.get_by_role("button", name=re.compile("^Revision 1 "))
    reach(page, first)
    page.keyboard.press("Space")
    page.get_by_text("The first revision").wait_for()
    has_focus(page, first)
    reach(page, page.get_by_role("button", name="Go back to revision 1"))
    page.keyboard.press("Enter")
    page.get_by_text("The notebook is as it was in revision 1.").wait_for()
    latest = page.get_by_role("button", name=re.compile("^Revision 3 "))
    latest.wait_for()
    assert ["a = 1"] == sources(context, name)
    has_focus(page, page.get_by_role("tabpanel"))
    reach(page, latest)


def test_a_run_is_started_and_cancelled(window: Window) -> None:
    """The button goes with the run, and leaves the focus at the run."""
    context = window("author")
    name = make(context, "import time\ntime.sleep(600)")
    page = opened(context, name, "&tab=runs")
    reach(page, page.get_by_role("button", name="Start a run"))
    page.keyboard.press("Space")
    one = page.get_by_role("region", name="One run")
    one.locator("dd", has_text="running").wait_for(timeout=RUN_MS)
    reach(page, one.get_by_role("button", name="Cancel the run"))
    page.keyboard.press("Enter")
    one.locator("dd", has_text="cancelled").wait_for(timeout=RUN_MS)
    has_focus(page, one)


CHOICES = {
    "Keep mine": ["a = 'ours'"],
    "Take theirs": ["a = 'theirs'"],
    "Keep both, theirs in a new cell": ["a = 'ours'", "a = 'theirs'"],
}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_conflict_of_two_texts_is_decided(window: Window, choice: str) -> None:
    """From the editor to one of its buttons; then the keys of notebooks act on the cell."""
    ours, theirs = window("author"), window("second")
    line = Line(ours)
    name = make(ours, "a = 1")
    page = opened(ours, name)
    page.get_by_role("list", name="Who is here").wait_for()
    line.hold()
    reach(page, cell(page, "c0"))
    page.keyboard.press("Enter")
    rewrite(page, "a = 'ours'")
    page.locator(".nb-saving.saving").wait_for()
    edits = [{"op": "replace", "id": "c0", "source": "a = 'theirs'"}]
    ask(theirs, "POST", f"v1/notebooks/{name}/edits", {"revision": 1, "edits": edits})
    line.let_go()
    conflict = cell(page, "c0").get_by_role("alert")
    conflict.get_by_text("a = 'theirs'").wait_for()
    page.keyboard.press("Escape")
    reach(page, conflict.get_by_role("button", name=choice))
    page.keyboard.press("Enter")
    conflict.wait_for(state="detached")
    has_focus(page, cell(page, "c0"))
    saved(page)
    assert CHOICES[choice] == sources(ours, name)
    page.keyboard.press("b")
    page.locator(".nb-cell").nth(len(CHOICES[choice])).wait_for()


def test_a_name_and_its_alias_are_pointed_elsewhere_and_removed(window: Window) -> None:
    """From the list of names; a dialog that is left by Escape gives the focus back to its button."""
    context = window("curator")
    first = result_of(context, ORDERS, "hourly", limit=31)
    second = result_of(context, ORDERS, limit=32)
    uris = [f"strata://artifact/{one['artifact_id']}@v={one['version']}" for one in (first, second)]
    page = context.new_page()
    show(page, "ui/results")
    reach(page, page.get_by_role("tab", name="All results"))
    page.keyboard.press("ArrowRight")
    reach(page, page.get_by_role("link", name="hourly", exact=True))
    page.keyboard.press("Enter")
    target = page.get_by_label("The name points at")
    reach(page, target)
    rewrite(page, "nothing")
    page.keyboard.press("Enter")
    page.get_by_text("A result is written strata://artifact/").wait_for()
    has_focus(page, target)
    rewrite(page, uris[1])
    move = page.get_by_role("button", name="Move the name", exact=True)
    reach(page, move)
    page.keyboard.press("Space")
    page.get_by_text(re.compile("^hourly points at result")).wait_for()
    has_focus(page, move)
    assert uris[1] == ask(context, "GET", "v1/names/hourly")["artifact_uri"]

    alias = page.get_by_label("Alias", exact=True)
    for uri in uris:
        reach(page, alias, back=True)
        rewrite(page, "stage")
        page.keyboard.press("Tab")
        rewrite(page, uri)
        page.keyboard.press("Enter")
        page.get_by_text("stage is set.").wait_for()
        [now] = ask(context, "GET", "v1/names/hourly/aliases")["aliases"]
        assert ("stage", uri) == (now["alias"], f"strata://artifact/{now['artifact_id']}@v={now['version']}")
    remove = page.get_by_role("button", name="Remove the alias stage")
    reach(page, remove, back=True)
    page.keyboard.press("Enter")
    page.get_by_text("stage is removed.").wait_for()
    remove.wait_for(state="detached")
    has_focus(page, page.locator("section", has=page.get_by_role("heading", name="Aliases")))

    away = page.get_by_role("button", name="Remove the name")
    reach(page, away)
    page.keyboard.press("Enter")
    confirm = page.get_by_label("Type hourly to confirm")
    has_focus(page, confirm)
    page.keyboard.press("Escape")
    confirm.wait_for(state="detached")
    has_focus(page, away)
    page.keyboard.press("Enter")
    reach(page, page.get_by_role("dialog").get_by_role("button", name="Cancel"))
    page.keyboard.press("Enter")
    confirm.wait_for(state="detached")
    has_focus(page, away)
    page.keyboard.press("Enter")
    has_focus(page, confirm)
    page.keyboard.type("hourly")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Names", selected=True).wait_for()
    assert 404 == context.request.get("v1/names/hourly").status


def test_a_column_has_a_profile(window: Window) -> None:
    """By the tab of the schema; its button hides it again, and keeps the focus."""
    page = window().new_page()
    show(page, f"ui/table?uri={ORDERS}")
    reach(page, page.get_by_role("tab", name="Rows"))
    page.keyboard.press("ArrowRight")
    button = page.get_by_role("button", name="Profile of id")
    reach(page, button)
    page.keyboard.press("Enter")
    profile = page.get_by_role("region", name="Profile of id")
    profile.get_by_text("Different values").wait_for()
    profile.get_by_text("5,001").first.wait_for()
    has_focus(page, button)
    page.keyboard.press("Space")
    profile.wait_for(state="detached")
    has_focus(page, button)


def test_results_and_notebooks_are_downloaded(window: Window) -> None:
    """A result in each of its formats, from the list of results; a notebook from its menu."""
    context = window("author")
    result_of(context, ORDERS, limit=33)
    page = context.new_page()
    show(page, "ui/results")
    reach(page, page.get_by_role("region", name="Results").get_by_role("link", name=ORDERS).first)
    page.keyboard.press("Enter")
    for word, ending in (("Arrow", ".arrows"), ("Parquet", ".parquet"), ("CSV", ".csv")):
        reach(page, page.get_by_role("link", name=f"Download as {word}"))
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename.endswith(ending)
    assert Path(download.value.path()).read_bytes().startswith(b'"id","name"')
    page = opened(context, make(context, "kept = 1"))
    menu = page.locator("summary", has_text=re.compile("^More$"))
    reach(page, menu)
    page.keyboard.press("Enter")
    for word, ending in ((".ipynb", ".ipynb"), ("Python", ".py"), ("HTML", ".html")):
        reach(page, page.get_by_role("link", name=f"Download as {word}"))
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename.endswith(ending)
        assert "kept = 1" in Path(download.value.path()).read_text() or word == "HTML"


def test_what_deletes_its_own_row_leaves_the_focus_beside_it(window: Window) -> None:
    """A notebook is deleted from the list: keys go on in the list, not at the top of the page."""
    context = window("author")
    for title in ("To be kept", "To be deleted"):
        make(context, "x = 1", title=title)
    page = context.new_page()
    show(page, "ui/notebooks")
    button = page.get_by_role("button", name="Delete To be deleted")
    reach(page, button)
    page.keyboard.press("Enter")
    has_focus(page, page.get_by_role("dialog").get_by_role("textbox"))
    page.keyboard.press("Escape")
    has_focus(page, button)
    page.keyboard.press("Enter")
    has_focus(page, page.get_by_role("dialog").get_by_role("textbox"))
    page.keyboard.type("To be deleted")
    page.keyboard.press("Enter")
    button.wait_for(state="detached")
    has_focus(page, page.get_by_role("region", name="Notebooks"))


def test_an_administrator_acts_in_the_console(window: Window) -> None:
    """A limit, a worker and the cache: each act leaves the focus where the next one is."""
    page = window("admin").new_page()
    show(page, "ui/tenant?id=team&tab=limits")
    change = page.get_by_role("button", name="Change bulk_slots", exact=True)
    reach(page, change)
    page.keyboard.press("Enter")
    has_focus(page, page.get_by_label("bulk_slots, as JSON; empty: as configured"))
    rewrite(page, "5")
    page.keyboard.press("Escape")
    has_focus(page, change)
    page.keyboard.press("Enter")
    rewrite(page, "6")
    page.keyboard.press("Enter")
    page.get_by_text("bulk_slots is 6.").wait_for()
    has_focus(page, change)
    reach(page, page.get_by_role("navigation", name="Pages").get_by_role("link", name="Console"), back=True)
    page.keyboard.press("Enter")
    tab = page.get_by_role("tab", name="Tenants")
    reach(page, tab)
    for name in ("Who may see what", "Cache"):
        page.keyboard.press("ArrowRight")
        has_focus(page, page.get_by_role("tab", name=name))
    clear = page.get_by_role("button", name="Clear the cache")
    reach(page, clear)
    page.keyboard.press("Space")
    has_focus(page, page.get_by_label("Type team to confirm"))
    page.keyboard.type("team")
    page.keyboard.press("Enter")
    page.get_by_text("The cache is cleared.").wait_for()
    has_focus(page, clear)
    reach(page, page.get_by_role("tab", name="Cache"), back=True)
    page.keyboard.press("ArrowRight")
    worker = page.locator("section", has=page.get_by_role("heading", name=re.compile("^local")))
    reach(page, worker.get_by_role("button", name="Drain local"))
    page.keyboard.press("Enter")
    page.keyboard.type("local")
    page.keyboard.press("Enter")
    page.get_by_text("local ends its cells and takes no further ones.").wait_for()
    has_focus(page, worker)
    reach(page, worker.get_by_role("button", name="Enable local"))
    page.keyboard.press("Enter")
    page.get_by_text("local takes cells again.").wait_for()
    has_focus(page, worker)


def test_what_is_not_reached_or_not_seen_fails(window: Window) -> None:
    """The measures of these tests measure: a button out of the order, one without a mark, and a click."""
    page = window("admin").new_page()
    show(page, "ui/console?tab=cache")
    button = page.get_by_role("button", name="Clear the cache")
    button.evaluate("one => { one.style.outline = 'none'; }")
    with pytest.raises(AssertionError, match="is not to be seen"):
        reach(page, button)
    button.evaluate("one => { one.style.outline = ''; one.tabIndex = -1; }")
    with pytest.raises(AssertionError, match="Tab does not reach"):
        reach(page, button)
    with pytest.raises(pytest.fail.Exception, match="a keyboard alone"):
        button.click()

"""What people do with notebooks in the browser: the real server runs their cells."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hostile_tables import PAYLOADS, SECRET
from page_steps import (
    OFFERS,
    PICTURE,
    RUN_MS,
    Line,
    ask,
    barriers,
    cell,
    make,
    opened,
    pixel,
    saved,
    select,
    sources,
    state,
    write,
)

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.slow

Window = Callable[..., "BrowserContext"]


def test_a_person_makes_a_notebook_runs_it_and_deletes_it(window: Window) -> None:
    """From an empty list to a result, and back: what is typed is saved without being asked for."""
    context = window("author")
    page = context.new_page()
    page.goto("ui/notebooks")
    page.get_by_role("button", name="New notebook").click()
    page.keyboard.type("Delays of May")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Delays of May").wait_for()
    page.locator(".cm-content").click()
    page.keyboard.type("x = 6 * 7\nprint('the answer')\nx")
    page.keyboard.press("Shift+Enter")
    first = page.locator(".nb-cell").first
    first.locator(".badge", has_text="current").wait_for(timeout=RUN_MS)
    first.get_by_label("Printed").get_by_text("the answer").wait_for()
    first.get_by_label("Output").get_by_text("42").wait_for()
    assert 2 == page.locator(".nb-cell").count()
    saved(page)
    name = page.url.partition("name=")[2]
    assert ["x = 6 * 7\nprint('the answer')\nx", ""] == sources(context, name)
    page.get_by_role("link", name="Notebooks").first.click()
    page.get_by_role("button", name="Delete Delays of May").click()
    confirm = page.get_by_role("dialog").get_by_role("button", name="Delete")
    assert confirm.is_disabled()
    page.get_by_role("dialog").get_by_label("Type").fill("Delays of May")
    confirm.click()
    page.get_by_role("link", name="Delays of May").wait_for(state="detached")


def test_what_depends_on_a_changed_cell_is_stale_and_a_run_stops_where_values_are_equal(
    window: Window,
) -> None:
    """A change upstream is told downstream with its reason; an equal value leaves the cells behind it alone."""
    context = window("author")
    name = make(context, "import time\na = 1", "b = a % 2", "print('ran')\nc = b + 1")
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    for id_ in ("c0", "c1", "c2"):
        state(page, id_, "current")
    write(page, "c0", "a = 3")
    page.keyboard.press("Escape")
    state(page, "c1", "stale")
    state(page, "c2", "stale")
    cell(page, "c1").get_by_text("Stale: it needs cell 1, which is stale.").wait_for()
    # The cell in the middle alone: the first is run before it, and leaves another a, but an equal b.
    cell(page, "c1").get_by_role("button", name="Run cell 2").click()
    for id_ in ("c0", "c1", "c2"):
        state(page, id_, "current")


def test_a_cell_prints_while_it_runs_and_is_interrupted(window: Window) -> None:
    """The console is live; an interrupt ends the cell, and what waits behind it."""
    context = window("author")
    name = make(context, "import time\nprint('has begun')\ntime.sleep(600)", "print('never')")
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    cell(page, "c0").get_by_role("log").get_by_text("has begun").wait_for(timeout=RUN_MS)
    state(page, "c1", "waits")
    # A window that comes later sees what was printed before.
    other = opened(window("second"), name)
    cell(other, "c0").get_by_role("log").get_by_text("has begun").wait_for()
    page.get_by_role("button", name="Interrupt").click()
    cell(page, "c0").get_by_role("group", name="Error").get_by_text("Interrupted", exact=True).wait_for(
        timeout=RUN_MS
    )
    cell(page, "c1").get_by_text("The run was dropped by an interrupt.").wait_for()


def test_an_error_is_at_its_line(window: Window) -> None:
    """The line is marked in the source, its number leads there, and the traceback is at hand."""
    context = window("author")
    name = make(context, "a = 1\nb = a / 0\nc = 2", "def f(:\n    pass")
    page = opened(context, name)
    cell(page, "c0").get_by_role("button", name="Run cell 1").click()
    error = cell(page, "c0").get_by_role("group", name="Error")
    error.get_by_text("ZeroDivisionError: division by zero", exact=True).wait_for(timeout=RUN_MS)
    assert "b = a / 0" == cell(page, "c0").locator(".cm-marked-error").inner_text()
    error.get_by_role("button", name="line 2").click()
    page.keyboard.press("End")
    page.keyboard.type(" + 1")
    saved(page)
    assert sources(context, name)[0] == "a = 1\nb = a / 0 + 1\nc = 2"
    # The line is not marked once the source is another one.
    cell(page, "c0").locator(".cm-marked-error").wait_for(state="detached")
    # What cannot be compiled says so before it runs.
    cell(page, "c1").locator(".cm-marked-error").wait_for()
    cell(page, "c1").get_by_role("list", name="Notes").get_by_text("line 1").wait_for()


def test_tables_pictures_markdown_and_values_are_shown(window: Window) -> None:
    """Each form of an output has its own view; a table opens whole in the grid."""
    context = window("author")
    name = make(
        context,
        "import pyarrow as pa\nt = pa.table({'n': pa.array([9007199254740993 + i for i in range(500)])})\nt",
        PICTURE,
        "display(Markdown('# Head\\n\\n- [x] *done* and `code`'))\nbig = {'k': [9007199254740993]}",
        {"language": "sql", "source": "SELECT count(*) AS n FROM t"},
        {
            "language": "markdown",
            "source": "## Two\n\n| a | b |\n|---|---|\n| 1 | **2** |\n| | 3 |\n| 4 |\n\n<b>no</b>",
        },
    )
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    table = cell(page, "c0").get_by_role("region", name="Table")
    table.get_by_text("9007199254740993", exact=True).wait_for(timeout=RUN_MS)
    cell(page, "c0").get_by_text("The first 20 of 500 rows").wait_for()
    cell(page, "c0").get_by_role("button", name=re.compile("^t ")).press("Enter")
    cell(page, "c0").get_by_role("grid").get_by_text("9007199254740994", exact=True).wait_for()
    drawn = cell(page, "c1").get_by_role("img")
    drawn.wait_for(timeout=RUN_MS)
    page.wait_for_function("() => document.querySelector('#cell-c1 canvas').width === 8")
    assert [255, 0, 0, 255] == pixel(page, "c1")
    # What is far from sight is not loaded, and how far it is depends on what is there already.
    cell(page, "c2").get_by_role("button", name=re.compile("^big ")).scroll_into_view_if_needed(
        timeout=RUN_MS
    )
    cell(page, "c2").get_by_role("heading", name="Head").wait_for(timeout=RUN_MS)
    assert cell(page, "c2").get_by_role("checkbox").is_checked()
    cell(page, "c2").get_by_role("button", name=re.compile("^big ")).press("Enter")
    cell(page, "c2").get_by_label("Value of big").get_by_text("9007199254740993").wait_for()
    cell(page, "c3").scroll_into_view_if_needed()
    cell(page, "c3").get_by_role("region", name="Table").or_(
        cell(page, "c3").get_by_role("button", name=re.compile("^result "))
    ).first.wait_for(timeout=RUN_MS)
    text = cell(page, "c4")
    text.get_by_role("heading", name="Two").wait_for()
    assert "2" == text.locator("td strong").inner_text()
    # Empty cells keep their place.
    assert ["1", "2", "", "3", "4", ""] == text.locator("td").all_inner_texts()
    text.get_by_text("<b>no</b>").wait_for()


def test_two_browsers_edit_one_notebook_and_no_character_is_lost(window: Window) -> None:
    """Other cells are merged; of one cell both texts are shown, and a person decides."""
    ours, theirs = window("author"), window("second")
    line = Line(ours)
    name = make(ours, "a = 1", "b = 2")
    here, there = opened(ours, name), opened(theirs, name)
    here.get_by_role("list", name="Who is here").get_by_text("cyn").wait_for()
    # Different cells at the same time: both stay.
    write(here, "c0", "a = 10")
    write(there, "c1", "b = 20")
    saved(here)
    saved(there)
    assert ["a = 10", "b = 20"] == sources(ours, name)
    cell(here, "c1").get_by_text("b = 20").wait_for(timeout=RUN_MS)
    cell(there, "c0").get_by_text("a = 10").wait_for(timeout=RUN_MS)
    # The same cell: the first one is saved; the other is asked, and goes on typing meanwhile.
    line.hold()
    write(here, "c0", "a = 'ours'")
    here.locator(".nb-saving.saving").wait_for()
    write(there, "c0", "a = 'theirs'")
    saved(there)
    line.let_go()
    conflict = cell(here, "c0").get_by_role("alert")
    conflict.get_by_text("cyn changed this cell, too.").wait_for()
    conflict.get_by_text("a = 'theirs'").wait_for()
    cell(here, "c0").locator(".cm-content").click()
    here.keyboard.press("Control+End")
    here.keyboard.type(" # more")
    assert "a = 'theirs'" == sources(ours, name)[0]
    conflict.get_by_role("button", name="Keep both").click()
    saved(here)
    assert ["a = 'ours' # more", "a = 'theirs'", "b = 20"] == sources(ours, name)
    # What one deletes while the other types in it is there again, with the text.
    line.hold()
    write(here, "c1", "b = 'typed'")
    here.locator(".nb-saving.saving").wait_for()
    cell(there, "c1").get_by_role("button", name=re.compile("^Delete cell")).click()
    saved(there)
    line.let_go()
    here.get_by_text("It is there again, with your text.").wait_for()
    saved(here)
    assert "b = 'typed'" in sources(ours, name)


def test_a_server_that_does_not_answer_costs_no_character(window: Window) -> None:
    """What is typed meanwhile is kept, also over a new load of the page, and saved when it answers again."""
    context = window("author")
    name = make(context, "a = 1")
    line = Line(context)
    page = opened(context, name)
    page.get_by_role("list", name="Who is here").wait_for()
    line.cut()
    write(page, "c0", "a = 'while it was away'")
    page.get_by_text("the server does not answer").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    # Before it is there again: it must not be sent in between.
    page.route(re.compile("/edits$"), lambda route: route.abort())
    line.deaf = True
    line.mend()
    page.reload()
    page.get_by_text("is there again").wait_for()
    page.locator("#cell-c0 .cm-content").get_by_text("while it was away").wait_for()
    page.get_by_text("the server does not answer").wait_for()
    page.unroute(re.compile("/edits$"))
    saved(page)
    assert ["a = 'while it was away'"] == sources(context, name)


def test_after_a_lost_connection_the_page_goes_on_where_it_was(window: Window) -> None:
    """The page tells that it is alone, keeps what is typed, and then has what the others did meanwhile."""
    ours, theirs = window("author"), window("second")
    line = Line(ours)
    name = make(ours, "a = 1", "print('done', 6 * 7)")
    here, there = opened(ours, name), opened(theirs, name)
    here.get_by_role("list", name="Who is here").get_by_text("cyn").wait_for()
    line.cut()
    write(here, "c0", "a = 'alone'")
    here.get_by_text("the server does not answer").wait_for()
    cell(there, "c1").get_by_role("button", name="Run cell 2").click()
    state(there, "c1", "current")
    there.locator("#cell-c1 .cm-content").click()
    there.keyboard.press("Control+End")
    there.keyboard.type("  # theirs")
    saved(there)
    line.mend()
    cell(here, "c1").locator(".cm-content").get_by_text("# theirs").wait_for()
    cell(here, "c1").get_by_label("Printed").get_by_text("done 42").wait_for()
    saved(here)
    assert ["a = 'alone'", "print('done', 6 * 7)  # theirs"] == sources(ours, name)


def test_a_notebook_is_worked_with_by_keyboard_alone(window: Window) -> None:
    """Cells are added, turned, moved, cut, pasted, deleted and taken back by the keys of notebooks."""
    context = window("author")
    name = make(context, "one = 1", "two = 2")
    page = opened(context, name)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.classList.contains('nb-cell')"):
            break
    focused = "() => document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused).startswith("Cell 1 of 2")
    page.keyboard.press("b")
    page.locator(".nb-cell").nth(2).wait_for()
    page.keyboard.press("Enter")
    page.keyboard.type("three = 3")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "() => document.activeElement.getAttribute('aria-label')?.startsWith('Cell 3 of 3')"
    )
    page.keyboard.press("Alt+ArrowUp")
    saved(page)
    assert ["one = 1", "two = 2", "three = 3"] == sources(context, name)
    page.keyboard.press("x")
    page.wait_for_function("() => document.querySelectorAll('.nb-cell').length === 2")
    page.keyboard.press("v")
    page.keyboard.press("m")
    saved(page)
    found = ask(context, "GET", f"v1/notebooks/{name}")["cells"]
    assert [("one = 1", "python"), ("three = 3", "python"), ("two = 2", "markdown")] == [
        (one["source"], one["language"]) for one in found
    ]
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.wait_for_function("() => document.querySelectorAll('.nb-cell').length === 2")
    page.keyboard.press("z")
    page.wait_for_function("() => document.querySelectorAll('.nb-cell').length === 3")
    page.keyboard.press("y")
    page.keyboard.press("Control+Enter")
    page.locator(".nb-cell").nth(2).locator(".badge", has_text="current").wait_for(timeout=RUN_MS)
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert page.evaluate(focused).startswith("Cell 3 of 3")


def test_names_tables_and_columns_are_offered(window: Window) -> None:
    """Tab takes what is offered first; Enter is a new line, unless something was chosen."""
    context = window("author")
    name = make(context, "first_name = 1", "", {"language": "sql", "source": ""})
    page = opened(context, name)
    offered = page.locator(OFFERS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/v1/tables?" in request.url else None)
    page.locator("#cell-c1 .cm-content").click()
    page.keyboard.type("rows = strata.fetch('wh:shop.or")
    offered.get_by_text("wh:shop.orders").wait_for()
    # Once for each key at most.
    assert 0 < len(asked) <= len("'wh:shop.or")
    page.keyboard.press("Tab")
    page.keyboard.type("', columns=['na")
    offered.get_by_text("name", exact=True).wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("'])")
    page.keyboard.press("Enter")
    page.keyboard.type("first")
    offered.get_by_text("first_name", exact=True).wait_for()
    page.keyboard.press("Enter")
    saved(page)
    written = "rows = strata.fetch('wh:shop.orders', columns=['name'])\nfirst\n"
    assert written == sources(context, name)[1]
    page.locator("#cell-c2 .cm-content").click()
    page.keyboard.type("select nam")
    offered.get_by_text("name", exact=True).wait_for()
    page.keyboard.press("Tab")
    saved(page)
    assert "select name" == sources(context, name)[2]


def test_nothing_of_a_denied_table_reaches_a_member_who_may_not_read_it(window: Window) -> None:
    """Neither its rows in another's results, live or kept, nor its name among what is offered."""
    author, denied = window("author"), window("denied")
    parts = SECRET.split("-")
    name = make(author, f"t = strata.fetch('wh:board.' + '-'.join({parts!r}))\nprint(t.to_pylist())\nt", "")
    page = denied.new_page()
    heard: list[bytes] = []
    asked: set[str] = set()

    def hear(answer) -> None:
        if answer.status < 300 and "/v1/" in answer.url:
            heard.append(answer.body())
            asked.add("/v1/" + answer.url.partition("?")[0].partition("/v1/")[2])

    page.on("requestfinished", lambda request: hear(request.response()))
    frames: list[bytes] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda text: frames.append(str(text).encode())),
    )
    page.goto(f"ui/notebook?name={name}")
    page.locator(".cm-content").first.wait_for()
    writing = opened(author, name)
    writing.get_by_role("button", name="Run all").click()
    cell(writing, "c0").get_by_label("Printed").get_by_text(SECRET).wait_for(timeout=RUN_MS)
    state(page, "c0", "hidden")
    cell(page, "c0").get_by_text("tables that you may not read").wait_for()
    page.locator("#cell-c1 .cm-content").click()
    page.keyboard.type("# @table t wh:board.")
    saved(page)
    assert 0 == page.locator(".cm-tooltip-autocomplete").get_by_text(SECRET).count()
    page.reload()
    state(page, "c0", "hidden")
    assert {"/v1/me", "/v1/tables", f"/v1/notebooks/{name}"} <= asked
    assert any(b'"ended"' in frame for frame in frames)
    assert [] == [body for body in [*heard, *frames] if SECRET.encode() in body]


def test_revisions_are_compared_and_the_app_view_has_no_sources(window: Window) -> None:
    """The history shows who changed which lines; the app view shows outputs and Markdown only."""
    context = window("author")
    name = make(context, "a = 1\nprint('shown')", {"language": "markdown", "source": "# A report"})
    page = opened(context, name)
    write(page, "c0", "a = 2\nprint('shown')")
    page.keyboard.press("Shift+Enter")
    state(page, "c0", "current")
    page.get_by_role("tab", name="History").click()
    difference = page.get_by_role("region", name="Difference")
    difference.get_by_text("- a = 1").wait_for()
    difference.get_by_text("+ a = 2").wait_for()
    page.get_by_role("button", name=re.compile("^Revision 1 ")).click()
    page.get_by_text("The first revision").wait_for()
    page.get_by_role("tab", name="App").click()
    page.get_by_role("heading", name="A report").wait_for()
    page.get_by_label("Printed").get_by_text("shown").wait_for()
    assert 0 == page.get_by_text("a = 2").count()


def test_an_earlier_revision_becomes_the_latest_one(window: Window) -> None:
    """Cells that were deleted, moved, changed and added since are as they were, metadata too; the history keeps all."""
    context = window("author")
    name = make(context, "one = 1", "two = 2", "three = 3", {"language": "markdown", "source": "four"})
    before = ask(context, "GET", f"v1/notebooks/{name}")["cells"]
    edits = [
        {"op": "delete", "id": "c1"},
        {"op": "move", "id": "c3", "after": None},
        {"op": "replace", "id": "c0", "source": "one = 'other'", "language": "sql"},
        {"op": "replace", "id": "c2", "metadata": {"tags": ["late"]}},
        {"op": "insert", "id": "new", "after": "c2", "source": "five"},
        {"op": "describe", "title": "Other"},
    ]
    ask(context, "POST", f"v1/notebooks/{name}/edits", {"revision": 1, "edits": edits})
    page = opened(context, name, "&tab=history")
    page.get_by_role("button", name=re.compile("^Revision 1 ")).click()
    page.get_by_role("button", name="Go back to revision 1").click()
    page.get_by_role("button", name=re.compile("^Revision 3 ")).wait_for()
    page.get_by_role("heading", name="Flights").wait_for()
    assert before == ask(context, "GET", f"v1/notebooks/{name}")["cells"]
    assert 2 == ask(context, "GET", f"v1/notebooks/{name}?revision=2")["revision"]


def test_who_may_only_read_neither_edits_nor_runs(window: Window) -> None:
    """A reader sees cells and results, and nothing that would be refused."""
    author = window("author")
    name = make(author, "print('for all')")
    writing = opened(author, name)
    writing.get_by_role("button", name="Run all").click()
    state(writing, "c0", "current")
    page = opened(window("user"), name)
    page.get_by_label("Printed").get_by_text("for all").wait_for()
    page.get_by_text("You may read this notebook only.").wait_for()
    assert page.get_by_role("button", name="Run all").is_disabled()
    assert 0 == page.get_by_role("button", name=re.compile("^Delete cell")).count()
    select(page, "c0")
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.keyboard.press("Enter")
    page.keyboard.type("lost")
    assert ["print('for all')"] == sources(author, name)


def hostile_cells() -> list[object]:
    """Return cells that bring code into every place of the page that shows a text of a cell."""
    found: list[object] = [
        {"language": "markdown", "source": f"# {one}\n\n- {one}\n\n> {one}\n\n| {one} |\n|---|\n| {one} |"}
        for one in PAYLOADS
    ]
    found += [
        {"language": "markdown", "source": "[x](javascript:window.ran=1) [y][z] ![p](data:text/html,<script>)\n\n[z]: javascript:window.ran=1"},
        {"language": "markdown", "source": "<javascript:window.ran=1> <div onclick='window.ran=1'>\n\n<script>window.ran=1</script>\n\n```<img>\n<img src=x>\n```\n\n&lt;img src=x onerror=window.ran=1&gt;"},
        {"language": "markdown", "source": ">" * 5_000 + " deep\n\n" + "*" * 3_000 + "a" + "[" * 3_000},
        {"source": f"# {PAYLOADS[0]}\nfor one in {PAYLOADS!r}:\n    print(one)\n    import sys; print(one, file=sys.stderr)"},
        {"source": f"for one in {PAYLOADS!r}:\n    display(one)\n    display(Markdown(one))"},
        {"source": f"raise ValueError({''.join(PAYLOADS)!r})", "name": PAYLOADS[0]},
        {"source": f"import pyarrow as pa\nhostile = pa.table({{one: [one] for one in {PAYLOADS!r}}})\nhostile"},
        {"source": f"class Picture:\n    def _repr_png_(self):\n        return {PAYLOADS[2]!r}.encode()\nPicture()"},
        {"source": f"class Odd:\n    def __repr__(self):\n        return {PAYLOADS[1]!r}\nodd = Odd()\nplain = {list(PAYLOADS)!r}\nodd"},
        {"language": "sql", "source": f"SELECT '{PAYLOADS[0]}' AS \"{PAYLOADS[1]}\" -- {PAYLOADS[3]}"},
        {"source": f"# @unknown {PAYLOADS[0]}\n{PAYLOADS[1]}"},
    ]  # fmt: skip
    return found


def test_hostile_cells_run_nothing(window: Window) -> None:
    """Sources, Markdown, consoles, outputs, values, errors, titles and names with code in them are text.

    Without the policy of the pages, which would hide a fault of theirs.
    """
    context = window("author", bypass_csp=True)
    name = make(context, *hostile_cells(), title=PAYLOADS[0])
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    last = len(hostile_cells()) - 2
    cell(page, f"c{last}").locator(".nb-state .badge", has_text=re.compile("current|failed")).wait_for(
        timeout=RUN_MS
    )
    shown = cell(page, "c14").get_by_role("button", name=re.compile("^hostile "))
    shown.wait_for(timeout=RUN_MS)
    shown.press("Enter")  # not by its place, which changes while outputs above it come
    cell(page, "c14").get_by_role("grid").locator(".cell").first.wait_for()
    for view in ("", "&tab=app", "&tab=history", "&tab=history&before=1&after=2"):
        if view:
            page.goto(f"ui/notebook?name={name}{view}")
            page.get_by_role("tab", name="Cells").wait_for()
        for at in range(0, 40_000, 900):
            page.evaluate(f"() => window.scrollTo(0, {at})")
        page.wait_for_timeout(200)
        # Within the editors, too.
        tags = page.evaluate(
            """() => {
                const bad = "main img, main iframe, main svg, main script, main style, main [onclick], main [onerror], [autofocus], a[href^='javascript:'], a[href^='data:']";
                const inside = [...document.querySelectorAll('.nb-source div')].filter(one => one.shadowRoot)
                    .flatMap(one => [...one.shadowRoot.querySelectorAll('img, iframe, svg, script, [onclick], [onerror]')]);
                return [...document.querySelectorAll(bad), ...inside]
                    .filter(one => !one.closest('.cm-widgetBuffer') && !one.classList.contains('cm-widgetBuffer'))
                    .map(one => one.outerHTML.slice(0, 200));
            }"""
        )
        assert [] == tags, view
        assert page.evaluate("() => window.ran === undefined"), view
    page.goto("ui/notebooks")
    page.get_by_role("link", name=PAYLOADS[0]).wait_for()
    assert 0 == page.locator("main img").count()
    assert page.evaluate("() => window.ran === undefined")


def test_the_policy_of_the_pages_holds_for_notebooks(window: Window) -> None:
    """Nothing that a notebook does is refused by the policy, and nothing is loaded from elsewhere."""
    context = window("author")
    name = make(context, "x = [1, 2]\nx", {"language": "markdown", "source": "# Text"})
    page = context.new_page()
    refused: list[str] = []
    page.on("console", lambda one: refused.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: refused.append(str(error)))
    origins: set[str] = set()
    page.on("request", lambda request: origins.add("/".join(request.url.split("/")[:3])))
    page.goto(f"ui/notebook?name={name}")
    page.locator(".cm-content").first.click()
    page.keyboard.type("im")
    page.locator(".cm-tooltip-autocomplete").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Enter")
    page.get_by_role("tab", name="History").click()
    page.get_by_role("region", name="Difference").wait_for()
    assert [] == refused
    assert 1 == len(origins)


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_no_notebook_page_has_a_barrier_that_axe_finds(window: Window, scheme: str, width: int) -> None:
    """WCAG 2.2 AA as far as axe-core checks it, at three widths, light and dark; nothing scrolls sideways."""
    context = window(
        "author",
        bypass_csp=True,
        color_scheme=scheme,
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
    )
    name = make(
        context,
        "import pyarrow as pa\nt = pa.table({'n': [1, 2], 'name': ['a', 'b']})\nprint('hello')\nt",
        "1 / 0",
        {"language": "markdown", "source": "# Head\n\nText with [a link](https://example.org) and `code`.\n\n1. one\n2. two"},
        {"language": "sql", "source": "SELECT sum(n) AS n FROM t"},
        "m = t.num_rows",
    )  # fmt: skip
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    state(page, "c1", "failed")
    state(page, "c4", "current")
    write(page, "c0", "import pyarrow as pa\nt = pa.table({'n': [1, 2, 3], 'name': ['a', 'b', 'c']})\nt")
    state(page, "c4", "stale")
    found = {}
    for view in ("", "&tab=app", "&tab=history", "list"):
        if view:
            page.goto("ui/notebooks" if view == "list" else f"ui/notebook?name={name}{view}")
            page.locator(".waiting").first.wait_for(state="detached")
            page.locator("table, .nb-out, .nb-change").first.wait_for()
        found |= {(view, key): nodes for key, nodes in barriers(page).items()}
    assert {} == found

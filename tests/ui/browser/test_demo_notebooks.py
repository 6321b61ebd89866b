"""Notebooks on the demo's tables, through its two ports, by its two people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from demo_kit import FLIGHTS, INTERNAL
from page_steps import (
    OFFERS,
    PICTURE,
    RUN_MS,
    Held,
    ask,
    cell,
    make,
    opened,
    pixel,
    saved,
    select,
    show,
    sources,
    state,
    write,
    write_jupyter_file,
)

from strata.demo.notebook import CELLS, TITLE

if TYPE_CHECKING:
    from page_steps import Window

pytestmark = [pytest.mark.slow, pytest.mark.alone]

AIRLINES = 'airlines = strata.fetch("demo:nyc.airlines")'


def test_a_notebook_is_made_of_a_table_and_shared(demo: Window) -> None:
    """demo-user makes it and runs a cell on the demo's table; demo-admin sees who is there, and the result."""
    page = demo("demo-user").new_page()
    show(page, "ui/notebooks")
    page.get_by_role("button", name="New notebook").click()
    page.keyboard.type("Airlines")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Airlines").wait_for()
    page.locator(".cm-content").click()
    page.keyboard.insert_text(f'{AIRLINES}\nprint(airlines.num_rows, "airlines")')
    page.keyboard.press("Shift+Enter")
    page.locator(".nb-cell").first.get_by_label("Printed").get_by_text("16 airlines").wait_for(timeout=RUN_MS)
    saved(page)
    other = opened(demo("demo-admin"), page.url.partition("name=")[2])
    other.get_by_label("Printed").get_by_text("16 airlines").wait_for()
    other.get_by_role("list", name="Who is here").get_by_text("demo-user").wait_for()
    page.get_by_role("list", name="Who is here").get_by_text("demo-admin").wait_for()


def test_a_cell_that_may_not_read_a_table_says_so(demo: Window) -> None:
    """The table that is denied to demo-user is one that does not exist, for cells too."""
    context = demo("demo-user")
    page = opened(context, make(context, f'strata.fetch("{INTERNAL}")', title="Denied"))
    page.get_by_role("button", name="Run all").click()
    error = cell(page, "c0").get_by_role("group", name="Error")
    error.get_by_text(re.compile("not found", re.IGNORECASE)).first.wait_for(timeout=RUN_MS)


def test_the_notebook_of_the_demo_is_run_and_changed(demo: Window) -> None:
    """Run all, then another month: what depends on it is stale, and says why; run again, all is current."""
    context = demo("demo-user")
    page = opened(context, make(context, *CELLS, title=TITLE))
    page.get_by_role("heading", name=TITLE, level=1).first.wait_for()
    page.get_by_role("button", name="Run all").click()
    state(page, "chart", "current")
    bars = cell(page, "chart").get_by_label("Printed").inner_text().splitlines()
    assert 5 == len(bars)
    assert bars == sorted(bars, key=lambda bar: -bar.count("#"))
    write(page, "month", "month = 1")
    page.keyboard.press("Escape")
    for id_ in ("flights", "late", "worst", "chart"):
        state(page, id_, "stale")
    cell(page, "late").get_by_text("Stale: it needs cell 3, which is stale.").wait_for()
    cell(page, "chart").get_by_role("button", name="Run cell 6").click()
    for id_ in ("month", "flights", "late", "worst", "chart"):
        state(page, id_, "current")
    cell(page, "chart").get_by_label("Printed").filter(has_not_text=bars[0]).wait_for()


def test_the_cells_of_the_demo_are_drawn_as_a_graph(demo: Window) -> None:
    """Each box tells what its cell takes, and leads to it."""
    context = demo("demo-admin")
    page = opened(context, make(context, *CELLS), "&tab=graph")
    boxes = page.get_by_role("list", name="Cells and the names that they take").get_by_role("button")
    boxes.nth(4).wait_for()
    labels = boxes.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert "defines late; takes flights of" in labels[2]
    boxes.nth(2).press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'cell-late'")


def test_tables_and_columns_of_the_demo_are_offered(demo: Window) -> None:
    """In Python within quotes, and in SQL; Tab takes the first one. What one may not read is never offered."""
    context = demo("demo-user")
    name = make(context, "", {"language": "sql", "source": "-- @table t demo:nyc.airports\nSELECT "}, "")
    page = opened(context, name)
    offers = page.locator(OFFERS)
    cell(page, "c0").locator(".cm-content").click()
    page.keyboard.type("rows = strata.fetch('demo:nyc.pl")
    offers.get_by_text("demo:nyc.planes").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("', columns=['tail")
    offers.get_by_text("tailnum", exact=True).wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("'])")
    cell(page, "c1").locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("tzo")
    offers.get_by_text("tzone", exact=True).wait_for()
    page.keyboard.press("Tab")
    cell(page, "c2").locator(".cm-content").click()
    with page.expect_response(re.compile("/v1/tables\\?q=delay&")) as answered:
        page.keyboard.type("strata.fetch('demo:internal.delay")
    assert [] == answered.value.json()["tables"]
    saved(page)
    written = sources(context, name)
    assert "rows = strata.fetch('demo:nyc.planes', columns=['tailnum'])" == written[0]
    assert written[1].endswith("SELECT tzone")


def test_tab_waits_for_the_offers_that_are_on_their_way(demo: Window) -> None:
    """Pressed while the list in sight is of another text, it takes from the list that comes."""
    context = demo("demo-user")
    name = make(context, "")
    page = opened(context, name)
    cell(page, "c0").locator(".cm-content").click()
    page.keyboard.type("strata.fetch('demo:nyc.pl")
    page.locator(OFFERS).get_by_text("demo:nyc.planes").wait_for()
    held = Held(page, r"/v1/tables\?")
    # Another text, and the same again: what was offered for it before is not asked for twice, but this is.
    page.keyboard.type("/")
    page.keyboard.press("Backspace")
    held.first()
    page.keyboard.press("Tab")
    held.let_go()
    cell(page, "c0").locator(".cm-content").get_by_text("demo:nyc.planes").wait_for()
    saved(page)
    assert ["strata.fetch('demo:nyc.planes')"] == sources(context, name)


def test_an_error_is_at_its_line_and_the_live_console_is_interrupted(demo: Window) -> None:
    """The line is marked; what a cell prints is there while it runs, until it is interrupted."""
    context = demo("demo-user")
    name = make(
        context,
        f"{AIRLINES}\nname = airlines['nome']\nprint(name)",
        "import time\nprint('has begun')\ntime.sleep(600)",
        "print('never')",
    )
    page = opened(context, name)
    cell(page, "c0").get_by_role("button", name="Run cell 1").click()
    error = cell(page, "c0").get_by_role("group", name="Error")
    error.get_by_text("KeyError").first.wait_for(timeout=RUN_MS)
    assert "name = airlines['nome']" == cell(page, "c0").locator(".cm-marked-error").inner_text()
    error.get_by_role("button", name="line 2").wait_for()
    cell(page, "c1").get_by_role("button", name="Run cell 2").click()
    cell(page, "c1").get_by_role("log").get_by_text("has begun").wait_for(timeout=RUN_MS)
    page.get_by_role("button", name="Interrupt").click()
    error = cell(page, "c1").get_by_role("group", name="Error")
    error.get_by_text("Interrupted", exact=True).wait_for(timeout=RUN_MS)


def test_tables_pictures_and_markdown_are_shown(demo: Window) -> None:
    """A table opens whole in the grid; a picture has its colours; Markdown has its tables and lists."""
    context = demo("demo-user")
    text = {
        "language": "markdown",
        "source": "## Airlines\n\n| code | name |\n|---|---|\n| HA | **Hawaiian** |",
    }
    page = opened(context, make(context, f"{AIRLINES}\nairlines", PICTURE, text))
    page.get_by_role("button", name="Run all").click()
    state(page, "c0", "current")
    cell(page, "c0").get_by_role("region", name="Table").wait_for()
    # What is far from sight is not loaded.
    cell(page, "c1").scroll_into_view_if_needed()
    cell(page, "c1").get_by_role("img").wait_for(timeout=RUN_MS)
    page.wait_for_function("() => document.querySelector('#cell-c1 canvas').width === 8")
    assert [255, 0, 0, 255] == pixel(page, "c1")
    cell(page, "c0").get_by_role("button", name=re.compile("^airlines ")).press("Enter")
    cell(page, "c0").get_by_role("grid").get_by_text("Hawaiian Airlines Inc.").wait_for()
    assert "Hawaiian" == cell(page, "c2").locator("td strong").inner_text()


def test_a_chart_is_kept_and_shown_in_the_app_view(demo: Window) -> None:
    """demo-user draws what SQL has left and keeps it; demo-admin has outputs only, and the same chart."""
    context = demo("demo-user")
    query = f"-- @table f {FLIGHTS}\n-- @name busy\nSELECT origin, count(*) AS n FROM f GROUP BY origin"
    name = make(context, {"language": "sql", "source": query})
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    state(page, "c0", "current")
    cell(page, "c0").get_by_role("button", name=re.compile("^busy ")).press("Enter")
    page.get_by_role("button", name="Chart", exact=True).click()
    page.get_by_label("Up", exact=True).select_option("n")
    page.get_by_role("img", name="Sum of n for each origin").wait_for()
    page.get_by_role("button", name="Keep this chart in the notebook").click()
    saved(page)
    reader = opened(demo("demo-admin"), name, "&tab=app")
    reader.get_by_role("img", name="Sum of n for each origin").wait_for(timeout=RUN_MS)
    assert 0 == reader.get_by_text("GROUP BY").count()


def test_a_file_of_jupyter_is_imported_and_the_notebook_is_downloaded(demo: Window, tmp_path: Path) -> None:
    """What was not kept is told; the notebook comes back as Jupyter's file, as Python and as HTML."""
    file = tmp_path / "airlines.ipynb"
    write_jupyter_file(file, AIRLINES)
    page = demo("demo-user").new_page()
    show(page, "ui/notebooks")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_text("Not everything in the file could be kept").wait_for()
    page.get_by_role("status", name="Import").get_by_role("link", name="airlines").click()
    page.locator(".cm-content").get_by_text(AIRLINES).wait_for()
    page.locator("summary", has_text=re.compile("^More$")).click()
    for word in (".ipynb", "Python", "HTML"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download as {word}").click()
        assert "demo:nyc.airlines" in Path(download.value.path()).read_text()


def test_two_people_edit_one_notebook_and_see_each_other(demo: Window) -> None:
    """Who is at which cell and edits it; both texts are kept; who ran a cell is told to the other."""
    ours, theirs = demo("demo-user"), demo("demo-admin")
    name = make(ours, AIRLINES, "b = 2")
    here, there = opened(ours, name), opened(theirs, name)
    people = here.get_by_role("list", name="Who is here")
    people.get_by_text("demo-admin").wait_for()
    select(there, "c1")
    people.get_by_role("button", name="demo-admin at cell 2").wait_for()
    cell(here, "c1").get_by_text("demo-admin is here").wait_for()
    write(there, "c1", "b = airlines.num_rows")
    cell(here, "c1").get_by_text("demo-admin is editing").wait_for()
    write(here, "c0", f"{AIRLINES}  # all")
    saved(here)
    saved(there)
    assert [f"{AIRLINES}  # all", "b = airlines.num_rows"] == sources(ours, name)
    cell(there, "c0").get_by_text("# all").wait_for()
    there.keyboard.press("Shift+Enter")
    state(here, "c1", "current")
    cell(here, "c1").get_by_text(re.compile("by demo-admin")).wait_for()
    there.close()
    people.get_by_text("demo-admin").wait_for(state="detached")


def test_an_earlier_revision_is_compared_and_gone_back_to(demo: Window) -> None:
    """demo-admin sees what demo-user changed, and takes it back for both."""
    context = demo("demo-user")
    name = make(context, *CELLS)
    edit = {"op": "replace", "id": "month", "source": "month = 7"}
    ask(context, "POST", f"v1/notebooks/{name}/edits", {"revision": 1, "edits": [edit]})
    page = opened(demo("demo-admin"), name, "&tab=history")
    difference = page.get_by_role("region", name="Difference")
    difference.get_by_text("- month = 2").wait_for()
    difference.get_by_text("+ month = 7").wait_for()
    page.get_by_role("button", name=re.compile("^Revision 2 .*demo-user")).wait_for()
    page.get_by_role("button", name=re.compile("^Revision 1 ")).click()
    page.get_by_role("button", name="Go back to revision 1").click()
    page.get_by_role("button", name=re.compile("^Revision 3 .*demo-admin")).wait_for()
    assert "month = 2" == sources(context, name)[1]


def test_a_run_with_parameters_and_a_schedule(demo: Window) -> None:
    """The month of a run is another one than the notebook's; a schedule is made, paused and deleted."""
    context = demo("demo-user", timezone_id="America/New_York")
    month = {**CELLS[1], "metadata": {"tags": ["parameters"]}}
    name = make(context, month, "print('month', month)")
    page = opened(context, name, "&tab=runs")
    page.get_by_label("Parameters of the run, as JSON").fill('{"month": 7}')
    page.keyboard.press("Enter")
    one = page.get_by_role("region", name="One run")
    one.get_by_role("list", name="Cells of the run").get_by_text("month 7").wait_for(timeout=RUN_MS)
    page.get_by_role("button", name="New schedule").click()
    form = page.get_by_role("form", name="New schedule")
    form.get_by_label("Minute, hour, day, month, weekday").fill("30 7 * * mon-fri")
    page.keyboard.press("Enter")
    schedule = page.get_by_role("list", name="Schedules").get_by_role("listitem")
    schedule.get_by_text("in America/New_York").wait_for()
    assert 5 == schedule.get_by_text(re.compile("Next")).inner_text().count("07:30")
    schedule.get_by_role("button", name="Pause: 30 7 * * mon-fri").click()
    schedule.get_by_text("Paused by demo-user.").wait_for()
    schedule.get_by_role("button", name="Delete: 30 7 * * mon-fri").click()
    page.get_by_role("dialog").get_by_label("Type").fill("30 7 * * mon-fri")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No schedule runs this notebook.").wait_for()


def test_cells_are_worked_with_by_keys(demo: Window) -> None:
    """Below, above, move, Markdown, delete and take back, as fingers know them."""
    context = demo("demo-user")
    name = make(context, AIRLINES, "b = 2")
    page = opened(context, name)
    select(page, "c1")
    page.keyboard.press("a")
    page.locator(".nb-cell").nth(2).wait_for()
    page.keyboard.press("Enter")
    page.keyboard.type("# Head")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    page.keyboard.press("Alt+ArrowUp")
    saved(page)
    assert ["# Head", AIRLINES, "b = 2"] == sources(context, name)
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.wait_for_function("() => document.querySelectorAll('.nb-cell').length === 2")
    page.keyboard.press("z")
    page.wait_for_function("() => document.querySelectorAll('.nb-cell').length === 3")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()


def test_a_notebook_for_its_owner_alone_is_for_nobody_else(demo: Window) -> None:
    """demo-admin makes it for nobody else: it is in no list of demo-user, and not at its address."""
    page = demo("demo-admin").new_page()
    show(page, "ui/notebooks")
    page.get_by_role("button", name="New notebook").click()
    page.get_by_label("Title").fill("For me only")
    page.get_by_label("For").select_option("private")
    page.get_by_label("Title").press("Enter")
    page.get_by_role("heading", name="For me only").wait_for()
    other = demo("demo-user").new_page()
    show(other, "ui/notebooks")
    other.get_by_role("button", name="New notebook").wait_for()
    assert 0 == other.get_by_role("link", name="For me only").count()
    show(other, f"ui/notebook?name={page.url.partition('name=')[2]}")
    other.get_by_role("alert").first.wait_for()

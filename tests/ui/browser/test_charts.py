"""Charts of rows, of results and of what cells have left."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hostile_tables import PAYLOADS
from page_steps import RUN_MS, Line, ask, barriers, cell, make, opened, saved, select, show, state, tab_to

if TYPE_CHECKING:
    from page_steps import Window
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

SALES = (
    "import datetime as dt\nimport pyarrow as pa\n"
    "sales = pa.table({'day': [dt.date(2024, 1, 1 + at) for at in range(31)] * 2,\n"
    "    'region': ['north'] * 31 + ['south'] * 31, 'amount': [float(at) for at in range(62)]})"
)


def address(spec: dict[str, str], uri: str = "wh:shop.orders", limit: int = 10_000) -> str:
    """Return the address of a chart of a table's rows."""
    return f"ui/table?uri={uri}&limit={limit}&chart={quote(json.dumps(spec))}"


def numbers(page: Page) -> list[list[str]]:
    """Return the numbers of a chart, which it has as a table."""
    details = page.get_by_text("The numbers as a table")
    details.click()
    rows = page.locator(".numbers tbody tr")
    rows.first.wait_for()
    return rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText))")


def point_at_the_middle(page: Page) -> None:
    """Have a chart tell of what the mouse is at; one that is drawn anew meanwhile is pointed at again."""
    page.locator(".drawn svg").hover(force=True)


def test_rows_are_drawn_and_their_numbers_are_a_table(window: Window) -> None:
    """A button draws the rows in sight; what is chosen is in the address, and the same for another person."""
    page = window().new_page()
    show(page, "ui/table?uri=wh:shop.orders&limit=10000")
    page.get_by_role("button", name="Chart", exact=True).click()
    page.get_by_role("img", name="Rows for each name").wait_for()
    page.get_by_text("The highest 60 of 5,001 different values of name are in it.").wait_for()
    page.get_by_label("Chart", exact=True).locator("visible=true").first.wait_for()
    page.get_by_label("Across").select_option("id")
    page.get_by_label("Chart", exact=True).and_(page.locator("select")).select_option("spread")
    spread = page.get_by_role("img", name="How id spreads")
    spread.wait_for()
    assert "from 158 to 167" in spread.get_attribute("aria-description")
    assert [["0 to 167", "167"], ["167 to 334", "167"]] == numbers(page)[:2]
    other = window("admin").new_page()
    show(other, page.url.partition("/ui/")[2].join(["ui/", ""]))
    other.get_by_role("img", name="How id spreads").wait_for()
    page.get_by_role("button", name="Chart", exact=True).click()
    page.locator(".chart").wait_for(state="detached")


def test_a_chart_of_a_part_says_so(window: Window) -> None:
    """Rows that were not read, and rows without a value, are told with the chart."""
    page = window().new_page()
    show(page, address({"kind": "points", "x": "id", "y": "id"}, limit=1_000))
    page.get_by_text("Of the 1,000 rows below, perhaps not all.").wait_for()
    show(page, address({"kind": "bars", "x": "price", "y": "price", "how": "max"}, "wh:shop.exact"))
    page.get_by_text("1 row without a finite value is not in it.").wait_for()
    show(page, address({"kind": "line", "x": "none"}))
    page.get_by_role("img", name="Rows for each name").wait_for()


def test_charts_of_texts_with_code_run_nothing(window: Window) -> None:
    """Names of columns, values on axes, in legends and in titles of charts are text, with no policy to help."""
    page = window("hostile", bypass_csp=True).new_page()
    for one, other in zip(PAYLOADS[::2], PAYLOADS[1::2], strict=True):
        show(page, address({"kind": "bars", "x": one, "by": other}, "wh:shop.hostile"))
        page.locator(".drawn svg").wait_for()
        point_at_the_middle(page)
        assert 0 == page.locator("img, iframe, body script:not([src]), svg [onload], [autofocus]").count()
        assert page.evaluate("() => window.ran === undefined")


def test_the_policy_of_the_pages_holds_for_charts(window: Window) -> None:
    """A chart needs no inline style and nothing from elsewhere."""
    page = window().new_page()
    refused: list[str] = []
    page.on("console", lambda one: refused.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: refused.append(str(error)))
    show(page, address({"kind": "bars", "x": "id", "y": "id"}))
    for kind, title in (("line", "Sum of id"), ("points", "id against id"), ("spread", "How id spreads")):
        page.get_by_label("Chart", exact=True).and_(page.locator("select")).select_option(kind)
        page.get_by_role("img", name=title).wait_for()
        point_at_the_middle(page)
    assert [] == refused


def test_a_chart_is_kept_with_a_cell_and_shown_in_the_app(window: Window) -> None:
    """Drawn by keyboard alone from a value, kept as a revision, drawn anew for readers when the value changes."""
    context = window("author")
    name = make(context, SALES)
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    state(page, "c0", "current")
    select(page, "c0")
    tab_to(page, cell(page, "c0").get_by_role("button", name=re.compile("^sales ")))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("button", name="Chart", exact=True))
    page.keyboard.press("Enter")
    page.get_by_role("img", name="Rows for each day of day").wait_for()
    page.get_by_label("Up", exact=True).select_option("amount")
    page.get_by_label("Colours", exact=True).select_option("region")
    page.get_by_role("img", name="Sum of amount for each day of day, by region").wait_for()
    tab_to(page, page.get_by_role("button", name="Keep this chart in the notebook"))
    page.keyboard.press("Enter")
    saved(page)
    (kept,) = ask(context, "GET", f"v1/notebooks/{name}")["cells"]
    assert "amount" == kept["metadata"]["charts"]["sales"]["y"]
    # What is kept with the cell is not of its source: its result stays.
    state(page, "c0", "current")
    reader = opened(window("user"), name, "&tab=app")
    chart = reader.get_by_role("img", name="Sum of amount for each day of day, by region")
    chart.wait_for(timeout=RUN_MS)
    reader.get_by_role("list", name="Colours").get_by_text("south").wait_for()
    rows = numbers(reader)
    assert (62, ["2024-01-01", "north", "0"], ["2024-01-31", "south", "61"]) == (len(rows), rows[0], rows[-1])
    page.get_by_role("button", name="Remove the kept chart").click()
    saved(page)
    assert {} == ask(context, "GET", f"v1/notebooks/{name}")["cells"][0]["metadata"]


def test_charts_that_two_people_keep_are_both_kept(window: Window) -> None:
    """What another person keeps with the cell, while this window is cut off, is there beside one's own."""
    context, other = window("author"), window("second")
    line = Line(context)
    name = make(context, SALES)
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    state(page, "c0", "current")
    select(page, "c0")
    cell(page, "c0").get_by_role("button", name=re.compile("^sales ")).press("Enter")
    page.get_by_role("button", name="Chart", exact=True).click()
    page.get_by_role("img", name="Rows for each day of day").wait_for()
    line.cut()
    page.get_by_role("button", name="Keep this chart in the notebook").click()
    page.get_by_text("the server does not answer").wait_for()
    theirs = {"tags": ["seen"], "charts": {"other": {"mark": "bar"}}}
    edit = {"op": "replace", "id": "c0", "metadata": theirs}
    ask(other, "POST", f"v1/notebooks/{name}/edits", {"revision": 1, "edits": [edit]})
    line.mend()
    saved(page)
    (kept,) = ask(other, "GET", f"v1/notebooks/{name}")["cells"]
    assert (["seen"], {"mark": "bar"}) == (kept["metadata"]["tags"], kept["metadata"]["charts"]["other"])
    assert {"sales", "other"} == {*kept["metadata"]["charts"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_chart_has_a_barrier_that_axe_finds(window: Window, scheme: str) -> None:
    """WCAG 2.2 AA as far as axe-core checks it, wide in light and on a phone in dark."""
    size = {"width": 1280, "height": 900} if scheme == "light" else {"width": 390, "height": 800}
    context = window(bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page = context.new_page()
    found = {}
    for kind in ("points", "spread"):
        show(page, address({"kind": kind, "x": "id", "y": "id", "by": "name"}))
        page.locator(".drawn svg").wait_for()
        numbers(page)
        found |= {(kind, key): nodes for key, nodes in barriers(page).items()}
    assert {} == found

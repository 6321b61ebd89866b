"""What depends on what, drawn: cells of a notebook, and what a result was made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hostile_tables import PAYLOADS
from page_steps import ask, barriers, make, opened, settled, show, state, tab_to

if TYPE_CHECKING:
    from page_steps import Window

pytestmark = pytest.mark.slow

LABEL = "Cells and the names that they take"


def test_the_graph_of_a_notebook_leads_to_its_cells(window: Window) -> None:
    """Each box tells what its cell takes and defines, and leads there by keyboard alone; a list says the same."""
    context = window("author")
    name = make(
        context,
        "a = 1\nb = 2",
        {"language": "markdown", "source": "# Head"},
        "c = a + b",
        "# @after c0\nd = c",
    )
    page = opened(context, name)
    page.get_by_role("button", name="Run all").click()
    state(page, "c3", "current")
    page.get_by_role("tab", name="Graph").click()
    boxes = page.get_by_role("list", name=LABEL).get_by_role("button")
    boxes.nth(2).wait_for()
    assert [
        "cell 1, current; defines a, b; takes nothing",
        "cell 3, current; defines c; takes a, b of cell 1",
        "cell 4, current; defines d; takes c of cell 3; after cell 1",
    ] == boxes.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert 3 == page.locator(".graph-line").count()
    assert 1 == page.locator(".graph-line.dashed").count()
    # What depends on another cell is below it.
    tops = [boxes.nth(at).bounding_box()["y"] for at in range(3)]
    assert tops == sorted(tops)
    tab_to(page, boxes.nth(1))
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'cell-c2'")
    assert "tab=" not in page.url
    page.go_back()
    page.get_by_role("button", name="As a list").click()
    page.get_by_role("row", name=re.compile("^cell 4 current d c of cell 3; after cell 1")).wait_for()


def test_the_graph_follows_edits_and_names_with_code_in_them_are_texts(window: Window) -> None:
    """A cell that another member adds is in the graph, and a name with code in it runs nothing."""
    context = window("author", bypass_csp=True)
    name = make(context, "a = 1", {"source": "b = a", "name": PAYLOADS[0]})
    page = opened(context, name, "&tab=graph")
    boxes = page.get_by_role("list", name=LABEL).get_by_role("button")
    boxes.nth(1).wait_for()
    edits = [{"op": "insert", "id": "c2", "after": "c1", "source": "c = b", "name": PAYLOADS[2]}]
    ask(window("second"), "POST", f"v1/notebooks/{name}/edits", {"revision": 1, "edits": edits})
    boxes.nth(2).wait_for()
    assert f"{PAYLOADS[2]} (cell 3)" == boxes.nth(2).locator("strong").inner_text()
    assert 0 == page.locator("main img, main svg [onload]").count()
    assert page.evaluate("() => window.ran === undefined")


def test_the_lineage_of_a_result_is_a_graph_and_a_list(window: Window) -> None:
    """From a result to the table behind it, by keyboard; the list says the same."""
    page = window().new_page()
    show(page, "ui/table?uri=wh:shop.orders&limit=100")
    page.get_by_text("100 rows in").wait_for()
    show(page, "ui/results")
    page.get_by_role("link", name="wh:shop.orders").first.click()
    page.get_by_role("tab", name="Made of, and used by").click()
    graph = page.get_by_role("list", name="What it was made of, and what was made of it")
    graph.get_by_text("this result").wait_for()
    table = graph.get_by_role("link", name=re.compile("^wh:shop.orders")).first
    page.get_by_role("tab", name="Made of, and used by").focus()
    tab_to(page, table)
    page.get_by_role("button", name="As a list").click()
    page.locator(".lineage").get_by_role("link", name="wh:shop.orders").first.wait_for()
    page.get_by_role("button", name="As a list").click()
    tab_to(page, table)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="orders").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_graph_has_a_barrier_that_axe_finds(window: Window, scheme: str) -> None:
    """WCAG 2.2 AA as far as axe-core checks it, wide in light and on a phone in dark."""
    size = {"width": 1280, "height": 900} if scheme == "light" else {"width": 390, "height": 800}
    context = window("author", bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page = opened(context, make(context, "a = 1", *["b = a\na = b"] * 5), "&tab=graph")
    page.locator(".graph-box").first.wait_for()
    found = {"graph": barriers(page)}
    page.get_by_role("button", name="As a list").click()
    settled(page)
    found["list"] = barriers(page)
    assert {"graph": {}, "list": {}} == found

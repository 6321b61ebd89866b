"""Short ways through the pages, as the two people of the demo: one of a team, and an administrator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from page_steps import ask, settled, show, small_targets, tab_to

if TYPE_CHECKING:
    from page_steps import Window

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("who", ["user", "admin"])

ORDERS = "ui/table?uri=wh:shop.orders"


def test_a_table_is_found_and_filtered_and_the_api_is_tried_by_keyboard_alone(window: Window) -> None:
    """From / to three rows, back to all of them, and to an answer of the API: no mouse."""
    page = window().new_page()
    show(page, "")
    tab_to(page, page.get_by_label("Search tables"))
    page.keyboard.type("order")
    page.get_by_role("link", name="exact", exact=True).wait_for(state="detached")
    tab_to(page, page.get_by_role("link", name="orders", exact=True))
    page.keyboard.press("Enter")
    page.get_by_text("1,000 rows in").wait_for()
    tab_to(page, page.get_by_label("Is", exact=True))
    page.keyboard.type(">=")
    page.keyboard.press("Tab")
    page.keyboard.type("4998")
    page.keyboard.press("Enter")
    page.get_by_text(re.compile("^3 rows in")).wait_for()
    tab_to(page, page.get_by_role("button", name="Remove the filter"), 160)
    page.keyboard.press("Enter")
    page.get_by_text("1,000 rows in").wait_for()
    tab_to(page, page.get_by_role("navigation", name="Pages").get_by_role("link", name="API"), 160)
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Search the API"))
    page.keyboard.type("GET /v1/catalogs")
    tab_to(page, page.get_by_role("button", name="Send it as you"))
    page.keyboard.press("Enter")
    page.get_by_label("answer", exact=True).get_by_text('"name": "wh"').wait_for()


@BOTH
def test_what_is_not_found_leads_back_to_what_there_is(window: Window, who: str) -> None:
    """A search without an answer says so, and a namespace's link lists its tables."""
    page = window(who).new_page()
    show(page, "ui/data?q=nothing-like-it")
    page.locator(".empty").wait_for()
    page.get_by_label("Search tables").fill("")
    page.get_by_role("link", name="orders", exact=True).wait_for()
    page.get_by_role("link", name="orders", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("navigation", name="Where this is").get_by_role("link", name="shop").click()
    page.get_by_role("link", name="exact", exact=True).wait_for()


@BOTH
def test_a_schema_tells_types_docs_and_what_may_be_null(window: Window, who: str) -> None:
    """By its address alone."""
    page = window(who).new_page()
    show(page, f"{ORDERS}&tab=schema")
    row = page.get_by_role("row", name=re.compile("^id|id "))
    row.first.get_by_text("Counts up.").wait_for()
    row.first.get_by_text("long").first.wait_for()


def test_an_earlier_version_is_opened_from_the_list_of_them(window: Window) -> None:
    """Snapshots tell what each changed; a tag leads to the rows of its time."""
    page = window().new_page()
    show(page, f"{ORDERS}&tab=snapshots")
    page.get_by_text("+1 rows").or_(page.get_by_text("+1 row")).first.wait_for()
    page.get_by_role("tab", name="Snapshots").focus()
    page.keyboard.press("ArrowRight")
    tab_to(page, page.get_by_role("link", name="opening"))
    page.keyboard.press("Enter")
    page.get_by_text(re.compile("rows in")).wait_for()
    assert "opening" in page.url


def test_rows_in_sight_are_copied_as_code(window: Window) -> None:
    """Filters are in the Python, the SQL and the curl that ask for the same rows."""
    page = window().new_page()
    show(page, f'{ORDERS}&filters=[{{"column":"id","op":">=","value":"4998"}}]')
    page.get_by_text(re.compile("^3 rows in")).wait_for()
    samples = page.get_by_role("region", name="These rows as code")
    for name in ("Python", "SQL", "curl"):
        samples.locator("summary", has_text=re.compile(f"^{name}$")).focus()
        page.keyboard.press("Enter")
        assert "4998" in samples.get_by_label(name, exact=True).inner_text()


def test_columns_are_chosen_by_keyboard(window: Window) -> None:
    """What was left out is not asked for, and the address has the choice."""
    page = window().new_page()
    show(page, ORDERS)
    page.get_by_text(re.compile("rows in")).wait_for()
    page.locator(".picker summary").focus()
    page.keyboard.press("Enter")
    page.get_by_role("checkbox", name="id").focus()
    page.keyboard.press("Space")
    tab_to(page, page.get_by_role("button", name="Show these"))
    page.keyboard.press("Enter")
    page.get_by_text("1 column of 2").wait_for()
    page.get_by_role("grid").get_by_role("columnheader", name=re.compile("^name")).wait_for()
    assert 0 == page.get_by_role("grid").get_by_role("columnheader", name=re.compile("^id")).count()


def test_results_are_filtered_and_tell_how_they_were_made(window: Window) -> None:
    """A filter without results says so and leads back; a result has the request that it answers."""
    context = window("admin")
    body = {
        "inputs": ["wh:shop.orders"],
        "transform": {"executor": "scan@v1", "params": {"limit": 7}},
    }
    ask(context, "POST", "v1/materialize", body)
    page = context.new_page()
    show(page, "ui/results?name=none-begins-so")
    page.get_by_text("No result matches").wait_for()
    page.get_by_role("link", name="Show all results").click()
    page.get_by_role("region", name="Results").get_by_role("link", name="wh:shop.orders").first.click()
    page.get_by_role("tab", name="Details").click()
    page.get_by_label("request", exact=True).get_by_text("scan@v1").wait_for()


@BOTH
def test_me_tells_who_one_is_and_what_one_may(window: Window, who: str) -> None:
    """The principal, the team and the scopes, from the link in the frame."""
    page = window(who).new_page()
    show(page, "ui/data")
    tab_to(page, page.get_by_title("Who you are to this server"))
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=1).wait_for()
    page.get_by_text("ana" if who == "user" else "root", exact=True).first.wait_for()
    page.get_by_text("notebook:read" if who == "user" else "admin:*").first.wait_for()


@BOTH
def test_colours_are_chosen_and_stay(window: Window, who: str) -> None:
    """By keyboard; a reload of the page keeps them."""
    page = window(who).new_page()
    show(page, "ui/me")
    tab_to(page, page.get_by_role("button", name=re.compile("^Colours")))
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Colours: dark. Change").wait_for()
    page.reload()
    page.get_by_role("button", name="Colours: dark. Change").wait_for()
    assert "dark" == page.evaluate("() => document.documentElement.dataset.theme")


PHONE_VIEWS = (
    "ui/data",
    ORDERS,
    f"{ORDERS}&tab=schema",
    f"{ORDERS}&tab=snapshots",
    "ui/notebooks",
    "ui/results",
    "ui/results?tab=names",
    "ui/results?tab=tags&key=stage",
    "ui/results?tab=approvals",
    "ui/console",
    "ui/console?tab=access",
    "ui/console?tab=access&view=draft",
    "ui/console?tab=workers",
    "ui/tenant?id=team",
    "ui/tenant?id=team&tab=builds",
    "ui/tenant?id=team&tab=limits",
    "ui/me",
    "ui/api?q=catalogs",
)

PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def test_the_pages_are_used_on_a_phone(window: Window) -> None:
    """All parts are reached by touch, nothing is wider than the screen, and what one touches is large enough."""
    page = window("admin", **PHONE).new_page()
    show(page, "ui/data")
    for name in ("Notebooks", "Results", "Console", "Me", "API"):
        link = page.get_by_role("navigation", name="Pages").get_by_role("link", name=name)
        link.tap()
        link.and_(page.locator("[aria-current]")).wait_for()
        settled(page)
    faults: dict[str, object] = {}
    for view in PHONE_VIEWS:
        show(page, view)
        measured, small = small_targets(page)
        assert measured >= 8, view  # the frame alone has these
        if small:
            faults[view] = small
        wide = page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if wide > 0:
            faults[f"{view} is too wide"] = wide
    assert {} == faults


def test_a_control_that_is_too_small_is_found(window: Window) -> None:
    """The measure of the test before measures: one button that is made small is named."""
    page = window("admin", **PHONE).new_page()
    show(page, "ui/console?tab=cache")
    assert [] == small_targets(page)[1]
    button = page.get_by_role("button", name="Clear the cache")
    button.evaluate("one => Object.assign(one.style, {minHeight: '0', height: '30px', padding: '0'})")
    [found] = small_targets(page)[1]
    assert "Clear the cache" in found

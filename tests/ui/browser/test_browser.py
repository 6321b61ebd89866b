"""What people do in the pages, with a real browser before the real nginx."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from hostile_tables import PAYLOADS, SECRET
from page_steps import barriers, show

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.slow

Window = Callable[..., "BrowserContext"]

ORDERS = "ui/table?uri=wh:shop.orders"

VIEWS = {
    "data": "ui/data",
    "nothing found": "ui/data?q=nothing",
    "rows": ORDERS,
    "exact rows": "ui/table?uri=wh:shop.exact",
    "schema": f"{ORDERS}&tab=schema",
    "profile": f"{ORDERS}&tab=schema&profile=id",
    "snapshots": f"{ORDERS}&tab=snapshots",
    "refs": f"{ORDERS}&tab=refs",
    "missing table": "ui/table?uri=wh:shop.none",
    "results": "ui/results",
    "console": "ui/console",
    "access": "ui/console?tab=access",
    "what one sees": "ui/console?tab=access&view=sees&principal=ana",
    "draft": "ui/console?tab=access&view=draft",
    "workers": "ui/console?tab=workers",
    "servers": "ui/console?tab=servers",
    "reads": "ui/console?tab=reads",
    "names": "ui/results?tab=names",
    "tags": "ui/results?tab=tags&key=stage",
    "approvals": "ui/results?tab=approvals",
    "name": "ui/name?name=none",
    "builds": "ui/tenant?id=team&tab=builds",
    "streams": "ui/tenant?id=team&tab=streams",
    "limits": "ui/tenant?id=team&tab=limits",
    "cache": "ui/console?tab=cache",
    "audit": "ui/console?tab=audit",
    "tenant": "ui/tenant?id=team",
    "me": "ui/me",
    "api": "ui/api?q=tables/describe",
    "no page": "v1/nothing",
}


def test_a_person_finds_a_table_and_reads_its_rows(window: Window) -> None:
    """From / to a filtered and sorted view, whose address gives the same view to another person."""
    context = window()
    page = context.new_page()
    show(page, "")
    assert page.url.endswith("/ui/data")
    page.get_by_label("Search tables").fill("order")
    page.get_by_role("link", name="orders", exact=True).click()
    grid = page.get_by_role("grid")
    grid.get_by_text("order 0", exact=True).wait_for()
    page.get_by_text("1,000 rows in").wait_for()
    page.get_by_label("Where", exact=True).select_option("id")
    page.get_by_label("Is", exact=True).select_option(">=")
    page.get_by_label("Value (long)").fill("4998")
    page.get_by_role("button", name="Add filter").click()
    grid.get_by_text("late", exact=True).wait_for()
    page.get_by_text(re.compile("^3 rows in")).wait_for()
    page.get_by_label("Version").select_option(label="Tag opening")
    page.get_by_text(re.compile("^2 rows in")).wait_for()
    other = window("admin").new_page()
    show(other, page.url.partition("/ui/")[2].join(["ui/", ""]))
    other.get_by_text(re.compile("^2 rows in")).wait_for()
    page.get_by_role("button", name="Remove the filter").click()
    page.get_by_text("1,000 rows in").wait_for()
    page.go_back()
    page.get_by_text(re.compile("^2 rows in")).wait_for()


def test_values_are_shown_exactly(window: Window) -> None:
    """64-bit integers, decimals, times before 1970 and nested values have all of their digits."""
    page = window(viewport={"width": 2400, "height": 900}).new_page()
    show(page, "ui/table?uri=wh:shop.exact")
    page.locator(".grid .cell").nth(3 * 8 - 1).wait_for()
    # All at once: the grid may be drawn anew between two questions.
    rows = page.evaluate(
        "() => [...document.querySelectorAll('.grid .row')].map("
        "row => [...row.querySelectorAll('.cell')].map(cell => cell.innerText))"
    )
    assert [
        ["9007199254740993", "12345678901234567890.10", "2024-02-29 23:59:59.123456", "2024-02-29 23:59:59.123456Z", "2000-02-29", '["a", null]', '{"x": 1, "y": null}', "00ff"],
        ["-9223372036854775808", "-0.05", "0001-01-01 00:00:00", "1969-12-31 23:59:59.999999Z", "9999-12-31", "[]", '{"x": null, "y": "é"}', ""],
        ["3", *["null"] * 7],
    ] == rows  # fmt: skip


def test_a_column_has_a_profile_on_demand(window: Window) -> None:
    """All rows are counted by the server: nulls, different values, extremes to the last digit, how they spread."""
    page = window().new_page()
    show(page, f"{ORDERS}&tab=schema")
    page.get_by_role("button", name="Profile of id").click()
    profile = page.get_by_role("region", name="Profile of id")
    spread = profile.get_by_role("img")
    spread.wait_for()
    assert "Rows in 24 equal parts from 0 to 5000: 209, 208, " in spread.get_attribute("aria-label")
    facts = dict(
        zip(profile.locator("dt").all_inner_texts(), profile.locator("dd").all_inner_texts(), strict=True)
    )
    assert {
        "Rows": "5,001",
        "Null": "0 (0%)",
        "Different values": "5,001",
        "Smallest": "0",
        "Largest": "5000",
    } == facts
    assert "profile=id" in page.url
    show(page, "ui/table?uri=wh:shop.exact&tab=schema&profile=price")
    page.get_by_role("region", name="Profile of price").get_by_text(
        "12345678901234567890.10"
    ).first.wait_for()
    for name in ("at", "zoned", "day", "tags", "place", "raw"):
        show(page, f"ui/table?uri=wh:shop.exact&tab=schema&profile={name}")
        page.get_by_role("region", name=f"Profile of {name}").get_by_text("1 (33%)").wait_for()
    # Rows and tables that one may not read are in no profile.
    show(page, f"ui/table?uri=wh:board.{SECRET}&tab=schema&profile={SECRET}")
    page.get_by_text("Table not found").first.wait_for()


def test_the_grid_is_used_with_the_keyboard_alone(window: Window) -> None:
    """Tab reaches it; keys move, show a whole value and close it; only what is in sight is in the document."""
    page = window().new_page()
    show(page, f"{ORDERS}&limit=10000")
    page.locator(".cell").first.wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if "grid" == page.evaluate("() => document.activeElement.getAttribute('role')"):
            break
    page.keyboard.press("Control+End")
    page.locator(".row[aria-rowindex='5002'] .cell.active[aria-colindex='3']").wait_for()
    assert page.locator(".grid .row").count() < 60
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="name, row 5001").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.keyboard.press("Home")
    page.locator(".row[aria-rowindex='5002'] .cell.active[aria-colindex='2']").wait_for()
    assert "grid" == page.evaluate("() => document.activeElement.getAttribute('role')")


NEW_ELEMENTS = """async () => {
    const grid = document.querySelector('.grid');
    const known = new Set(grid.querySelectorAll('*'));
    let made = 0;
    const watch = new MutationObserver(changes => {
        for (const { addedNodes } of changes)
            for (const one of addedNodes) if (one instanceof Element && !known.has(one)) made += 1;
    });
    watch.observe(grid, { childList: true, subtree: true });
    const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    for (const top of [90, 200, 3000, 150_000, 149_000, 0, 60_000]) {
        grid.scrollTop = top;
        await frame();
        await frame();
    }
    watch.disconnect();
    return made;
}"""
"""Scrolls the grid by a little and by much; returns how many elements were made for that."""


def test_the_grid_scrolls_with_the_elements_that_it_has(window: Window) -> None:
    """Rows that leave at one end come at the other: none is made anew, and they are in their order."""
    page = window().new_page()
    show(page, f"{ORDERS}&limit=10000")
    page.locator(".cell").first.wait_for()
    page.wait_for_function("() => document.querySelectorAll('.grid .row').length > 10")
    assert 0 == page.evaluate(NEW_ELEMENTS)
    page.locator(".row[aria-rowindex='2002']").get_by_text(re.compile("order (1999|2000)")).wait_for()
    places = page.locator(".grid .row").evaluate_all("all => all.map(one => Number(one.ariaRowIndex))")
    assert list(range(places[0], places[0] + len(places))) == places
    assert places[0] < 2002 < places[-1]


def test_tabs_and_the_way_to_the_content_work_with_the_keyboard(window: Window) -> None:
    """The first Tab offers to skip the frame; arrows move between tabs, and the address follows."""
    page = window().new_page()
    show(page, ORDERS)
    page.keyboard.press("Tab")
    assert "Skip to the content" == page.evaluate("() => document.activeElement.textContent")
    page.get_by_role("tab", name="Rows").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("Counts up.").wait_for()
    assert "tab=schema" in page.url
    page.keyboard.press("ArrowRight")
    page.get_by_text("+5,000 rows").wait_for()
    page.keyboard.press("End")
    page.get_by_role("link", name="opening").wait_for()


def test_the_pages_work_below_a_path_of_the_proxy(window: Window) -> None:
    """Behind a prefix, links, files, the API and error pages are found below it, also on a loaded deep link."""
    context = window("below")
    page = context.new_page()
    bad = []
    page.on("response", lambda answer: bad.append(answer.url) if "/lake/strata/" not in answer.url else None)
    show(page, "")
    page.get_by_role("link", name="orders", exact=True).click()
    page.get_by_role("grid").get_by_text("order 0", exact=True).wait_for()
    page.reload()
    page.get_by_role("grid").get_by_text("order 0", exact=True).wait_for()
    page.goto("v1/artifacts/none/v/1")
    page.get_by_role("link", name="Me").click()
    page.get_by_text("Headers that your proxy has to send").wait_for()
    assert [] == bad


def test_nothing_of_a_denied_table_reaches_the_browser(window: Window) -> None:
    """On no page, in no answer: neither its name nor its columns nor its rows, though one asks for it by name."""
    context = window()
    page = context.new_page()
    heard: list[bytes] = []
    asked: set[str] = set()

    def hear(answer) -> None:
        if answer.status < 300 and SECRET not in answer.request.url:
            heard.append(answer.body())
            asked.add(urlsplit(answer.url).path)

    page.on("requestfinished", lambda request: hear(request.response()))
    for view in ("ui/data", "ui/data?namespace=board", "ui/data?q=board", "ui/results", "ui/me", ORDERS):
        show(page, view)
        assert SECRET not in page.content()
    for view in ("", "&tab=schema", "&tab=snapshots", "&tab=refs"):
        show(page, f"ui/table?uri=wh:board.{SECRET}{view}")
        page.get_by_text("Table not found").first.wait_for()
    assert {"/v1/me", "/v1/tables", "/v1/artifacts", "/v1/tables/describe"} <= asked
    assert [] == [body for body in heard if SECRET.encode() in body]
    root = window("admin").new_page()
    show(root, f"ui/table?uri=wh:board.{SECRET}")
    root.get_by_role("grid").get_by_text(SECRET, exact=True).first.wait_for()


def hostile_views() -> list[str]:
    """Return views whose addresses or answers hold text that would run where it is taken for HTML."""
    found = [f"ui/table?uri=wh:shop.hostile&tab={tab}" for tab in ("rows", "schema", "snapshots", "refs")]
    for at, name in enumerate(("q", "catalog", "namespace")):
        found.append(f"ui/data?{name}={quote(PAYLOADS[at])}")
    for at, name in enumerate(("tab", "ref", "snapshot_id", "sort", "limit")):
        found.append(f"ui/table?uri=wh:shop.hostile&{name}={quote(PAYLOADS[at])}")
    found += [f"ui/table?uri=wh:shop.hostile&tab=schema&profile={quote(one)}" for one in PAYLOADS]
    filters = [{"column": PAYLOADS[at], "op": "=", "value": PAYLOADS[at]} for at in range(len(PAYLOADS))]
    found.append(f"ui/table?uri=wh:shop.hostile&filters={quote(json.dumps(filters))}")
    found.append(f"ui/table?uri=wh:shop.hostile&columns={quote(json.dumps(PAYLOADS[:3]))}")
    unknown = [{"column": PAYLOADS[0] + "none", "op": "=", "value": "1"}]
    found.append(f"ui/table?uri=wh:shop.orders&filters={quote(json.dumps(unknown))}")
    found += [f"ui/table?uri={quote(payload)}" for payload in PAYLOADS[:4]]
    found += [f"ui/result?id={quote(payload)}&version=1" for payload in PAYLOADS[:2]]
    found += [f"ui/api?q={quote(PAYLOADS[2])}", "ui/me", "ui/results", f"ui/tenant?id={quote(PAYLOADS[0])}"]
    found.append(f"ui/console?tab=access&principal={quote(PAYLOADS[6])}&resource={quote(PAYLOADS[2])}")
    return [*found, f"v1/{quote(PAYLOADS[1], safe='')}", f"ui/{quote(PAYLOADS[0], safe='')}"]


def test_hostile_text_runs_nothing(window: Window) -> None:
    """Names, documentation, values, addresses, errors and an identity with code in them are text on all pages.

    Without the policy of the pages, which would hide a fault of theirs.
    """
    views = hostile_views()
    assert len(views) + 3 * len(PAYLOADS) > 30
    context = window("hostile", bypass_csp=True)
    page = context.new_page()
    for view in views:
        show(page, view)
        for tag in (
            "img",
            "iframe",
            "body script:not([src])",
            "main svg",
            "[autofocus]",
            "a[href^='javascript:']",
        ):
            assert 0 == page.locator(tag).count(), (view, tag)
        assert page.evaluate("() => window.ran === undefined"), view


def test_the_policy_of_the_pages_stops_code_by_itself(window: Window) -> None:
    """If a page did take text for HTML, the browser would run none of it: inline code and eval are refused."""
    page = window().new_page()
    show(page, "ui/me")
    tries = """() => {
        const made = document.createElement('button');
        document.body.append(made);
        const refused = [
            () => { made.innerHTML = '<img src=x onerror="window.ran=1">'; },
            () => { made.setAttribute('onclick', 'window.ran=1'); made.click(); },
            () => { document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran=1'})); },
            () => { document.body.append(Object.assign(document.createElement('iframe'), {srcdoc: 'x'})); },
        ].map(one => { try { one(); return false; } catch (error) { return true; } });
        return [refused, window.ran === undefined];
    }"""
    assert [[True] * 4, True] == page.evaluate(tries)


PHONE = ("data", "rows", "schema", "console", "tenant", "me", "api", "no page")
"""Those of the views that are also checked on a phone, in dark."""


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier_that_axe_finds(window: Window, scheme: str) -> None:
    """WCAG 2.2 AA as far as axe-core checks it: each view wide in light, and on a phone in dark."""
    size = {"width": 1280, "height": 900} if scheme == "light" else {"width": 390, "height": 800}
    context = window("admin", bypass_csp=True, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page = context.new_page()
    found = {}
    for name in VIEWS if scheme == "light" else PHONE:
        show(page, VIEWS[name])
        found |= {(name, key): nodes for key, nodes in barriers(page).items()}
    assert {} == found

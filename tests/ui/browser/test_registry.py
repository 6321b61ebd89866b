"""What people do with results: names, aliases, tags, pins, approvals, and why one is kept or stale."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pyarrow as pa
import pytest
from hostile_tables import PAYLOADS, SECRET
from page_steps import ask, barriers, hearing, ran_nothing, result_of, show, tab_to
from pyiceberg.catalog.sql import SqlCatalog

if TYPE_CHECKING:
    from conftest import Site
    from page_steps import Window

pytestmark = pytest.mark.slow

ORDERS = "wh:shop.orders"


def test_a_stale_name_says_which_input_has_changed(window: Window, site: Site) -> None:
    """A table that has new rows makes a name stale: the page says so, and asked for again it is current."""
    catalog = SqlCatalog(
        "strata", uri=f"sqlite:///{site.warehouse}/catalog.db", warehouse=str(site.warehouse)
    )
    rows = pa.table({"id": pa.array([1, 2], pa.int64())})
    table = catalog.create_table("shop.moving", rows.schema)
    table.append(rows)
    context = window("curator", bypass_csp=True)
    result_of(context, "wh:shop.moving", "q3/moving")
    page = context.new_page()
    show(page, "ui/results?tab=names")
    page.get_by_role("link", name="q3/moving").click()
    page.get_by_text("as it is then").or_(page.get_by_text("is as it was then")).wait_for()
    table.append(rows)
    page.reload()
    page.get_by_text("stale", exact=True).wait_for()
    row = page.get_by_role("row", name=re.compile("^wh:shop.moving"))
    before, after = row.locator("code").all_inner_texts()
    assert before != after
    assert {} == barriers(page)
    result_of(context, "wh:shop.moving", "q3/moving")
    page.reload()
    page.get_by_text("current", exact=True).wait_for()


def test_a_protected_alias_takes_a_second_person_by_keyboard(window: Window) -> None:
    """One asks, which alone changes nothing; the same person cannot approve; another one does."""
    asks, decides = window("curator", bypass_csp=True), window("approver", bypass_csp=True)
    result_of(asks, ORDERS, "daily", limit=11)
    page = asks.new_page()
    show(page, "ui/name?name=daily")
    tab_to(page, page.get_by_label("Alias", exact=True))
    page.keyboard.type("production")
    page.keyboard.press("Enter")
    page.get_by_text("production waits for the approval of a second person").wait_for()
    page.get_by_text("None. An alias").wait_for()
    show(page, "ui/results?tab=approvals")
    page.get_by_text("others decide").wait_for()
    assert 0 == page.get_by_role("button", name=re.compile("^Approve")).count()
    assert {} == barriers(page)
    other = decides.new_page()
    show(other, "ui/results")
    other.get_by_role("tab", name="All results").focus()
    other.keyboard.press("End")
    tab_to(other, other.get_by_role("button", name="Approve daily@production"))
    assert {} == barriers(other)
    other.keyboard.press("Enter")
    other.get_by_text("daily@production is changed.").wait_for()
    other.get_by_text("Nothing waits for approval").wait_for()
    show(other, "ui/name?name=daily")
    other.get_by_role("row", name=re.compile("^production")).get_by_text("as the name").wait_for()
    other.get_by_role("list", name="History").get_by_text("fay").first.wait_for()
    # Without the right to write, nothing is offered that would be refused.
    assert 0 == other.get_by_role("button", name="Set the alias").count()
    page.goto("ui/name?name=daily")
    page.get_by_role("button", name="Remove the alias production").click()
    page.get_by_text("production waits for the approval of a second person").wait_for()
    other.goto("ui/results?tab=approvals")
    other.get_by_role("button", name="Reject daily@production").click()
    other.get_by_text("The change of daily@production is rejected.").wait_for()


def test_a_name_of_dots_is_not_taken_for_another_one(window: Window) -> None:
    """A browser would take ``x/../daily`` for ``daily``: the page says that it cannot ask, and asks for nothing."""
    page = window("curator").new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    show(page, "ui/name?name=x/../elsewhere")
    page.get_by_text("A browser cannot ask for the name").first.wait_for()
    assert [] == [one for one in asked if "/v1/" in one and "elsewhere" in one and "audit" not in one]


def test_tags_are_set_found_and_removed_by_keyboard(window: Window) -> None:
    """A result has tags, each is a link to all results that have it."""
    context = window("curator", bypass_csp=True)
    made = result_of(context, ORDERS, "tagged", limit=14)
    page = context.new_page()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}&tab=labels")
    tab_to(page, page.get_by_label("Tag", exact=True))
    page.keyboard.type("stage")
    page.keyboard.press("Tab")
    page.keyboard.type("checked twice")
    page.keyboard.press("Enter")
    page.get_by_text("The tag stage is set.").wait_for()
    assert {} == barriers(page)
    tab_to(page, page.get_by_role("link", name="stage: checked twice"))
    page.keyboard.press("Enter")
    found = page.get_by_role("region", name="Results with this tag")
    found.get_by_role("link", name="tagged", exact=True).wait_for()
    assert {} == barriers(page)
    page.get_by_label("Value (empty: any)").fill("other")
    page.get_by_text("No result has this tag").wait_for()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}&tab=labels")
    tab_to(page, page.get_by_role("button", name="Remove the tag stage"))
    page.keyboard.press("Enter")
    page.get_by_text("This result has no tags.").wait_for()


def test_a_pin_keeps_a_result_for_a_reason(window: Window) -> None:
    """The reason is told to all, and until when it would be kept without; those who may not pin are not asked to."""
    context = window("curator", bypass_csp=True)
    made = result_of(context, ORDERS, limit=15)
    view = f"ui/result?id={made['artifact_id']}&version={made['version']}&tab=kept"
    page = context.new_page()
    show(page, view)
    page.get_by_text("Nothing holds it").wait_for()
    tab_to(page, page.get_by_label("Reason"))
    page.keyboard.type("for the auditors")
    page.keyboard.press("Enter")
    page.get_by_text("It is pinned: for the auditors.").wait_for()
    page.get_by_text("not while it is held").wait_for()
    assert {} == barriers(page)
    reader = window("author").new_page()
    show(reader, view)
    reader.get_by_role("list", name="What holds it").get_by_text("Pinned: for the auditors").wait_for()
    assert 0 == reader.get_by_role("button", name="Pin it").count()
    tab_to(page, page.get_by_role("button", name="Remove the pin for the auditors"))
    page.keyboard.press("Enter")
    page.get_by_text("The pin is removed: for the auditors.").wait_for()
    page.get_by_text("Nothing holds it").wait_for()


def test_hostile_labels_run_nothing(window: Window) -> None:
    """Code in names, aliases, tags and reasons is text on every page that shows it."""
    context = window("curator", bypass_csp=True)
    names = [text for text in PAYLOADS if "/" not in text]
    made = result_of(context, ORDERS, names[0], limit=16)
    path = f"v1/artifacts/{made['artifact_id']}/v/{made['version']}"
    for text in PAYLOADS:
        ask(context, "PUT", f"{path}/tags", {"key": text[:128], "value": text})
        ask(context, "POST", f"{path}/pin", {"reason": text})
    for text in names:
        ask(context, "POST", "v1/names", {"name": text, **made})
        ask(context, "PUT", f"v1/names/{quote(names[0], safe='')}/aliases/{quote(text, safe='')}", made)
    ask(context, "PUT", f"v1/names/{quote(names[0], safe='')}/aliases/production", made)
    page = context.new_page()
    result = f"ui/result?id={made['artifact_id']}&version={made['version']}"
    for view, seen in {
        "ui/results?tab=names": names[0],
        f"ui/name?name={quote(names[0])}": names[0],
        f"ui/results?tab=tags&key={quote(PAYLOADS[1])}": PAYLOADS[1],
        "ui/results?tab=approvals": names[0],
        f"{result}&tab=labels": PAYLOADS[0],
        f"{result}&tab=kept": PAYLOADS[0],
    }.items():
        show(page, view)
        page.get_by_text(seen).first.wait_for()
        ran_nothing(page)


def test_names_of_what_one_may_not_read_reach_no_browser(window: Window) -> None:
    """Results of a denied table: neither name, alias, tag nor what waits for approval is in any answer."""
    owner = window("admin")
    secret = f"{SECRET}-minutes"
    made = result_of(owner, f"wh:board.{SECRET}", secret)
    path = f"v1/artifacts/{made['artifact_id']}/v/{made['version']}"
    context = window("user")
    page = context.new_page()
    heard = hearing(page, SECRET)
    for view in (
        "ui/results",
        "ui/results?tab=names",
        "ui/results?tab=approvals",
        "ui/results?tab=tags&key=level",
    ):
        show(page, view)
    show(page, f"ui/name?name={secret}")
    page.get_by_role("alert").first.wait_for()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}")
    page.get_by_role("alert").first.wait_for()
    assert len(heard) > 8
    assert [] == [body for body in heard if SECRET.encode() in body]
    assert 404 == context.request.get(path).status
    show(owner.new_page(), f"ui/name?name={secret}")

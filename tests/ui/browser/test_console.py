"""What administrators do in the console: tenants, builds, limits, rules, workers, servers and both audits."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hostile_tables import PAYLOADS, SECRET
from page_steps import ask, barriers, hearing, ran_nothing, result_of, show, tab_to
from reading_here import read_here

from strata.tenants.builds import scan_pipeline

if TYPE_CHECKING:
    from page_steps import Window

pytestmark = pytest.mark.slow

ORDERS = "wh:shop.orders"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let row groups be read only when the gate is open."""
    opened, real = threading.Event(), scan_pipeline.read_slice

    def gated(*given):
        assert opened.wait(120)
        return real(*given)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", gated)
    yield opened
    opened.set()


def begun(window: Window, who: str, limit: int) -> str:
    """Begin a build of a result that no other test asks for; returns the build's id."""
    body = {
        "inputs": [ORDERS],
        "transform": {"executor": "scan@v1", "params": {"limit": limit}},
        "mode": "artifact",
    }
    return str(ask(window(who), "POST", "v1/materialize", body)["build_id"])


def test_builds_are_seen_and_ended_by_choice_and_by_filter(window: Window, gate: threading.Event) -> None:
    """With table, rule and state; one chosen by keyboard after a typed word; then those of a principal."""
    first, second = begun(window, "user", 4001), begun(window, "author", 4002)
    page = window("admin", bypass_csp=True).new_page()
    show(page, "ui/tenant?id=team")
    page.get_by_role("tab", name="Builds").click()
    builds = page.get_by_role("region", name="Builds")
    row = builds.get_by_role("row", name=re.compile(f"Choose build {first}"))
    row.get_by_text("wh/shop/orders").wait_for()
    row.get_by_text("building", exact=True).wait_for()
    row.get_by_text("ana", exact=True).wait_for()
    assert {} == barriers(page)
    tab_to(page, builds.get_by_label(f"Choose build {first}"))
    page.keyboard.press("Space")
    page.get_by_role("button", name="End the chosen").focus()
    page.keyboard.press("Enter")
    confirm = page.get_by_role("dialog").get_by_role("button", name="End builds")
    assert confirm.is_disabled()
    page.get_by_label("Type end to confirm").fill("end")
    page.keyboard.press("Enter")
    page.get_by_text("1 build of 1 ended.").wait_for()
    row.wait_for(state="detached")
    builds.get_by_label(f"Choose build {second}").wait_for()
    page.get_by_label("Principal").fill("nobody-like-it")
    page.get_by_text("No build matches").wait_for()
    page.get_by_label("Principal").fill("ben")
    builds.get_by_label(f"Choose build {second}").wait_for()
    page.get_by_role("button", name="End all of this filter").click()
    page.get_by_label("Type end to confirm").fill("end")
    page.keyboard.press("Enter")
    page.get_by_text("1 build of 1 ended.").wait_for()
    record = ask(window("author"), "GET", f"v1/builds/{second}")
    assert ("failed", "stopped") == (record["state"], record["error_code"])
    show(page, "ui/console?tab=audit")
    page.get_by_role("region", name="Audit").get_by_text(re.compile(f'"build_ids":.*{first}')).wait_for()


def test_streams_are_listed_with_their_owners(window: Window, gate: threading.Event) -> None:
    """An unread one is found by its owner; refresh rests while the page is hidden."""
    body = {"inputs": [ORDERS], "transform": {"executor": "scan@v1", "params": {"limit": 4003}}}
    ask(window("author"), "POST", "v1/materialize", body)
    page = window("admin", bypass_csp=True).new_page()
    show(page, "ui/tenant?id=team&tab=streams&principal=ben&state=unread")
    page.get_by_role("region", name="Streams").get_by_role(
        "row", name=re.compile("ben unread")
    ).first.wait_for()
    assert {} == barriers(page)


def test_tenants_are_chosen_and_restarted_together(window: Window) -> None:
    """Only those chosen, after a typed word."""
    result_of(window("user"), ORDERS, limit=21)
    page = window("admin", bypass_csp=True).new_page()
    show(page, "ui/console")
    assert page.get_by_role("button", name="Drain the chosen").is_disabled()
    tab_to(page, page.get_by_label("Choose team"))
    page.keyboard.press("Space")
    assert {} == barriers(page)
    page.get_by_role("button", name="Restart the chosen").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Type restart to confirm").fill("restart")
    page.keyboard.press("Enter")
    page.get_by_text("1 tenant restarted.").wait_for()


def test_a_limit_is_changed_in_its_line_by_keyboard(window: Window) -> None:
    """Each tells what it limits and where it comes from; a wrong value is refused and stays to be mended."""
    page = window("admin", bypass_csp=True).new_page()
    show(page, "ui/tenant?id=team&tab=limits")
    row = page.get_by_role("row", name=re.compile("^interactive_slots "))
    assert "scans" in str(row.get_by_role("rowheader").get_attribute("title"))
    tab_to(page, page.get_by_role("button", name="Change interactive_slots", exact=True), 160)
    page.keyboard.press("Enter")
    field = page.get_by_label("interactive_slots, as JSON; empty: as configured")
    field.fill('"many"')
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    field.fill("9")
    page.keyboard.press("Enter")
    page.get_by_text("interactive_slots is 9.").wait_for()
    row.get_by_text("operator").wait_for()
    assert {} == barriers(page)
    page.get_by_role("button", name="Change interactive_slots", exact=True).click()
    field.fill("")
    page.keyboard.press("Enter")
    page.get_by_text("interactive_slots is that of the configuration again.").wait_for()


def test_what_a_principal_sees_is_told_with_the_rules(window: Window) -> None:
    """The list leads to the whole explanation of each decision."""
    page = window("admin", bypass_csp=True).new_page()
    show(page, "ui/console?tab=access")
    page.get_by_label("Question").select_option("sees")
    tab_to(page, page.get_by_label("Principal"))
    page.keyboard.type("ana")
    page.keyboard.press("Enter")
    seen = page.get_by_role("region", name="What ana sees")
    seen.get_by_role("link", name=ORDERS, exact=True).wait_for()
    assert 0 == seen.get_by_text(SECRET).count()
    assert {} == barriers(page)
    seen.get_by_role("row", name=re.compile(f"^{ORDERS} ")).get_by_role("link").nth(1).click()
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("allowed", exact=True).wait_for()
    show(page, "ui/console?tab=access&view=sees&principal=root")
    page.get_by_role("region", name="What root sees").get_by_role(
        "link", name=f"wh:board.{SECRET}"
    ).wait_for()


def test_a_draft_is_compared_with_the_rules_in_force(window: Window) -> None:
    """Its changes are listed, a fault in it is told, and nothing is loaded."""
    context = window("admin", bypass_csp=True)
    page = context.new_page()
    show(page, "ui/console?tab=access&view=draft")
    field = page.get_by_label(re.compile("^The draft"))
    field.fill('default = "allow"\n\n[[deny]]\nprincipal = "ana"\nresource = "tables/wh/shop/*"\n')
    tab_to(page, page.get_by_role("button", name="Compare with the rules in force"))
    page.keyboard.press("Enter")
    changes = page.get_by_role("region", name="Changes")
    changes.get_by_text("deny ana on tables/wh/shop/*").first.wait_for()
    changes.get_by_text("closed", exact=True).first.wait_for()
    changes.get_by_text("opened", exact=True).first.wait_for()
    assert {} == barriers(page)
    field.fill("[[allow")
    page.get_by_role("button", name="Compare with the rules in force").click()
    page.get_by_text("The draft is not valid TOML").first.wait_for()
    assert {} == barriers(page)
    ask(window("user"), "GET", f"v1/tables/describe?uri={ORDERS}")


def test_workers_and_servers_tell_how_they_are(window: Window) -> None:
    """A worker is drained after its typed name, and takes cells again."""
    page = window("admin", bypass_csp=True).new_page()
    show(page, "ui/console?tab=workers")
    page.get_by_role("heading", name=re.compile("^local")).get_by_text("enabled").wait_for()
    assert {} == barriers(page)
    tab_to(page, page.get_by_role("button", name="Drain local"))
    page.keyboard.press("Enter")
    page.get_by_label("Type local to confirm").fill("local")
    page.keyboard.press("Enter")
    page.get_by_text("local ends its cells and takes no further ones.").wait_for()
    page.get_by_role("button", name="Enable local").click()
    page.get_by_text("local takes cells again.").wait_for()
    page.get_by_role("heading", name=re.compile("^local")).get_by_text("enabled").wait_for()
    show(page, "ui/console?tab=servers")
    page.get_by_text("One server alone").wait_for()
    assert {} == barriers(page)


def test_reads_are_in_the_access_audit(window: Window) -> None:
    """Where the limit is on: who read which table, by which rule; found by the principal."""
    context = window("admin", bypass_csp=True)
    ask(context, "PATCH", "v1/admin/tenants/team/limits", {"access_audit": True})
    result_of(window("author"), ORDERS, limit=22)
    page = context.new_page()
    show(page, "ui/console?tab=reads&principal=ben")
    row = page.get_by_role("region", name="Reads").get_by_role("row", name=re.compile("ben .*wh.shop.orders"))
    # Records are written a moment after the read.
    for _ in range(100):
        with suppress(Exception):
            row.first.wait_for(timeout=2_000)
            break
        page.reload()
    row.first.wait_for()
    assert {} == barriers(page)
    page.get_by_label("Principal").fill("none-like-it")
    page.get_by_text("No read is recorded").wait_for()


def test_nothing_of_another_tenant_or_of_the_console_reaches_who_has_no_scope(window: Window) -> None:
    """Whatever address one opens: no answer of administration but its refusal."""
    page = window("user").new_page()
    answers: list[tuple[str, int]] = []
    page.on("response", lambda answer: answers.append((answer.url, answer.status)))
    heard = hearing(page, SECRET)
    for view in (
        "console?tab=access&view=sees&principal=root",
        "console?tab=workers",
        "console?tab=servers",
        "console?tab=reads",
        "tenant?id=team",
        "tenant?id=team&tab=builds",
        "tenant?id=team&tab=streams",
        "tenant?id=other&tab=limits",
    ):
        show(page, f"ui/{view}")
    assert {403} == {status for url, status in answers if "/v1/admin/" in url}
    assert [] == [body for body in heard if SECRET.encode() in body]


def test_hostile_text_in_the_console_runs_nothing(window: Window) -> None:
    """Code in principals, drafts, filters and limits is text wherever it comes back."""
    page = window("admin", bypass_csp=True).new_page()
    for view in (
        f"ui/console?tab=access&view=sees&principal={quote(PAYLOADS[0])}&who={quote(PAYLOADS[1])}",
        f"ui/console?tab=reads&principal={quote(PAYLOADS[2])}&who={quote(PAYLOADS[3])}",
        f"ui/tenant?id=team&tab=builds&principal={quote(PAYLOADS[5])}&state={quote(PAYLOADS[6])}",
        f"ui/tenant?id=team&tab=streams&principal={quote(PAYLOADS[0])}&after={quote(PAYLOADS[1])}",
        f"ui/tenant?id={quote(PAYLOADS[2])}&tab=limits",
    ):
        show(page, view)
        ran_nothing(page)
    rules = "".join(
        f"[[deny]]\nprincipal = {json.dumps(text)}\nresource = {json.dumps('tables/wh/shop/' + quote(text, safe=''))}\n"
        for text in PAYLOADS
    )
    show(page, "ui/console?tab=access&view=draft")
    for draft in (rules, PAYLOADS[1], f"{PAYLOADS[0]} = 1"):
        page.get_by_label(re.compile("^The draft")).fill(draft)
        page.get_by_role("button", name="Compare with the rules in force").click()
        page.get_by_role("alert").or_(page.get_by_role("region", name="Changes")).first.wait_for()
        ran_nothing(page)
    hostile = window("hostile", bypass_csp=True).new_page()
    show(hostile, "ui/me")
    show(page, "ui/console?tab=audit")
    ran_nothing(page)

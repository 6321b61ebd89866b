"""The console on the demo's team, by its administrator, while demo-user works."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from demo_kit import FLIGHTS, INTERNAL, TEAM
from page_steps import RUN_MS, ask, cell, make, opened, result_of, show, state, to_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from page_steps import Window
    from playwright.sync_api import BrowserContext

pytestmark = [pytest.mark.slow, pytest.mark.alone]

LIMITS = f"v1/admin/tenants/{TEAM}/limits"

LONG = "SELECT sum(a.distance * b.distance) AS sum FROM input0 a, input0 b WHERE a.flight >= {}"
"""SQL that takes minutes: all flights with all flights."""


@pytest.fixture
def admin(demo: Window) -> Iterator[BrowserContext]:
    """Return a window of demo-admin, whose team is live; the limits are those of the configuration afterwards."""
    context = demo("demo-admin")
    ask(context, "GET", "v1/artifacts?limit=1")
    yield context
    ask(context, "PATCH", LIMITS, {"bulk_slots": None, "access_audit": None})


def begun(context: BrowserContext, sql: str) -> str:
    """Begin a result of SQL over the flights; returns the id of its build."""
    transform = {"executor": "duckdb_sql@v1", "params": {"sql": sql}}
    body = {"inputs": [FLIGHTS], "transform": transform, "mode": "artifact"}
    return str(ask(context, "POST", "v1/materialize", body)["build_id"])


def test_the_console_is_for_the_administrator(admin: BrowserContext, demo: Window) -> None:
    """demo-admin sees the team, and the rule that keeps a table from demo-user; demo-user is offered nothing."""
    page = admin.new_page()
    show(page, "ui/data")
    to_part(page, "Console")
    page.get_by_role("link", name=TEAM, exact=True).wait_for()
    page.get_by_role("tab", name="Who may see what").click()
    page.get_by_label("Principal").fill("demo-user")
    page.get_by_label("Resource").fill("tables/demo/internal/delays")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("denied", exact=True).first.wait_for()
    user = demo("demo-user").new_page()
    show(user, "ui/console")
    user.get_by_text("Nothing here is for you").wait_for()
    assert 0 == user.get_by_role("link", name="Console", exact=True).count()


def test_a_build_is_seen_with_its_rule_and_ended(admin: BrowserContext, demo: Window) -> None:
    """Who asked for it, of which table, by which rule; ended after a typed word, which its owner is told."""
    user = demo("demo-user")
    first, second = begun(user, LONG.format(1)), begun(user, LONG.format(2))
    page = admin.new_page()
    show(page, f"ui/tenant?id={TEAM}&tab=builds")
    builds = page.get_by_role("region", name="Builds")
    row = builds.get_by_role("row", name=re.compile(f"Choose build {first}"))
    row.get_by_text("nyc/flights").first.wait_for()
    row.get_by_text("allow demo-user on tables/demo/nyc/*").wait_for()
    builds.get_by_label(f"Choose build {first}").check()
    page.get_by_role("button", name="End the chosen").click()
    page.get_by_label("Type end to confirm").fill("end")
    page.keyboard.press("Enter")
    page.get_by_text("1 build of 1 ended.").wait_for()
    page.get_by_label("Principal").fill("nobody-like-it")
    page.get_by_text("No build matches").wait_for()
    page.get_by_label("Principal").fill("demo-user")
    builds.get_by_label(f"Choose build {second}").wait_for()
    page.get_by_role("button", name="End all of this filter").click()
    page.get_by_label("Type end to confirm").fill("end")
    page.keyboard.press("Enter")
    page.get_by_text("1 build of 1 ended.").wait_for()
    for build in (first, second):
        assert "stopped" == ask(user, "GET", f"v1/builds/{build}")["error_code"]
    page.get_by_role("tab", name="Now").click()
    errors = page.locator("section", has=page.get_by_role("heading", name="Last errors"))
    errors.get_by_text("stopped").first.wait_for()
    show(page, "ui/console?tab=audit")
    page.get_by_role("region", name="Audit").get_by_text(re.compile(f'"build_ids":.*{first}')).wait_for()


def test_who_waits_for_a_slot_is_seen_and_goes_on_when_it_is_free(
    admin: BrowserContext, demo: Window
) -> None:
    """With one slot for large builds, demo-user's rows wait behind a build that takes long, which is ended then."""
    ask(admin, "PATCH", LIMITS, {"bulk_slots": 1})
    user = demo("demo-user")
    first = begun(user, LONG.format(3))
    rows = user.new_page()
    rows.goto(f"ui/table?uri={FLIGHTS}&sort=-distance&columns=" + quote('["carrier","distance"]'))
    page = admin.new_page()
    show(page, f"ui/tenant?id={TEAM}&tab=builds&state=waiting")
    builds = page.get_by_role("region", name="Builds")
    builds.get_by_role("row", name=re.compile("^not begun waiting for .*bulk.* demo-user")).wait_for()
    page.get_by_role("tab", name="Now").click()
    page.get_by_text("1 of 1, 1 waiting").wait_for()
    page.get_by_role("tab", name="Builds").click()
    page.get_by_label("State").select_option("building")
    builds.get_by_label(f"Choose build {first}").check()
    page.get_by_role("button", name="End the chosen").click()
    page.get_by_label("Type end to confirm").fill("end")
    page.keyboard.press("Enter")
    page.get_by_text("1 build of 1 ended.").wait_for()
    rows.get_by_text("1,000 rows in").wait_for()
    rows.get_by_role("grid").get_by_text("4983", exact=True).first.wait_for()


def test_a_stream_that_nobody_reads_is_listed_with_its_owner(admin: BrowserContext, demo: Window) -> None:
    """Found by its state and its principal."""
    params = {"limit": 4321}
    body = {"inputs": [FLIGHTS], "transform": {"executor": "scan@v1", "params": params}}
    asked = ask(demo("demo-user"), "POST", "v1/materialize", body)
    page = admin.new_page()
    show(page, f"ui/tenant?id={TEAM}&tab=streams&principal=demo-user&state=unread")
    streams = page.get_by_role("region", name="Streams")
    streams.get_by_role("row", name=re.compile(f"^{asked['stream_id'][:12]} demo-user unread")).wait_for()
    page.get_by_label("State").select_option("read")
    streams.get_by_text(asked["stream_id"][:12]).wait_for(state="detached")


def test_a_limit_is_changed_in_place_and_is_in_the_audit(admin: BrowserContext) -> None:
    """Its line tells what it limits and where it comes from; it is put back, and the audit has both."""
    page = admin.new_page()
    show(page, "ui/console")
    page.get_by_role("link", name=TEAM, exact=True).click()
    page.get_by_role("tab", name="Limits").click()
    row = page.get_by_role("row", name=re.compile("^bulk_slots "))
    row.get_by_text("default").wait_for()
    field = page.get_by_label("bulk_slots, as JSON; empty: as configured")
    change = page.get_by_role("button", name="Change bulk_slots", exact=True)
    change.click()
    field.fill('"many"')
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    field.fill("7")
    page.keyboard.press("Enter")
    page.get_by_text("bulk_slots is 7.").wait_for()
    row.get_by_text("operator").wait_for()
    change.click()
    field.fill("")
    page.keyboard.press("Enter")
    page.get_by_text("bulk_slots is that of the configuration again.").wait_for()
    row.get_by_text("default").wait_for()
    show(page, "ui/console?tab=audit")
    audit = page.get_by_role("region", name="Audit").get_by_role("row", name=re.compile("demo-admin"))
    audit.filter(has_text=re.compile('"bulk_slots": ?7')).first.wait_for()


def test_the_cache_is_cleared_after_a_typed_name(admin: BrowserContext) -> None:
    """Nothing is cleared by one click; then its size is none."""
    result_of(admin, FLIGHTS, limit=1234)
    page = admin.new_page()
    show(page, "ui/console?tab=cache")
    page.get_by_text("Hit rate").wait_for()
    page.get_by_role("button", name="Clear the cache").click()
    assert page.get_by_role("dialog").get_by_role("button", name="Clear the cache").is_disabled()
    page.get_by_label(f"Type {TEAM} to confirm").fill(TEAM)
    page.keyboard.press("Enter")
    page.get_by_text("The cache is cleared.").wait_for()
    page.get_by_text(re.compile("^0 B of")).wait_for()


def test_what_demo_user_sees_is_told_with_the_rules(admin: BrowserContext) -> None:
    """Five tables by one rule, and not the sixth; of demo-admin all six."""
    page = admin.new_page()
    show(page, "ui/console?tab=access&view=sees&principal=demo-user")
    seen = page.get_by_role("region", name="What demo-user sees").get_by_role("row")
    seen.filter(has_text="demo:nyc.weather").get_by_text("allow demo-user on tables/demo/nyc/*").wait_for()
    assert 6 == seen.count()  # with the heading
    assert 0 == seen.filter(has_text=INTERNAL).count()
    page.get_by_label("Principal").fill("demo-admin")
    page.keyboard.press("Enter")
    all_of_them = page.get_by_role("region", name="What demo-admin sees").get_by_role("row")
    all_of_them.filter(has_text=INTERNAL).wait_for()
    assert 7 == all_of_them.count()


def test_a_draft_of_rules_is_compared_and_not_loaded(admin: BrowserContext, demo: Window) -> None:
    """It would open the denied table to demo-user and close the others: both are told, and nothing is changed."""
    page = admin.new_page()
    show(page, "ui/console?tab=access&view=draft")
    page.get_by_label(re.compile("^The draft")).fill(
        'default = "deny"\n\n[[allow]]\nprincipal = "demo-user"\nresource = "tables/demo/internal/*"\n'
    )
    page.get_by_role("button", name="Compare with the rules in force").click()
    changes = page.get_by_role("region", name="Changes").get_by_role("row", name=re.compile("demo-user"))
    changes.filter(has_text="opened").filter(has_text="internal").first.wait_for()
    changes.filter(has_text="closed").filter(has_text="nyc").first.wait_for()
    user = demo("demo-user")
    ask(user, "GET", f"v1/tables/describe?uri={FLIGHTS}")
    assert 404 == user.request.get(f"v1/tables/describe?uri={INTERNAL}").status


def test_a_drained_worker_takes_no_cells_until_it_is_enabled(admin: BrowserContext, demo: Window) -> None:
    """A cell that is run meanwhile is told so, and runs afterwards. There is one server."""
    user = demo("demo-user")
    notebook = opened(user, make(user, "6 * 7"))
    page = admin.new_page()
    show(page, "ui/console?tab=workers")
    sidecar = page.get_by_role("heading", name=re.compile("^sidecar"))
    sidecar.get_by_text("enabled").wait_for()
    page.get_by_role("button", name="Drain sidecar").click()
    page.get_by_label("Type sidecar to confirm").fill("sidecar")
    page.keyboard.press("Enter")
    try:
        page.get_by_text("sidecar ends its cells and takes no further ones.").wait_for()
        notebook.get_by_role("button", name="Run all").click()
        notebook.get_by_text("takes cells of this tenant now: all are drained or disabled").first.wait_for()
    finally:
        page.get_by_role("button", name="Enable sidecar").click()
        sidecar.get_by_text("enabled").wait_for()
    notebook.get_by_role("button", name="Run all").click()
    state(notebook, "c0", "current")
    cell(notebook, "c0").get_by_label("Output").get_by_text("42").wait_for(timeout=RUN_MS)
    page.get_by_role("tab", name="Servers").click()
    page.get_by_text("One server alone").wait_for()


def test_reads_are_recorded_with_the_rule_where_the_limit_says_so(
    admin: BrowserContext, demo: Window
) -> None:
    """Who read which table; found by the principal."""
    ask(admin, "PATCH", LIMITS, {"access_audit": True})
    result_of(demo("demo-user"), "demo:nyc.planes", limit=77)
    page = admin.new_page()
    show(page, "ui/console?tab=reads&principal=demo-user")
    reads = page.get_by_role("region", name="Reads")
    row = reads.get_by_role("row", name=re.compile("demo-user .*demo.nyc.planes")).first
    # Records are written a moment after the read.
    for _ in range(100):
        with suppress(Exception):
            row.wait_for(timeout=1_000)
            break
        page.reload()
    row.wait_for()


def test_nothing_of_the_console_is_answered_to_demo_user(demo: Window) -> None:
    """Whatever address of it is opened: each request of administration is refused."""
    page = demo("demo-user").new_page()
    answers: list[tuple[str, int]] = []
    page.on("response", lambda answer: answers.append((answer.url, answer.status)))
    for view in (
        "console?tab=access&view=sees&principal=demo-admin",
        "console?tab=workers",
        "console?tab=reads",
        f"tenant?id={TEAM}&tab=builds",
        f"tenant?id={TEAM}&tab=limits",
    ):
        show(page, f"ui/{view}")
    assert {403} == {status for url, status in answers if "/v1/admin/" in url}


def test_the_team_is_restarted_and_says_so(admin: BrowserContext) -> None:
    """What it does now, with what each number means; a restart takes its typed name."""
    page = admin.new_page()
    show(page, f"ui/tenant?id={TEAM}")
    page.get_by_text("running", exact=True).first.wait_for()
    page.get_by_text("0 of 32").wait_for()
    facts = page.locator(".facts > div")
    assert all(facts.evaluate_all("all => all.map(one => one.title)"))
    facts.and_(page.get_by_title("Requests that wait for a slot")).get_by_text(
        "Waiting", exact=True
    ).wait_for()
    page.get_by_role("button", name="Restart").click()
    confirm = page.get_by_role("dialog").get_by_role("button", name="Restart")
    assert confirm.is_disabled()
    page.get_by_label(f"Type {TEAM} to confirm").fill(TEAM)
    confirm.click()
    page.get_by_text("restart: done").wait_for()

"""The demo's stack as people have it: its two ports, its tables, and who one is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from demo_kit import FLIGHTS, INTERNAL, PORTS
from page_steps import ask, hearing, show, small_targets, sql_of, to_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo_kit import Stack
    from page_steps import Window

# The ports are those that the documentation names: one stack at a time has them.
pytestmark = [pytest.mark.slow, pytest.mark.alone]

BOTH = pytest.mark.parametrize("who", PORTS)

HAWAIIAN = f"ui/table?uri={FLIGHTS}&filters=" + quote('[{"column":"carrier","op":"=","value":"HA"}]')
"""The flights of one airline, which are few."""


@pytest.fixture(scope="module")
def carriers(stack: Stack) -> list[str]:
    """Return the carrier of each flight, by pyiceberg."""
    with stack.data.catalog() as catalog:
        table = catalog.load_table("nyc.flights").scan(selected_fields=("carrier",)).to_arrow()
    return [str(one) for one in table["carrier"].to_pylist()]


@BOTH
def test_a_table_is_found_and_its_rows_are_seen(demo: Window, who: str) -> None:
    """From / by a search: of five tables the one, and a thousand of its rows."""
    page = demo(who).new_page()
    show(page, "")
    page.get_by_role("link", name="airports", exact=True).wait_for()
    page.get_by_label("Search tables").fill("flig")
    page.get_by_role("link", name="airports", exact=True).wait_for(state="detached")
    page.get_by_role("link", name="flights", exact=True).click()
    page.get_by_text("1,000 rows in").wait_for()
    page.get_by_role("grid").get_by_role("columnheader", name=re.compile("^carrier")).first.wait_for()


@BOTH
def test_a_namespace_lists_the_tables_that_one_may_read(demo: Window, who: str) -> None:
    """Each table is under its namespace; the one that is for administrators is no heading for others."""
    page = demo(who).new_page()
    show(page, "ui/data")
    page.get_by_role("region", name="demo / nyc").get_by_text("5 tables").wait_for()
    internal = page.get_by_role("region", name="demo / internal")
    assert (who == "demo-admin") == (internal.count() == 1)
    with page.expect_response(re.compile(r"/v1/tables\?.*namespace=nyc")):
        page.get_by_role("region", name="demo / nyc").get_by_role("link", name="nyc", exact=True).click()
    page.get_by_text("Namespace nyc").wait_for()
    internal.wait_for(state="detached")
    page.get_by_role("region", name="demo / nyc").get_by_text("5 tables").wait_for()
    assert ["airlines", "airports", "flights", "planes", "weather"] == page.locator(
        ".tables .name"
    ).all_inner_texts()


@BOTH
def test_rows_are_filtered_and_sorted_by_the_server(demo: Window, carriers: list[str], who: str) -> None:
    """All flights of one airline, as many as pyiceberg counts; and the airlines from the last one."""
    page = demo(who).new_page()
    show(page, f"ui/table?uri={FLIGHTS}")
    page.get_by_label("Where", exact=True).select_option("carrier")
    page.get_by_label("Value (string)").fill("HA")
    page.get_by_role("button", name="Add filter").click()
    page.get_by_text(re.compile(f"^{carriers.count('HA'):,} rows in")).wait_for()
    show(page, "ui/table?uri=demo:nyc.airlines")
    title = page.get_by_role("columnheader", name=re.compile("^carrier"))
    title.get_by_role("button").click()
    title.and_(page.locator("[aria-sort=ascending]")).wait_for()
    title.get_by_role("button").click()
    title.and_(page.locator("[aria-sort=descending]")).wait_for()
    page.locator(".row[aria-rowindex='2']").get_by_text(max(carriers), exact=True).wait_for()


def test_a_schema_tells_ids_types_and_partitioning(demo: Window) -> None:
    """A column that was added, one that was widened, one that was renamed, and how the files are divided."""
    page = demo("demo-user").new_page()
    show(page, f"ui/table?uri={FLIGHTS}&tab=schema")
    columns = page.get_by_role("region", name="Columns").get_by_role("row")
    columns.nth(20).wait_for()
    rows = {one.split("\t")[1]: one.split("\t")[:4] for one in columns.all_inner_texts()[1:]}
    assert {
        "distance": ["16", "distance", "long", "may be null"],
        "time_hour": ["19", "time_hour", "timestamptz", "may be null"],
        "carrier_name": ["20", "carrier_name", "string", "may be null"],
    } == {name: rows[name] for name in ("distance", "time_hour", "carrier_name")}
    page.get_by_text("month of time_hour").wait_for()
    show(page, "ui/table?uri=demo:nyc.weather&tab=schema")
    page.get_by_text("identity of origin").wait_for()
    page.get_by_role("rowheader", name="visibility", exact=True).wait_for()
    assert 0 == page.get_by_role("rowheader", name="visib", exact=True).count()


def test_a_column_has_a_profile_of_all_rows(demo: Window, carriers: list[str]) -> None:
    """The executor beside the server counts them: the most frequent airline with its flights."""
    page = demo("demo-user").new_page()
    show(page, f"ui/table?uri={FLIGHTS}&tab=schema")
    page.get_by_role("button", name="Profile of carrier", exact=True).click()
    profile = page.get_by_role("region", name="Profile of carrier", exact=True)
    profile.get_by_role("row").nth(1).wait_for()
    facts = dict(
        zip(profile.locator("dt").all_inner_texts(), profile.locator("dd").all_inner_texts(), strict=True)
    )
    assert {
        "Rows": f"{len(carriers):,}",
        "Null": "0 (0%)",
        "Different values": str(len(set(carriers))),
        "Smallest": min(carriers),
        "Largest": max(carriers),
    } == facts
    [(most, flights)] = Counter(carriers).most_common(1)
    first = profile.get_by_role("row").nth(1)
    first.get_by_text(most, exact=True).wait_for()
    first.get_by_text(f"{flights:,}", exact=True).wait_for()


def test_snapshots_tell_what_each_changed(demo: Window, stack: Stack) -> None:
    """Four quarters that came, and flights that were deleted by position; each leads to the rows of its time."""
    with stack.data.catalog() as catalog:
        summaries = [one.summary for one in catalog.load_table("nyc.flights").metadata.snapshots]
    added = [f"+{int(one['added-records']):,} rows" for one in summaries if one and one["added-records"]]
    page = demo("demo-user").new_page()
    show(page, f"ui/table?uri={FLIGHTS}&tab=snapshots")
    rows = page.get_by_role("region", name="Snapshots").get_by_role("row")
    rows.nth(len(summaries)).wait_for()
    changes = [one.split("\t")[2] for one in rows.all_inner_texts()[1:]]
    assert 4 == len(added)
    assert added == [re.match(r"\+[\d,]+ rows", one)[0] for one in reversed(changes[-4:])]
    assert re.search(r"[\d,]+ rows, by delete files", changes[0])
    rows.last.get_by_role("link").click()
    page.get_by_text("1,000 rows in").wait_for()
    assert "snapshot_id=" in page.url


def test_versions_of_a_table_are_seen(demo: Window) -> None:
    """The tag after the second quarter leads to the rows of its time: there is no flight of July."""
    page = demo("demo-user").new_page()
    show(page, f"ui/table?uri={FLIGHTS}&tab=refs")
    page.get_by_role("link", name="first-half").click()
    page.get_by_text("1,000 rows in").wait_for()
    page.get_by_label("Where", exact=True).select_option("month")
    page.get_by_label("Is", exact=True).select_option(">")
    page.get_by_label(re.compile("^Value")).fill("6")
    page.get_by_role("button", name="Add filter").click()
    page.get_by_text("No row matches the filters").wait_for()
    page.get_by_label("Version").select_option(index=0)
    page.get_by_text("1,000 rows in").wait_for()


def test_values_are_shown_to_their_last_digit(demo: Window) -> None:
    """Lists, records, decimals and times of a result of SQL; missing values are told from empty ones."""
    context = demo("demo-user")
    sql = """
        SELECT carrier, list(DISTINCT month ORDER BY month)[:2] AS months,
            {'first': min(time_hour), 'none': NULL} AS span, sum(distance)::DECIMAL(38, 2) AS miles,
            min(time_hour) + INTERVAL 1 MICROSECOND AS at, NULL AS missing, '' AS empty
        FROM input0 WHERE carrier = 'HA' GROUP BY carrier
    """
    made = sql_of(context, sql, FLIGHTS)
    page = context.new_page()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}")
    page.get_by_role("grid").locator(".cell").first.wait_for()
    cells = page.locator(".grid .row .cell").all_inner_texts()
    assert cells == [
        "HA", "[1, 2]", '{"first": "2013-01-01 14:00:00Z", "none": null}', "1704186.00",
        "2013-01-01 14:00:00.000001Z", "null", "",
    ]  # fmt: skip


def test_code_that_is_copied_reads_the_rows_in_sight(demo: Window, carriers: list[str]) -> None:
    """Python, SQL and curl, each for the other's rows: all three answer with the flights of one airline."""
    context = demo("demo-user", permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    show(page, f"{HAWAIIAN}&limit=10000")
    flights = carriers.count("HA")
    page.get_by_text(re.compile(f"^{flights:,} rows in")).wait_for()
    samples = page.get_by_role("region", name="These rows as code")
    code = {}
    for name in ("Python", "SQL", "curl"):
        one = samples.locator("details", has=page.get_by_label(name, exact=True))
        one.locator("summary").click()
        one.get_by_role("button", name=re.compile("^Cop")).click()
        code[name] = page.evaluate("() => navigator.clipboard.readText()")
    found = subprocess.run(
        [sys.executable, "-c", code["Python"]], capture_output=True, text=True, timeout=60, check=False
    )
    assert str(flights) == found.stdout.strip(), found.stderr
    answer = context.request.post(
        "v1/materialize",
        data=re.search(r"-d '(.*)'", code["curl"], re.DOTALL)[1],
        headers={"Content-Type": "application/json"},
    )
    assert answer.ok, answer.text()
    made = sql_of(context, f"SELECT count(*) AS n FROM ({code['SQL'].rstrip(';')})", FLIGHTS)
    rows = context.request.get(f"v1/artifacts/{made['artifact_id']}/v/{made['version']}/data?format=csv")
    assert str(flights) == rows.text().split()[-1]


def test_rows_in_sight_are_drawn(demo: Window, carriers: list[str]) -> None:
    """What is chosen is in the address; the numbers of the chart are those of the table."""
    page = demo("demo-user").new_page()
    show(page, f"{HAWAIIAN}&limit=10000")
    page.get_by_role("button", name="Chart", exact=True).click()
    page.get_by_label("Across").select_option("dest")
    page.get_by_role("img", name="Rows for each dest").wait_for()
    page.get_by_text("The numbers as a table").click()
    page.locator(".numbers tbody tr").first.wait_for()
    assert [f"HNL\t{carriers.count('HA')}"] == page.locator(".numbers tbody tr").all_inner_texts()
    other = demo("demo-admin").new_page()
    show(other, page.url.partition("/ui/")[2].join(["ui/", ""]))
    other.get_by_role("img", name="Rows for each dest").wait_for()


def test_a_row_far_down_is_reached_by_keyboard(demo: Window) -> None:
    """Keys lead to the last of ten thousand rows, and open its whole value; the page has only what is in sight."""
    page = demo("demo-user").new_page()
    show(page, "ui/table?uri=demo:nyc.weather&limit=10000")
    grid = page.get_by_role("grid")
    grid.locator(".cell").first.wait_for()
    grid.focus()
    page.keyboard.press("Control+End")
    page.locator(".row[aria-rowindex='10001'] .cell.active").wait_for()
    assert grid.locator(".row").count() < 60
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="time_hour, row 10000").get_by_text("2013").first.wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_a_denied_table_is_there_for_the_administrator_alone(demo: Window) -> None:
    """In the list, and by its address."""
    page, user = demo("demo-admin").new_page(), demo("demo-user").new_page()
    for one in (page, user):
        show(one, "ui/data")
        one.get_by_role("link", name="flights", exact=True).wait_for()
    page.get_by_role("link", name="delays", exact=True).click()
    page.get_by_text(re.compile(r"^[\d,]+ rows in")).wait_for()
    assert 0 == user.get_by_role("link", name="delays", exact=True).count()
    show(user, f"ui/table?uri={INTERNAL}")
    user.get_by_text("Table not found").first.wait_for()


def test_nothing_of_the_denied_table_reaches_the_browser_of_demo_user(demo: Window) -> None:
    """In no answer that its browser has received is the table's name, whatever page is opened."""
    page = demo("demo-user").new_page()
    heard = hearing(page, "internal")
    for view in ("ui/data", "ui/results", "ui/notebooks", "ui/me", f"ui/table?uri={INTERNAL}", "ui/console"):
        show(page, view)
    assert len(heard) > 10
    assert [] == [body for body in heard if b"internal.delays" in body or b"internal/delays" in body]


@BOTH
def test_each_port_tells_who_one_is(demo: Window, who: str) -> None:
    """The identity that the port injects, with its scopes."""
    page = demo(who).new_page()
    show(page, "ui/data")
    to_part(page, "Me")
    page.get_by_text(who, exact=True).first.wait_for()
    page.get_by_text("demo-team", exact=True).first.wait_for()
    scope, other = ("notebook:execute", "admin:*") if who == "demo-user" else ("admin:*", "notebook:execute")
    page.get_by_text(scope, exact=True).first.wait_for()
    assert 0 == page.locator(".badge").get_by_text(other, exact=True).count()


@BOTH
def test_each_is_told_what_would_be_refused_and_what_limits_hold(demo: Window, who: str) -> None:
    """The scope that is missing, the limits beside what is used of them, and a report for the administrator."""
    context = demo(who)
    ask(context, "GET", "v1/artifacts?limit=1")
    page = context.new_page()
    show(page, "ui/me")
    report = page.get_by_label("report", exact=True).inner_text()
    refused = page.locator(".checks .no").all_inner_texts()
    assert (who == "demo-user") == any("needs the scope admin:tenants" in one for one in refused)
    page.get_by_text("0 of 32").wait_for()
    limits = page.get_by_role("region", name="Limits")
    limits.get_by_role("row", name=re.compile("^interactive_slots 32 default")).wait_for()
    assert f"principal: {who}" in report
    assert (who == "demo-user") == ("This needs the scope admin:limits." in report)


@BOTH
def test_the_api_is_read_and_tried(demo: Window, who: str) -> None:
    """The request is sent as the port's caller."""
    page = demo(who).new_page()
    show(page, "ui/data")
    to_part(page, "API")
    page.get_by_label("Search the API").fill("GET /v1/me")
    page.get_by_role("button", name="Send it as you").first.click()
    page.get_by_label("answer", exact=True).get_by_text(f'"principal": "{who}"').wait_for()


def test_a_route_is_read_and_tried_on_a_phone(demo: Window) -> None:
    """What may change something is sent after a tick only; nothing is too small to be touched, or too wide."""
    page = demo(
        "demo-user", viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    ).new_page()
    show(page, "ui/api?q=POST+/v1/notebooks")
    route = page.locator("details.route", has_text=re.compile("^POST /v1/notebooks[^/]")).first
    route.locator("summary").first.tap()
    route.get_by_role("heading", name="Body").wait_for()
    send = route.get_by_role("button", name="Send it as you")
    assert send.is_disabled()
    route.get_by_label("Body").fill('{"title": 1}')
    route.get_by_label("This may change something").tap()
    send.tap()
    route.get_by_role("alert").get_by_text("title").first.wait_for()
    assert [] == small_targets(page)[1]
    assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@BOTH
def test_a_refusal_is_a_page_with_a_way_out(demo: Window, who: str) -> None:
    """What is not there for both, and what is not for demo-user: with the request's id, and a link to what there is."""
    page = demo(who).new_page()
    wrong = {"v1/tables/describe?uri=demo:nyc.none": 404, "nowhere/at/all": 404}
    if who == "demo-user":
        wrong |= {"v1/admin/tenants": 403, f"v1/tables/describe?uri={INTERNAL}": 404}
    for path, status in wrong.items():
        answer = page.goto(path)
        assert answer is not None
        assert status == answer.status, path
        page.get_by_text(answer.headers["x-request-id"]).wait_for()
    page.get_by_role("link", name="Me").click()
    page.get_by_role("heading", name="Me", exact=True).wait_for()


def test_a_server_that_is_down_is_a_page_until_it_is_back(demo: Window, stack: Stack) -> None:
    """nginx's own page: what is wrong, the request's id, and the way out, which works when the server is back."""
    page = demo("demo-user").new_page()
    show(page, "ui/me")

    def answered(status: int) -> Callable[[], bool]:
        def asked() -> bool:
            with suppress(httpx.TransportError):  # nginx closes connections when it takes a configuration
                return status == httpx.get(f"http://localhost:{PORTS['demo-user']}/v1/me").status_code
            return False

        return asked

    stack.configure(
        ("strata_http.conf", "server 127.0.0.1:8765;", "server 127.0.0.1:1;"), until=answered(503)
    )
    try:
        # The browser may keep a connection to the nginx of before, here and below.
        answers = (page.goto("ui/me") for _ in range(100))
        answer = next(one for one in answers if one is not None and one.status == 503)
        page.get_by_role("heading", name="Strata does not answer.").wait_for()
        page.get_by_text(answer.headers["x-request-id"]).wait_for()
    finally:
        stack.configure(
            ("strata_http.conf", "server 127.0.0.1:1;", "server 127.0.0.1:8765;"), until=answered(200)
        )
    for _ in range(100):
        with page.expect_navigation() as again:
            page.get_by_role("link", name="Try again").click()
        if again.value.status == 200:
            break
    page.get_by_role("heading", name="Me", exact=True).wait_for()


def test_who_goes_past_the_proxy_is_told_what_is_missing(demo: Window) -> None:
    """The server's own port takes nobody's word: its page says what a proxy has to send."""
    page = demo("demo-user").new_page()
    answer = page.goto("http://127.0.0.1:8765/ui/me")
    assert answer is not None
    assert 401 == answer.status
    page.get_by_role("heading", name="Missing or invalid proxy token").wait_for()
    page.get_by_text(answer.headers["x-request-id"]).wait_for()
    page.get_by_text("open this server under the proxy's address").wait_for()

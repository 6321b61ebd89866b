"""What is done with results of the demo's tables: names, tags, approvals, lineage, and why one is kept."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pyarrow as pa
import pytest
from demo_kit import FLIGHTS, PORTS, TEAM
from page_steps import ask, result_of, show, sql_of
from pyarrow import csv, ipc, parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo_kit import Stack
    from page_steps import Window

pytestmark = [pytest.mark.slow, pytest.mark.alone]

BOTH = pytest.mark.parametrize("who", PORTS)

LIMITS = f"v1/admin/tenants/{TEAM}/limits"


CONFIG, PROXY = "service-mode/pyproject.toml", "service-mode/nginx.conf"

PERMITTED = (
    (CONFIG, "[tool.strata.warehouses]", "service_writes_enabled = true\n\n[tool.strata.warehouses]"),
    (PROXY, 'execute";', 'execute artifacts:write";'),
    (PROXY, '"admin:* notebook:*";', '"admin:* notebook:* artifacts:write";'),
)
"""What is to be edited so that both people may write results."""


@pytest.fixture
def writers(stack: Stack) -> Iterator[None]:
    """Have both people write results: the configuration is edited and read again, as the documentation says."""

    def writing() -> set[bool]:
        found = [httpx.get(f"http://localhost:{port}/v1/me").json()["checks"] for port in PORTS.values()]
        return {one["allowed"] for checks in found for one in checks if one["what"] == "direct writes"}

    stack.configure(*PERMITTED, until=lambda: writing() == {True})
    yield
    undone = [(path, new, old) for path, old, new in PERMITTED]
    stack.configure(*undone, until=lambda: writing() == {False})


@BOTH
def test_a_result_leads_to_the_table_that_it_was_made_of(demo: Window, who: str) -> None:
    """From the list of results to its lineage, and to a file."""
    context = demo(who)
    made = result_of(context, "demo:nyc.planes", limit=50 + len(who))
    page = context.new_page()
    show(page, "ui/results")
    link = page.get_by_role("region", name="Results").get_by_role("link", name="demo:nyc.planes").first
    link.wait_for()
    assert made["artifact_id"] in str(link.get_attribute("href"))
    link.click()
    page.get_by_role("tab", name="Made of, and used by").click()
    page.locator(".graph").get_by_role("link", name=re.compile("^demo:nyc.planes")).first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert 51 + len(who) == len(Path(download.value.path()).read_text().splitlines())


def test_a_result_is_downloaded_in_each_format(demo: Window) -> None:
    """Arrow, Parquet and CSV have the same rows; none is shown in the page's place."""
    context = demo("demo-user")
    made = result_of(context, "demo:nyc.airlines")
    page = context.new_page()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}")
    read = {
        "Arrow": lambda file: ipc.open_stream(file).read_all(),
        "Parquet": parquet.read_table,
        "CSV": csv.read_csv,
    }
    found: list[pa.Table] = []
    for word, reader in read.items():
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download as {word}").click()
        table = reader(io.BytesIO(Path(download.value.path()).read_bytes()))
        found.append(table.to_pydict())
    assert 16 == len(found[0]["carrier"])
    assert found[0] == found[1] == found[2]


def test_the_lineage_of_a_result_of_results_is_a_graph(demo: Window) -> None:
    """Table, result, and SQL over the result: each leads to the next, and tells what was made of it."""
    context = demo("demo-user")
    base = sql_of(context, "SELECT origin, count(*) AS n FROM input0 GROUP BY origin", FLIGHTS)
    uri = f"strata://artifact/{base['artifact_id']}@v={base['version']}"
    made = sql_of(context, "SELECT sum(n) AS n FROM input0", uri)
    page = context.new_page()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}&tab=origin")
    graph = page.get_by_role("list", name="What it was made of, and what was made of it")
    graph.get_by_role("link", name=re.compile(f"^{FLIGHTS}")).wait_for()
    graph.get_by_role("link", name=re.compile("duckdb_sql@v1, made of")).first.click()
    page.get_by_role("tab", name="Made of, and used by").click()
    page.get_by_role("button", name="As a list").click()
    used = page.locator(".columns section", has=page.get_by_role("heading", name="Used by"))
    used.get_by_role("link").first.click()
    page.get_by_role("tab", name="Details").click()
    page.get_by_label("inputs", exact=True).get_by_text(base["artifact_id"]).wait_for()
    page.get_by_label("request", exact=True).get_by_text("SELECT sum(n) AS n FROM input0").wait_for()


def test_a_name_says_that_it_is_stale_and_why(demo: Window, stack: Stack) -> None:
    """A table that has new rows makes the name of a result stale; asked for again it is current."""
    rows = pa.table({"n": pa.array([1, 2], pa.int64())})
    context = demo("demo-admin")
    with stack.data.catalog() as catalog:
        catalog.create_namespace_if_not_exists("scratch")
        table = catalog.create_table("scratch.moving", rows.schema)
        try:
            table.append(rows)
            result_of(context, "demo:scratch.moving", "demo/moving")
            page = context.new_page()
            show(page, "ui/results?tab=names")
            page.get_by_role("link", name="demo/moving").click()
            page.get_by_text("is as it was then").wait_for()
            table.append(rows)
            page.reload()
            page.get_by_text("stale", exact=True).wait_for()
            row = page.get_by_role("row", name=re.compile("^demo:scratch.moving"))
            before, after = row.locator("code").all_inner_texts()
            assert before != after
            result_of(context, "demo:scratch.moving", "demo/moving")
            page.reload()
            page.get_by_text("current", exact=True).wait_for()
        finally:
            catalog.drop_table("scratch.moving")
            catalog.drop_namespace("scratch")


def test_who_may_not_write_is_offered_no_change(demo: Window) -> None:
    """As the demo is shipped: a result of demo-user has its name, which keeps it, and no button that would be refused."""
    context = demo("demo-user")
    made = result_of(context, "demo:nyc.airports", "demo/kept", limit=12)
    page = context.new_page()
    show(page, f"ui/result?id={made['artifact_id']}&version={made['version']}&tab=kept")
    page.get_by_role("list", name="What holds it").get_by_role("link", name="demo/kept").click()
    page.get_by_role("heading", name="demo/kept", level=1).wait_for()
    page.get_by_role("list", name="History").get_by_text("demo-user").first.wait_for()
    assert (
        0
        == page.get_by_role("button", name=re.compile("Set the alias|Move the name|Remove the name")).count()
    )


@pytest.mark.usefixtures("writers")
def test_a_protected_alias_takes_a_second_person(demo: Window) -> None:
    """demo-user asks, which alone changes nothing; demo-admin approves; both see the alias, and who did what."""
    user, admin = demo("demo-user"), demo("demo-admin")
    ask(admin, "PATCH", LIMITS, {"registry_protected_aliases": "production"})
    try:
        result_of(user, "demo:nyc.airlines", "demo/daily", limit=11)
        page = user.new_page()
        show(page, "ui/name?name=demo/daily")
        page.get_by_label("Alias", exact=True).fill("production")
        page.keyboard.press("Enter")
        page.get_by_text("production waits for the approval of a second person").wait_for()
        page.get_by_text("None. An alias").wait_for()
        show(page, "ui/results?tab=approvals")
        page.get_by_text("others decide").wait_for()
        assert 0 == page.get_by_role("button", name=re.compile("^Approve")).count()
        other = admin.new_page()
        show(other, "ui/results?tab=approvals")
        other.get_by_role("row", name=re.compile("demo.daily .*demo-user")).wait_for()
        other.get_by_role("button", name="Approve demo/daily@production").click()
        other.get_by_text("demo/daily@production is changed.").wait_for()
        show(page, "ui/name?name=demo/daily")
        page.get_by_role("row", name=re.compile("^production")).get_by_text("as the name").wait_for()
        page.get_by_role("list", name="History").get_by_text("demo-admin").first.wait_for()
    finally:
        ask(admin, "PATCH", LIMITS, {"registry_protected_aliases": None})


@pytest.mark.usefixtures("writers")
def test_a_name_is_moved_and_removed(demo: Window) -> None:
    """To another result, which is written out; it goes after its typed name only."""
    context = demo("demo-user")
    result_of(context, "demo:nyc.airlines", "demo/weekly", limit=12)
    second = result_of(context, "demo:nyc.airlines", limit=13)
    uri = f"strata://artifact/{second['artifact_id']}@v={second['version']}"
    page = context.new_page()
    show(page, "ui/name?name=demo/weekly")
    page.get_by_label("The name points at").fill(uri)
    page.get_by_role("button", name="Move the name", exact=True).click()
    page.get_by_text(re.compile("^demo/weekly points at result")).wait_for()
    assert uri == ask(context, "GET", "v1/names/demo/weekly")["artifact_uri"]
    page.get_by_role("button", name="Remove the name").click()
    page.get_by_label("Type demo/weekly to confirm").fill("demo/weekly")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Names", selected=True).wait_for()
    assert 404 == context.request.get("v1/names/demo/weekly").status


@pytest.mark.usefixtures("writers")
def test_tags_find_a_result_and_a_pin_keeps_it(demo: Window) -> None:
    """demo-user tags and pins it; demo-admin finds it by its tag, and reads why it is kept and until when."""
    context = demo("demo-user")
    made = result_of(context, "demo:nyc.airports", limit=14)
    view = f"ui/result?id={made['artifact_id']}&version={made['version']}"
    page = context.new_page()
    show(page, f"{view}&tab=labels")
    page.get_by_label("Tag", exact=True).fill("stage")
    page.get_by_label("Value").fill("checked twice")
    page.keyboard.press("Enter")
    page.get_by_text("The tag stage is set.").wait_for()
    page.get_by_role("tab", name="Why it is kept").click()
    page.get_by_text("Nothing holds it").wait_for()
    page.get_by_label("Reason").fill("for the auditors")
    page.keyboard.press("Enter")
    page.get_by_text("It is pinned: for the auditors.").wait_for()
    other = demo("demo-admin").new_page()
    show(other, "ui/results?tab=tags&key=stage&value=checked+twice")
    other.get_by_role("region", name="Results with this tag").get_by_role("link").first.click()
    other.get_by_role("tab", name="Why it is kept").click()
    other.get_by_role("list", name="What holds it").get_by_text("Pinned: for the auditors").wait_for()
    other.get_by_text("not while it is held").wait_for()
    page.get_by_role("button", name="Remove the pin for the auditors").click()
    page.get_by_text("Nothing holds it").wait_for()
    page.get_by_role("tab", name="Tags").click()
    page.get_by_role("button", name="Remove the tag stage").click()
    page.get_by_text("This result has no tags.").wait_for()

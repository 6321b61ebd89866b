"""The socket of a notebook's page: what it carries, and what a lost one costs."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
from page_steps import RUN_MS, Held, Line, ask, cell, make, opened, saved, sources, state, write
from pages_kit import Caller, pages, proxied, served, settings_of_pages
from postgres_kit import dsn, new_database
from service_kit import Process, environment, free_port, identity, process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Site
    from page_steps import Window
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.slow

LOST = "The connection is lost"

SCOPES = "notebook:read notebook:write notebook:execute"


def asked(page: Page) -> list[str]:
    """Return the list of requests of the session that a page makes from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if "/session/" in request.url else None)
    return found


def test_edits_events_and_presence_go_over_the_socket(window: Window) -> None:
    """No request tells that one is there, asks for events, or carries what is typed."""
    ours, theirs = window("author"), window("second")
    line = Line(ours)
    name = make(ours, "a = 1", "print('seen', 1)")
    here, there = opened(ours, name), opened(theirs, name)
    requests = asked(here)
    here.get_by_role("list", name="Who is here").get_by_text("cyn").wait_for()
    write(here, "c0", "a = 2")
    saved(here)
    cell(there, "c0").locator(".cm-content").get_by_text("a = 2").wait_for()
    there.get_by_role("button", name="ben at cell 1").wait_for()
    cell(there, "c1").get_by_role("button", name="Run cell 2").click()
    state(here, "c1", "current")
    cell(here, "c1").get_by_label("Printed").get_by_text("seen 1").wait_for()
    assert [] == [one for one in requests if "/output" not in one]
    assert 1 == len(line.sockets)
    assert {"edit", "focus"} <= {json.loads(one)["type"] for one in line.sent}
    here.goto("ui/notebooks")
    there.get_by_role("list", name="Who is here").get_by_text("ben").wait_for(state="detached")


def test_an_answer_that_comes_late_takes_back_nothing_that_happened_since(window: Window) -> None:
    """The state of the session is read while somebody comes in: who came stays in the list."""
    ours, theirs = window("author"), window("second")
    name = make(ours, "a = 1")
    here = opened(ours, name)
    held = Held(here, r"/session$")
    cell(here, "c0").get_by_role("button", name="Run cell 1").click()
    assert "cyn" not in held.first()
    opened(theirs, name)
    cyn = here.get_by_role("list", name="Who is here").get_by_text("cyn")
    cyn.wait_for()
    held.let_go()
    state(here, "c0", "current")
    assert 1 == cyn.count()


def test_the_answer_to_a_run_may_come_after_its_result(window: Window) -> None:
    """It says that the cell has no result yet, and was made before the one that is in sight."""
    context = window("author")
    name = make(context, "6 * 7")
    page = opened(context, name)
    page.get_by_role("list", name="Who is here").wait_for()
    held = Held(page, r"/session/run$")
    cell(page, "c0").get_by_role("button", name="Run cell 1").click()
    assert '"result":null' in held.first()
    state(page, "c0", "current")
    with page.expect_response(re.compile(r"/session/run$")) as answered:
        held.let_go()
    answered.value.finished()
    page.evaluate("() => new Promise(requestAnimationFrame)")
    cell(page, "c0").get_by_label("Output").get_by_text("42").wait_for()
    assert "current" == cell(page, "c0").locator(".nb-state .badge").inner_text()


def test_where_no_socket_comes_through_requests_do_the_same(window: Window) -> None:
    """A proxy without WebSockets costs nobody the notebook: presence, edits, runs and events are there."""
    ours, theirs = window("author"), window("second")
    line = Line(ours)
    line.deaf = True
    name = make(ours, "a = 1", "print('seen', 1)")
    here, there = opened(ours, name), opened(theirs, name)
    here.get_by_role("list", name="Who is here").get_by_text("cyn").wait_for()
    there.get_by_role("list", name="Who is here").get_by_text("ben").wait_for()
    write(here, "c0", "a = 2")
    saved(here)
    cell(there, "c0").locator(".cm-content").get_by_text("a = 2").wait_for()
    cell(there, "c1").get_by_role("button", name="Run cell 2").click()
    state(here, "c1", "current")
    assert [] == line.sent
    assert 0 == here.get_by_text(LOST).count()


def test_an_answer_that_is_lost_is_no_conflict_with_oneself(window: Window) -> None:
    """The server has what was sent, the page does not know it, and more was typed since: it is one text."""
    context = window("author")
    line = Line(context)
    name = make(context, "a = 1")
    page = opened(context, name)
    line.deafen()
    write(page, "c0", "a = 'first'")
    page.wait_for_function(
        "async path => (await (await fetch(path)).json()).cells[0].source === \"a = 'first'\"",
        arg=f"../v1/notebooks/{name}",
    )
    page.keyboard.type(" # more")
    line.cut()
    page.get_by_text(LOST).wait_for()
    line.mend()
    saved(page)
    assert ["a = 'first' # more"] == sources(context, name)
    assert 0 == page.get_by_role("alert").count()
    assert 0 == page.get_by_text(LOST).count()


def test_who_loses_the_right_is_told_and_what_was_typed_stays(window: Window) -> None:
    """A notebook that is deleted while one types in it: the page says so, and keeps the text in sight."""
    context = window("author")
    name = make(context, "a = 1")
    page = opened(context, name)
    write(page, "c0", "a = 2")
    saved(page)
    ask(context, "DELETE", f"v1/notebooks/{name}")
    page.get_by_role("alert").get_by_text(re.compile("404")).first.wait_for(timeout=RUN_MS)
    page.locator("#cell-c0 .cm-content").get_by_text("a = 2").wait_for()


@pytest.fixture
def restarted(site: Site, tmp_path: Path) -> Iterator[Restarts]:
    """Return a server of its own behind nginx, which a test stops and starts."""
    for folder in ("warehouse", "artifacts", "cache", "nginx"):
        (tmp_path / folder).mkdir()
    port = free_port()
    callers = {"ben": Caller("ben", SCOPES), "cyn": Caller("cyn", SCOPES)}
    with proxied(tmp_path / "nginx", port, callers) as addresses:
        made = Restarts(site, tmp_path, port, addresses)
        try:
            yield made
        finally:
            made.close()


class Restarts:
    """A server that a test starts and stops, and windows of its callers."""

    def __init__(self, site: Site, root: Path, port: int, addresses: dict[str, str]) -> None:
        self.site, self.root, self.port, self.addresses = site, root, port, addresses
        self._running = None
        self._windows: list[BrowserContext] = []

    def start(self) -> None:
        self._running = served(settings_of_pages(self.root), self.port)
        self._running.__enter__()

    def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def window(self, who: str) -> BrowserContext:
        context = self.site.browser.new_context(base_url=self.addresses[who], locale="en-GB")
        context.set_default_timeout(90_000)
        self._windows.append(context)
        return context

    def close(self) -> None:
        for one in self._windows:
            one.close()
        self.stop()


def test_a_server_that_restarts_between_two_keystrokes_costs_no_character(restarted: Restarts) -> None:
    """Two browsers type in one notebook before, while and after the server is away; both say so, and go on."""
    restarted.start()
    ours, theirs = restarted.window("ben"), restarted.window("cyn")
    name = make(ours, "", "")
    here, there = opened(ours, name), opened(theirs, name)
    here.get_by_role("list", name="Who is here").get_by_text("cyn").wait_for()
    pages = {"c0": here, "c1": there}
    for id_, page in pages.items():
        cell(page, id_).locator(".cm-content").click()
        page.keyboard.type("# before ")
    restarted.stop()
    for page in pages.values():
        page.keyboard.type("while ")
    for page in pages.values():
        page.get_by_text(LOST).wait_for()
        page.keyboard.type("it was away ")
    restarted.start()
    for page in pages.values():
        page.keyboard.type("and after")
    for page in pages.values():
        saved(page)
        page.get_by_text(LOST).wait_for(state="detached")
    whole = "# before while it was away and after"
    assert [whole, whole] == sources(ours, name)
    for id_, page in pages.items():
        other = "c1" if id_ == "c0" else "c0"
        cell(page, other).locator(".cm-content").get_by_text(whole).wait_for()
        page.get_by_role("list", name="Who is here").get_by_text("cyn" if page is here else "ben").wait_for()
        assert 0 == page.get_by_role("alert").count()


CONFIGURATION = """
[[tool.strata.notebook_workers]]
name = "local"
memory_bytes = 268435456
"""


def owner(servers: list[Process], name: str) -> Process:
    """Return the server that has the session of a notebook."""
    for one in servers:
        answer = httpx.get(
            f"{one.url}/v1/notebooks/{name}/session", headers=identity("ben", "team", SCOPES), timeout=60
        )
        if 200 == answer.status_code:
            return one
        assert "session_elsewhere" == answer.json()["error"]
    raise AssertionError("no server has the session")


def test_another_server_that_takes_over_costs_no_character(
    site: Site, postgresql: str, tmp_path: Path
) -> None:
    """The server of the session is killed between two keystrokes: the page says so, and goes on with the other one."""
    pages()  # or skip
    settings = settings_of_pages(tmp_path, warehouses={"wh": str(site.warehouse)})
    shared = environment(settings) | {
        "STRATA_ARTIFACT_METADATA_DSN": dsn(new_database(postgresql)),
        "STRATA_ARTIFACT_LEASE_SECONDS": "2",
    }
    with ExitStack() as stack:
        servers = []
        for part in ("one", "two", "nginx"):
            directory = tmp_path / part
            directory.mkdir()
            (directory / "pyproject.toml").write_text(CONFIGURATION)
            given = shared | {"STRATA_CACHE_DIR": str(directory / "cache")}
            if part != "nginx":
                servers.append(stack.enter_context(process(directory, program="pages_server", **given)))
        ports = [int(one.url.rpartition(":")[2]) for one in servers]
        callers = {"ben": Caller("ben", SCOPES)}
        addresses = stack.enter_context(proxied(tmp_path / "nginx", ports[0], callers, *ports[1:]))
        context = site.browser.new_context(base_url=addresses["ben"], locale="en-GB")
        stack.callback(context.close)
        context.set_default_timeout(90_000)
        name = make(context, "")
        page = opened(context, name)
        cell(page, "c0").locator(".cm-content").click()
        page.keyboard.type("# before ")
        saved(page)
        killed = owner(servers, name)
        killed.popen.kill()
        page.keyboard.type("while ")
        page.get_by_text(LOST).wait_for()
        page.keyboard.type("it was away ")
        page.get_by_text(LOST).wait_for(state="detached")
        page.keyboard.type("and after")
        saved(page)
        assert ["# before while it was away and after"] == sources(context, name)
        [other] = [one for one in servers if one is not killed]
        assert other is owner([other], name)
        assert 0 == page.get_by_role("alert").count()

"""A browser before nginx: before a server with tables that try to run code in pages, and before the demo."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import attrs
import pytest
from demo_kit import PORTS, Stack
from hostile_tables import fill
from pages_kit import Caller, pages, proxied, served, settings_of_pages
from programs import need

from strata.acl import parse_policy
from strata.config.fields import RegisteredTransform, TransformSection

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext

CALLERS = {
    "user": Caller("ana", "notebook:read"),
    "admin": Caller("root", "admin:* notebook:*"),
    "below": Caller("ana", prefix="/lake/strata/"),
    "author": Caller("ben", "notebook:read notebook:write notebook:execute"),
    "denied": Caller("ana", "notebook:read notebook:write notebook:execute"),
    "second": Caller("cyn", "notebook:read notebook:write notebook:execute"),
    "curator": Caller("dee", "notebook:read artifacts:write"),
    "approver": Caller("fay", "notebook:read admin:registry"),
    "hostile": Caller("<img src=x onerror='window.ran=1'>", "<b>scope</b>"),
}


@attrs.frozen
class Site:
    """What the tests open.

    Attributes:
        addresses: The address of each caller of :data:`CALLERS`.
        browser: The browser.
        warehouse: The folder of the tables ``wh:…``.
    """

    addresses: dict[str, str]
    browser: Browser
    warehouse: Path

    def open(self, who: str, **options: object) -> BrowserContext:
        """Return a new browser window of a caller; without the pages' policy if ``bypass_csp``."""
        context = self.browser.new_context(base_url=self.addresses[who], locale="en-GB", **options)
        context.set_default_timeout(60_000)
        return context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start all of it, once for a module: Playwright keeps an event loop running, which other tests must not meet."""
    chromium, nginx = need("chromium"), need("nginx")
    assert nginx
    sync_api = pytest.importorskip("playwright.sync_api")
    root = tmp_path_factory.mktemp("pages")
    for name in ("warehouse", "artifacts", "cache", "nginx"):
        (root / name).mkdir()
    fill(root / "warehouse")
    settings = settings_of_pages(
        root,
        warehouses={"wh": str(root / "warehouse")},
        acl_config=parse_policy(
            {"default": "allow", "deny": [{"principal": "ana", "resource": "tables/wh/board/*"}]}
        )[0],
        service_writes_enabled=True,
        fetch_timeout_seconds=600.0,  # a test holds builds up
        registry_protected_aliases="production",
        transforms=TransformSection(enabled=True, registry=(RegisteredTransform("duckdb_sql@v1"),)),
    )
    with (
        served(settings) as port,
        proxied(root / "nginx", port, CALLERS) as addresses,
        sync_api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield Site(addresses, browser, root / "warehouse")
        finally:
            browser.close()


@pytest.fixture
def window(site: Site) -> Iterator[Callable[..., BrowserContext]]:
    """Return what opens a window of a caller; all are closed after the test."""
    opened = []

    def open_window(who: str = "user", **options: object) -> BrowserContext:
        opened.append(site.open(who, **options))
        return opened[-1]

    yield open_window
    for context in opened:
        context.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the demo's stack, once for all of its modules: it takes long to start, and its ports are exclusive."""
    pages()
    running = Stack(tmp_path_factory.mktemp("demo"))
    yield running
    running.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Function) -> Generator[None, object, object]:
    """End the stack after the last test that needs it: the tests after it measure the machine."""
    done = yield
    if "stack" in item.fixturenames:
        later = item.session.items[item.session.items.index(item) + 1 :]
        if not any("stack" in getattr(one, "fixturenames", ()) for one in later) and "stack" in item.funcargs:
            item.funcargs["stack"].stop()
    return done


@pytest.fixture(scope="module")
def demo_browser(stack: Stack) -> Iterator[Browser]:
    """Run a browser for the tests of the demo, once for a module, as for :func:`site`."""
    assert stack.directory.is_dir()
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def demo(demo_browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Return what opens a window at the port of one of the demo's two people; all are closed after the test."""
    opened: list[BrowserContext] = []

    def open_window(who: str, **options: object) -> BrowserContext:
        base = f"http://localhost:{PORTS[who]}/"
        opened.append(demo_browser.new_context(base_url=base, locale="en-GB", **options))
        opened[-1].set_default_timeout(60_000)
        return opened[-1]

    yield open_window
    for one in opened:
        one.close()

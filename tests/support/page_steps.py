"""What people do in the pages, step by step: for all tests with a browser."""

from __future__ import annotations

import json
import re
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import APIResponse, BrowserContext, Locator, Page, Request, Route, WebSocketRoute

    Window = Callable[..., BrowserContext]

RUN_MS = 120_000
"""Milliseconds in which a cell has to end, on a machine that does much else."""

PICTURE = (
    "class Picture:\n"
    "    def _repr_png_(self):\n"
    "        import struct, zlib\n"
    "        def part(kind, data):\n"
    "            body = kind + data\n"
    "            return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))\n"
    "        rows = b''.join(b'\\0' + b'\\xff\\0\\0' * 8 for _ in range(8))\n"
    "        head = struct.pack('>IIBBBBB', 8, 8, 8, 2, 0, 0, 0)\n"
    "        return (b'\\x89PNG\\r\\n\\x1a\\n' + part(b'IHDR', head)\n"
    "                + part(b'IDAT', zlib.compress(rows)) + part(b'IEND', b''))\n"
    "Picture()"
)
"""A cell that leaves a red picture, eight pixels wide."""

OFFERS = ".cm-tooltip-autocomplete:not(.cm-tooltip-autocomplete-disabled)"
"""What an editor offers; not the offers of the key before, which Tab does not take, and which stay for a while."""

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""The rules of axe-core that pages are checked by."""


class Line:
    """What a window sends and receives, held up or cut off: requests of the API, and sockets of sessions.

    Attributes:
        sent: The frames that its sockets have sent.
        sockets: Both ends of each socket that is open.
        deaf: Whether sockets are refused, as by a proxy without WebSockets.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.sent: list[str] = []
        self.sockets: list[tuple[WebSocketRoute, WebSocketRoute]] = []
        self.deaf = False
        self._is_cut = self._is_mute = False
        self._held: list[tuple[WebSocketRoute, str]] | None = None
        context.route_web_socket(re.compile(r"/session\?"), self._opened)
        context.route("**/v1/**", self._asked)

    def cut(self) -> None:
        """Cut all off, and what comes later."""
        self._is_cut = True
        for page, server in self.sockets:
            server.close()
            page.close(code=1011)
        self.sockets.clear()

    def mend(self) -> None:
        """Have all come through again."""
        self._is_cut = self._is_mute = False

    def deafen(self) -> None:
        """Have frames of servers get lost."""
        self._is_mute = True

    def hold(self) -> None:
        """Keep frames with edits back."""
        self._held = []

    def let_go(self) -> None:
        """Send the frames that were kept back."""
        held, self._held = self._held or [], None
        for server, text in held:
            server.send(text)

    def _asked(self, route: Route) -> None:
        if self._is_cut:
            route.abort()
        else:
            route.continue_()

    def _opened(self, page: WebSocketRoute) -> None:
        if self._is_cut or self.deaf:
            page.close(code=1011)
            return
        server = page.connect_to_server()
        self.sockets.append((page, server))
        page.on_message(lambda text: self._send(server, str(text)))
        server.on_message(lambda text: None if self._is_mute else page.send(text))

    def _send(self, server: WebSocketRoute, text: str) -> None:
        self.sent.append(text)
        if self._held is not None and json.loads(text)["type"] == "edit":
            self._held.append((server, text))
        else:
            server.send(text)


class Held:
    """Answers that a page's requests have got from the server, and the page has not got yet."""

    def __init__(self, page: Page, addresses: str) -> None:
        self._page = page
        self._held: list[tuple[Route, APIResponse]] | None = []
        page.route(re.compile(addresses), self._asked)

    def _asked(self, route: Route) -> None:
        answer = route.fetch()
        if self._held is None:
            route.fulfill(response=answer)
        else:
            self._held.append((route, answer))

    def first(self) -> str:
        """Wait for the first one; returns its text."""
        while not self._held:
            self._page.wait_for_timeout(20)
        return self._held[0][1].text()

    def let_go(self) -> None:
        """Give the page all of them, and those that follow at once."""
        held, self._held = self._held or [], None
        for route, answer in held:
            route.fulfill(response=answer)


def show(page: Page, path: str) -> None:
    """Open a page, and wait until nothing in it is loading."""
    page.goto(path)
    settled(page)


def settled(page: Page) -> None:
    """Wait until nothing in a page is loading."""
    page.locator("h1").first.wait_for()
    page.wait_for_timeout(50)
    page.locator(".waiting").first.wait_for(state="detached")


def to_part(page: Page, name: str) -> None:
    """Go to a part of the pages by the frame."""
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
    settled(page)


def ask(context: BrowserContext, method: str, path: str, body: object = None) -> Any:
    """Ask the API as the caller of a window; returns the answer's JSON."""
    data = None if body is None else json.dumps(body)
    answer = context.request.fetch(
        path, method=method, data=data, headers={"Content-Type": "application/json"}
    )
    assert answer.ok, (answer.status, answer.text())
    return answer.json()


def result_of(
    context: BrowserContext, table: str, name: str | None = None, **params: object
) -> dict[str, Any]:
    """Scan a table, and wait for all of the result; returns its ``artifact_id`` and ``version``."""
    body = {"inputs": [table], "transform": {"executor": "scan@v1", "params": params}, "name": name}
    found = ask(context, "POST", "v1/materialize", body)
    answer = context.request.get(str(found["stream_url"]).lstrip("/"))
    assert answer.ok, answer.text()
    answer.body()
    return ready(context, found["artifact_uri"])


def sql_of(context: BrowserContext, sql: str, *inputs: str, name: str | None = None) -> dict[str, Any]:
    """Run SQL over tables and results, and wait for its result; returns its ``artifact_id`` and ``version``."""
    transform = {"executor": "duckdb_sql@v1", "params": {"sql": sql}}
    body = {"inputs": inputs, "transform": transform, "mode": "artifact", "name": name}
    return ready(context, ask(context, "POST", "v1/materialize", body)["artifact_uri"])


def ready(context: BrowserContext, uri: str) -> dict[str, Any]:
    """Wait until a result is ready; returns its ``artifact_id`` and ``version``."""
    match = re.fullmatch(r"strata://artifact/(\w+)@v=(\d+)", uri)
    assert match
    until = time.monotonic() + RUN_MS / 1000
    # The last byte is sent a moment before the result is ready, and has its name.
    while (state := ask(context, "GET", f"v1/artifacts/{match[1]}/v/{match[2]}")["state"]) != "ready":
        assert state != "failed"
        assert time.monotonic() < until
        time.sleep(0.05)
    return {"artifact_id": match[1], "version": int(match[2])}


def hearing(page: Page, but: str) -> list[bytes]:
    """Return the list of all that a page is answered from now on, but for addresses with a text in them."""
    heard: list[bytes] = []

    def hear(request: Request) -> None:
        answer = request.response()
        if answer is not None and answer.status < 300 and but not in request.url:
            heard.append(answer.body())

    page.on("requestfinished", hear)
    return heard


def make(context: BrowserContext, *cells: object, title: str = "Flights") -> str:
    """Make a notebook with cells ``c0``, ``c1`` …, in Python where they are texts only; returns its name."""
    full = [{"source": cell} if isinstance(cell, str) else cell for cell in cells]
    body = {"title": title, "cells": [{"id": f"c{at}", **cell} for at, cell in enumerate(full)]}
    return str(ask(context, "POST", "v1/notebooks", body)["name"])


def sources(context: BrowserContext, name: str) -> list[str]:
    """Return the sources of a notebook's cells, as the server has them."""
    return [cell["source"] for cell in ask(context, "GET", f"v1/notebooks/{name}")["cells"]]


def opened(context: BrowserContext, name: str, view: str = "") -> Page:
    """Open a notebook, and wait for the editors of its cells."""
    page = context.new_page()
    page.goto(f"ui/notebook?name={name}{view}")
    page.get_by_role("tab", name="Cells").wait_for()
    if not view:
        page.locator(".cm-content, .nb-text").first.wait_for()
    return page


def cell(page: Page, id_: str) -> Locator:
    """Return a cell of a notebook's page."""
    return page.locator(f"#cell-{id_}")


def state(page: Page, id_: str, word: str) -> None:
    """Wait until a cell stands as a word says."""
    cell(page, id_).locator(".nb-state .badge", has_text=re.compile(f"^{word}$")).wait_for(timeout=RUN_MS)


def saved(page: Page) -> None:
    """Wait until all that was typed is in a revision."""
    page.locator(".nb-saving.saved").wait_for()


def select(page: Page, id_: str) -> None:
    """Give a cell the focus, without its editor."""
    cell(page, id_).focus()


def write(page: Page, id_: str, text: str) -> None:
    """Replace the source of a cell as a person does."""
    cell(page, id_).locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def pixel(page: Page, id_: str) -> list[int]:
    """Return the colour of a point of the picture that a cell has left."""
    context = f"document.querySelector('#cell-{id_} canvas').getContext('2d')"
    return list(page.evaluate(f"() => [...{context}.getImageData(3, 3, 1, 1).data]"))


def write_jupyter_file(file: Path, *lines: str) -> None:
    """Write a notebook of Jupyter's with one cell, and an output of it, which an import does not keep."""
    output = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    source = [f"{line}\n" for line in lines[:-1]] + [lines[-1]]
    code = {"cell_type": "code", "id": "one", "source": source, "metadata": {}, "execution_count": 1}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [{**code, "outputs": [output]}]
    file.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}))


def tab_to(page: Page, target: Locator, most: int = 80, *, key: str = "Tab") -> None:
    """Press Tab, or Shift+Tab, until an element has the focus."""
    target.wait_for()
    for _ in range(most):
        page.keyboard.press(key)
        if target.evaluate("one => one === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {target}")


def ran_nothing(page: Page) -> None:
    """Fail if a text of a page was taken for HTML, or has run."""
    for tag in ("img", "iframe", "body script:not([src])", "[autofocus]", "a[href^='javascript:']"):
        assert 0 == page.locator(tag).count(), tag
    assert page.evaluate("() => window.ran === undefined")


_TARGETS = """() => {
    const shown = one => {
        const {width, height, bottom} = one.getBoundingClientRect();
        return width > 1 && height > 1 && bottom > 0 && one.checkVisibility({visibilityProperty: true});
    };
    const ticked = one => one.type === 'checkbox' || one.type === 'radio';
    // What is touched of a box to tick is its label, too; cells of the grid are no controls.
    const touched = one => ticked(one) ? one.closest('label') ?? one : one;
    const controls = [...document.querySelectorAll('a, button, input, select, textarea, summary, [role=tab]')]
        .filter(one => !one.matches('a') || one.matches('nav a, a.button, .who a'))
        .filter(one => shown(one) && !one.closest('.grid') && !one.closest('.cm-editor'));
    const small = [];
    for (const one of controls) {
        const {width, height} = touched(one).getBoundingClientRect();
        if (Math.min(width, height) < (ticked(one) ? 24 : 44) - 0.5) {
            small.push(`${one.outerHTML.slice(0, 120)}: ${Math.round(width)} x ${Math.round(height)}`);
        }
    }
    return [controls.length, small];
}"""


def small_targets(page: Page) -> tuple[int, list[str]]:
    """Return how many controls of a page were measured, and those too small to be touched.

    Buttons, fields, tabs and the links of navigation need 44 pixels each way; boxes to tick, with their
    labels, 24. Links in running text have the size of the text.
    """
    measured, small = page.evaluate(_TARGETS)
    return measured, small


def barriers(page: Page) -> dict[str, list[str]]:
    """Return what axe-core finds in a page that was opened with ``bypass_csp``, and whether it scrolls sideways."""
    if page.evaluate("() => typeof window.axe === 'undefined'"):
        page.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text())
    seen = page.evaluate("tags => axe.run({runOnly: {type: 'tag', values: tags}})", list(RULES))
    found = {one["id"]: [node["html"][:200] for node in one["nodes"]][:3] for one in seen["violations"]}
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        found["scrolls sideways"] = [str(wide)]
    return found

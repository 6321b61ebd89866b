"""Take pictures of the pages: each at three widths, light and dark.

Starts ``strata demo``, opens its pages as its two people do, and writes WebP files. Needs ``chromium`` and
Playwright.
"""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import click
import httpx
from playwright.sync_api import Browser, Page, sync_playwright

WIDTHS: Mapping[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "tablet": {"viewport": {"width": 834, "height": 1112}, "has_touch": True},
    "wide": {"viewport": {"width": 1440, "height": 900}},
}
SCHEMES = ("light", "dark")
QUALITY = 45
"""Of WebP: text is sharp, and all pictures together take less than 3 MB."""

READY_SECONDS = 300.0


@attrs.frozen
class View:
    """A page to take.

    Attributes:
        name: The picture's name.
        who: ``user`` or ``admin`` of the demo.
        path: Its address; ``{notebook}`` and ``{result}`` stand for those of the demo.
        wanted: A selector of what must be shown first.
    """

    name: str
    who: str
    path: str
    wanted: str = "h1"


VIEWS = (
    View("data", "user", "ui/data", ".tables a"),
    View("table-rows", "user", "ui/table?uri=demo:nyc.flights", ".grid .cell"),
    View("table-schema", "user", "ui/table?uri=demo:nyc.flights&tab=schema", "table"),
    View("table-snapshots", "user", "ui/table?uri=demo:nyc.flights&tab=snapshots", "table, li"),
    View("notebooks", "user", "ui/notebooks", "main a"),
    View("notebook", "user", "ui/notebook?name={notebook}", ".nb-state .badge"),
    View("notebook-graph", "user", "ui/notebook?name={notebook}&tab=graph", ".graph"),
    View("results", "user", "ui/results", "table a"),
    View("result", "user", "ui/result?{result}", ".grid .cell"),
    View("result-origin", "user", "ui/result?{result}&tab=origin", ".graph a"),
    View("result-kept", "user", "ui/result?{result}&tab=kept", "dl"),
    View("names", "user", "ui/results?tab=names", "table a"),
    View("name", "user", "ui/name?name=flights_by_maker", ".card"),
    View("console", "admin", "ui/console", "table a"),
    View("tenant", "admin", "ui/tenant?id=demo-team", ".card"),
    View("tenant-limits", "admin", "ui/tenant?id=demo-team&tab=limits", "table"),
    View("sees", "admin", "ui/console?tab=access&view=sees&principal=demo-user", "table"),
    View("draft", "admin", "ui/console?tab=access&view=draft", "textarea"),
    View("workers", "admin", "ui/console?tab=workers", ".card"),
    View("audit", "admin", "ui/console?tab=audit", "table"),
    View("me", "user", "ui/me", ".checks"),
    View("api", "user", "ui/api", ".route"),
)

DRAFT = 'default = "deny"\n\n[[allow]]\nprincipal = "demo-admin"\nresource = "tables/demo/*/*"\n'


@click.command()
@click.option("--directory", type=click.Path(path_type=Path), default=Path("pictures"), show_default=True)
@click.option("--only", multiple=True, help="Take the pictures of this page only; may be repeated.")
def main(directory: Path, only: tuple[str, ...]) -> None:
    """Write the pictures of all pages into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with demo() as addresses, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        known = found_in(addresses["user"])
        for view in VIEWS:
            if not only or view.name in only:
                take(browser, addresses, view, known, directory)
        browser.close()
    size = sum(path.stat().st_size for path in directory.glob("*.webp"))
    click.echo(f"{size / 1e6:.2f} MB in {directory}")


@contextmanager
def demo() -> Iterator[dict[str, str]]:
    """Run the demo until its checks are over; yields the addresses of its two people."""
    ports = {name: free_port() for name in ("", "user-", "admin-")}
    with tempfile.TemporaryDirectory(prefix="strata-pictures-") as data:
        command = [sys.executable, "-m", "strata", "demo", "--data", data]
        for name, port in ports.items():
            command += [f"--{name}port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        ready = threading.Event()

        def listen(lines: Any) -> None:
            for line in lines:
                if "Ctrl-C" in line:
                    ready.set()
            ready.set()

        threading.Thread(target=listen, args=(process.stdout,), daemon=True).start()
        try:
            if not ready.wait(READY_SECONDS) or process.poll() is not None:
                raise click.ClickException("the demo did not start")
            yield {
                "user": f"http://127.0.0.1:{ports['user-']}/",
                "admin": f"http://127.0.0.1:{ports['admin-']}/",
            }
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def found_in(address: str) -> dict[str, str]:
    """Return the name of the demo's notebook, and the place of a result that was made of several tables."""
    with httpx.Client(base_url=address, timeout=60) as client:
        notebooks = client.get("v1/notebooks").raise_for_status().json()["notebooks"]
        if not notebooks:
            raise click.ClickException("the demo's own checks have failed: it has no notebook to show")
        notebook = notebooks[0]["name"]
        uri = client.get("v1/names/flights_by_maker").raise_for_status().json()["artifact_uri"]
    result, _, version = uri.rpartition("/")[2].partition("@v=")
    return {"notebook": notebook, "result": f"id={result}&version={version}"}


def take(
    browser: Browser, addresses: Mapping[str, str], view: View, known: Mapping[str, str], directory: Path
) -> None:
    """Write the pictures of one page."""
    for width, options in WIDTHS.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                base_url=addresses[view.who], color_scheme=scheme, locale="en-GB", reduced_motion="reduce",
                **options,
            )  # fmt: skip
            context.set_default_timeout(60_000)
            page = context.new_page()
            page.goto(view.path.format(**known))
            page.locator(view.wanted).first.wait_for()
            page.locator(".waiting").first.wait_for(state="detached")
            if view.name == "draft":
                page.locator("textarea").fill(DRAFT)
                page.get_by_role("button", name="Compare with the rules in force").click()
                page.get_by_role("region", name="Changes").wait_for()
            page.wait_for_timeout(400)  # fonts, and what is drawn a moment later
            (directory / f"{view.name}-{width}-{scheme}.webp").write_bytes(shot(page))
            context.close()


def shot(page: Page) -> bytes:
    """Return what is in sight as WebP, which Playwright's own pictures cannot be."""
    session = page.context.new_cdp_session(page)
    found = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    return base64.b64decode(found["data"])


if __name__ == "__main__":
    main()

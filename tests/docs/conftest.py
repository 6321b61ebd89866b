"""Code blocks of the pages, and the demo server for their commands."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from log_watch import watch
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
DEMO_SECONDS = 120.0
_COMMENT = re.compile(r"<!-- (run by|not run): (\S.*?) -->")


@attrs.frozen
class Block:
    """A fenced code block.

    Attributes:
        page: Page of the block.
        line: Number of its first line of code, from 1.
        language: First word after the fence.
        code: Text of the block.
        kind: ``run by`` or ``not run``, from the comment before the block; None without one.
        reason: Text of that comment: the program that runs the block, or why it is not run.
    """

    page: Path
    line: int
    language: str
    code: str
    kind: str | None
    reason: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return a page's code blocks in order, indented ones as language ``""``."""
    found: list[Block] = []
    comment = None
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type == "html_block":
            comment = _COMMENT.fullmatch(token.content.strip())
            continue
        if token.type in {"fence", "code_block"} and token.map is not None:
            language = token.info.split()[0] if token.info.split() else ""
            kind, reason = (comment[1], comment[2]) if comment else (None, "")
            found.append(Block(page, token.map[0] + 2, language, token.content, kind, reason))
        comment = None
    return found


def pytest_generate_tests(metafunc) -> None:
    """Parametrize tests with argument ``page`` by pages, and those with ``block`` by code blocks."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
    if "block" in metafunc.fixturenames:
        blocks = [block for page in PAGES for block in blocks_of(page)]
        metafunc.parametrize("block", blocks, ids=[block.place for block in blocks])


@pytest.fixture(name="blocks_of")
def blocks_of_fixture() -> Callable[[Path], list[Block]]:
    """Return :func:`blocks_of`, since folders of tests cannot import each other."""
    return blocks_of


@attrs.frozen
class Demo:
    """A running ``strata demo``.

    Attributes:
        directory: Directory of its tables and its proxy's token.
        ports: Actual port, by the port in the documentation.
    """

    directory: Path
    ports: dict[int, int]


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Iterator[Demo]:
    """Start ``strata demo`` as the tutorial does, on free ports, and wait until it has checked itself."""
    directory = tmp_path_factory.mktemp("documentation")
    options = ["--json", "--data", str(directory / "demo")]
    options += ["--port", "0", "--user-port", "0", "--admin-port", "0"]
    log = directory / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRATA_")}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "strata", "demo", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=directory,
            env=environment | {"PYTHONSAFEPATH": "1"},
        )
        try:
            report = _first_json(process)
            assert report is not None, log.read_text(errors="replace")[-4000:]
            shipped = {"server": 8765, "user": 8865, "admin": 8866}
            addresses = report["addresses"]
            ports = {port: int(addresses[name].rsplit(":", 1)[1]) for name, port in shipped.items()}
            yield Demo(directory / "demo", ports)
        finally:
            process.terminate()
            process.communicate(timeout=30)
            watch.note(log.read_text(errors="replace"))


def _first_json(process: subprocess.Popen[bytes]) -> dict | None:
    """Return the JSON that the demo prints after checking itself, or None if it ends or takes too long."""
    assert process.stdout is not None
    printed = b""
    deadline = time.monotonic() + DEMO_SECONDS
    while not printed.endswith(b"\n}\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(process.stdout.fileno(), 65536) if ready else b""
        if not part:
            return None
        printed += part
    found: dict = json.loads(printed)
    return found

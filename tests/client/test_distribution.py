"""The client's own package: built from the same sources, it needs what it declares and no server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import trio
from packaging.requirements import Requirement
from pyiceberg.catalog.sql import SqlCatalog
from reading_here import read_here
from service_kit import Warehouse, numbers, running

from strata.config import Settings

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "client"
DECLARED = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]

PROGRAM = """
import sys
from strata.client import StrataClient
with StrataClient() as client:
    print(client.count("wh:db.events"), client.fetch("wh:db.events", limit=3).num_rows)
print([name for name in ("pyiceberg", "trio", "quart", "strata.server") if name in sys.modules])
"""


def test_its_dependencies_are_the_servers() -> None:
    """With the same lower bounds, so that both can be tested together."""
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set() == set(DECLARED["dependencies"]) - set(server["dependencies"])
    assert server["requires-python"] == DECLARED["requires-python"]


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a distribution with hatchling, which this environment has."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    [found] = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", PROJECT, tmp_path_factory.mktemp("wheel"))


def test_it_has_the_client_and_nothing_else(wheel: Path) -> None:
    """Each module of `strata.client` as it is here, the version, and no other part of Strata."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "strata"
    expected = [package / "__init__.py", *(package / "client").rglob("*.py")]
    assert {str(path.relative_to(ROOT)): path.read_bytes() for path in expected} == files
    version = re.search(r'__version__ = "(.+)"', (package / "__init__.py").read_text())
    assert version is not None
    assert f"strata_client_arrow-{version[1]}-py3-none-any.whl" == wheel.name


def test_its_source_distribution_builds_the_same(wheel: Path, tmp_path: Path) -> None:
    """Without the repository around it."""
    archive = build("sdist", PROJECT, tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    [source] = (tmp_path / "unpacked").iterdir()
    again = build("wheel", source, tmp_path / "again")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert one.namelist() == other.namelist()
    assert wheel.name == again.name


def declared(names: list[str], seen: set[str]) -> Iterator[str]:
    """Return distributions and what they need, without extras, as far as they are installed here."""
    for name in names:
        try:
            found = distribution(name)
        except PackageNotFoundError:  # for another platform or interpreter
            continue
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        yield name
        needs = [Requirement(text) for text in found.requires or ()]
        chosen = [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
        yield from declared(chosen, seen)


def only_what_is_declared(target: Path) -> None:
    """Link the installed files of the dependencies: those of the server are not to be found there."""
    target.mkdir()
    for name in declared([Requirement(text).name for text in DECLARED["dependencies"]], set()):
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (target / top).exists():
                (target / top).symlink_to(distribution(name).locate_file(top))


async def test_it_reads_a_server_where_nothing_else_is_installed(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an empty environment with what it declares: its command and its class."""
    read_here(monkeypatch)
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    [site] = place.glob("lib/python*/site-packages")
    only_what_is_declared(tmp_path / "declared")
    (site / "declared.pth").write_text(str(tmp_path / "declared"))
    python = str(place / "bin" / "python")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    await trio.run_process([*install, str(wheel)])
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(numbers(7))
    settings = Settings(
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(path)},
        log_level="WARNING",
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    async with running(settings) as server:
        environment = kept | {"STRATA_CLIENT_URL": server.url, "no_proxy": "*"}

        async def run(*command: str) -> str:
            done = await trio.run_process(
                command, env=environment, capture_stdout=True, capture_stderr=True, check=False, cwd=tmp_path
            )
            assert 0 == done.returncode, done.stderr.decode()
            return done.stdout.decode()

        strata = str(place / "bin" / "strata")
        assert "wh:db.events\ttable" in await run(strata, "ls")
        assert ["id", "0", "1"] == (await run(strata, "head", "wh:db.events", "-n", "2", "-c", "id")).split()
        assert "  serve " not in await run(strata, "--help")
        assert ["7 3", "[]"] == (await run(python, "-c", PROGRAM)).splitlines()

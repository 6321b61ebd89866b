"""The rules of the layout hold (design: architecture and style)."""

from __future__ import annotations

import ast
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import strata

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "strata"
MODULES = sorted(PACKAGE.rglob("*.py"))
IGNORED = {".git", ".nox", ".venv", "__pycache__", ".hypothesis", "dist", "build"}
TEXT = {".py", ".md", ".toml", ".conf", ".yml", ".svg", ".txt", ".mako", ".ini", ".html", ".css", ".js", ""}

FOLDER_MODULES = 12
"""Most modules of a folder, besides its ``__init__``; a larger folder must be split."""

#: The folders and the modules beside folders, from the top: none imports one above it. A package's own
#: ``__init__`` is the node ``package/__init__``, above the modules it exports.
LAYERS = (
    "__main__",
    "cli",
    "demo",
    "checks",
    "executor/sidecar",
    "executor/cluster",
    "executor/verify",
    "server",
    "http/__init__",
    "http/routes",
    "http/routes/workers",
    "http/routes/registry",
    "http/routes/pulling",
    "http/routes/admin",
    "http/routes/tables",
    "http/routes/notebooks",
    "http/routes/pages",
    "http/formats",
    "http/api",
    "http/api/notebooks",
    "http/door",
    "http/metrics_app",
    "http/serving",
    "http/problems",
    "http/peers",
    "executor/__init__",
    "http/asgi",
    "observability",
    "tenants/__init__",
    "tenants/lifecycle",
    "tenants/discovery",
    "tenants/sessions",
    "tenants/transforms",
    "tenants/results",
    "tenants/servers",
    "tenants/builds",
    "tenants/registry",
    "tenants/retention",
    "tenants/messages",
    "tenants/discovery_messages",
    "tenants/registry_messages",
    "tenants/retention_messages",
    "tenants/notebooks",
    "tenants/shared",
    "tenants/auditing",
    "tenants/budgets",
    "tenants/limits",
    "tenants/stats",
    "cells",
    "transforms",
    "executor/protocol",
    "http/calling",
    "cache",
    "notebooks/__init__",
    "notebooks/store",
    "notebooks/formats",
    "notebooks/graph",
    "notebooks/session",
    "notebooks/model",
    "notebooks/names",
    "readers/child",
    "readers/__init__",
    "readers/manifests",
    "readers/runs",
    "readers/row_groups",
    "readers/steps",
    "readers/remote",
    "readers/pool",
    "readers/openers",
    "readers/processes",
    "readers/plans",
    "readers/messages",
    "readers/shared_memory",
    "sandbox",
    "tables/__init__",
    "tables/read",
    "tables/plan",
    "tables/scan",
    "tables/catalogs",
    "tables/callers",
    "tables/caches",
    "tables/files",
    "tables/errors",
    "artifacts/__init__",
    "artifacts/servers",
    "artifacts/moving",
    "artifacts/accesses",
    "artifacts/registry",
    "artifacts/retention",
    "artifacts/migrations",
    "artifacts/migrations/versions",
    "artifacts/metadata",
    "artifacts/database",
    "artifacts/blobs",
    "artifacts/provenance",
    "client/commands",
    "client/__init__",
    "client/sync",
    "client/asynchronous",
    "client/methods",
    "client/frames",
    "client/tables",
    "client/wire",
    "client/operations",
    "client/results",
    "client/scans",
    "client/decoder",
    "client/answers",
    "client/retry",
    "client/filters",
    "client/errors",
    "client/display",
    "ui",
    "config/report",
    "config/reference",
    "config/sources",
    "config/rules_file",
    "config/effective",
    "config/tenants",
    "config/sections",
    "config/values",
    "config/__init__",
    "config/coherence",
    "config/tls",
    "config/settings",
    "config/groups",
    "config/problems",
    "config/fields",
    "auth",
    "work",
    "acl",
    "postgres_address",
    "regular_files",
    "durable",
    "tracing",
    "decisions",
    "background",
    "file_poller",
    "outcomes",
    "__init__",
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> Iterator[str]:
    """Return the full names a module imports: of modules, or of a name in one; type-checking imports included."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def texts() -> Iterator[tuple[Path, str]]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part in IGNORED or part.endswith(("_cache", ".egg-info")) for part in parts)
        if path.is_file() and not hidden and path.suffix in TEXT and not path.name.startswith(".coverage"):
            try:
                yield path, path.read_text()
            except UnicodeDecodeError:
                pytest.fail(f"{name(path)} is not UTF-8 text")


def module_of(path: Path) -> str:
    """Return the dotted name of a module or package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


BY_MODULE = {module_of(path): path for path in MODULES}


def targets_of(path: Path) -> set[Path]:
    """Return the modules of the package that a module imports, or imports a name from."""
    found = set()
    for imported in imports_of(path):
        if imported.split(".")[0] == "strata":
            found.add(BY_MODULE.get(imported) or BY_MODULE[imported.rpartition(".")[0]])
    return found


def node_of(path: Path) -> str:
    """Return a module's node in :data:`LAYERS`: its folder, or itself if it stands beside folders."""
    inside = path.relative_to(PACKAGE)
    beside_folders = len(inside.parts) == 2 and any(path.parent.glob("*/__init__.py"))
    if len(inside.parts) == 1 or beside_folders:
        return str(inside.with_suffix(""))
    return str(inside.parent)


def part_of(path: Path) -> str:
    """Return the folder or module of the package a module belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_a_module_is_one_idea() -> None:
    """No module is longer than 500 lines or named like a drawer (utils, helpers, common …)."""
    drawers = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [] == [name(path) for path in MODULES if len(path.read_text().splitlines()) > 500]
    assert [] == [name(path) for path in MODULES if path.stem in drawers]


def test_modules_are_short() -> None:
    """Half of all modules have at most 200 lines."""
    assert statistics.median(len(path.read_text().splitlines()) for path in MODULES) <= 200


def test_acl_imports_nothing_of_strata() -> None:
    """The ACL library can be used without the rest of Strata."""
    for path in (PACKAGE / "acl").rglob("*.py"):
        inside = {found for found in imports_of(path) if found.split(".")[0] == "strata"}
        assert set() == {found for found in inside if not found.startswith("strata.acl")}, name(path)


def test_nothing_below_http_knows_http() -> None:
    """Only the front door imports a web framework; only the client, the commands and the demo an HTTP client.

    So does the exchange of tokens for a catalog, with the client that pyiceberg asks catalogs with.
    """
    web = {"quart", "quart_trio", "quart_schema", "hypercorn", "werkzeug", "h11", "h2"}
    for path in MODULES:
        found = {imported.split(".")[0] for imported in imports_of(path)}
        assert part_of(path) == "http" or not web & found, name(path)
        clients = {"httpx"} if node_of(path) == "tables/callers" else {"httpx", "requests"}
        assert part_of(path) in {"cli", "client", "demo"} or not clients & found, name(path)


def test_imports_go_down_the_layers() -> None:
    """A module imports only its own folder or a lower one."""
    wrong = [
        f"{name(path)} imports {module_of(target)}"
        for path in MODULES
        for target in targets_of(path)
        if LAYERS.index(node_of(path)) > LAYERS.index(node_of(target))
    ]
    assert [] == wrong


def test_no_import_goes_in_a_circle() -> None:
    """No module reaches itself by its imports, type-checking imports included."""
    following = {path: {target for target in targets_of(path) if target != path} for path in MODULES}
    done: set[Path] = set()

    def visit(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, " -> ".join(name(step) for step in (*way[way.index(path) :], path))
        if path not in done:
            for target in sorted(following[path]):
                visit(target, (*way, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


def test_every_folder_has_its_layer() -> None:
    """:data:`LAYERS` lists exactly the folders and modules that exist."""
    assert sorted(LAYERS) == sorted({node_of(path) for path in MODULES})


def test_a_folder_answers_one_question() -> None:
    """No folder has more than twelve modules; that of migrations has one for each change of the schema."""
    modules_of_folders = [
        path for path in MODULES if path.stem != "__init__" and path.parent.name != "versions"
    ]
    folders = Counter(name(path.parent) for path in modules_of_folders)
    assert [] == [folder for folder, modules in folders.items() if modules > FOLDER_MODULES]


def test_nothing_below_tenants_knows_tenants() -> None:
    """Tables, cache, artifacts and work import no tenants, auth or ACL: they are given a directory."""
    for folder in ("tables", "cache", "artifacts", "work"):
        for path in (PACKAGE / folder).rglob("*.py"):
            for imported in imports_of(path):
                assert not imported.startswith(("strata.tenants", "strata.auth", "strata.acl")), name(path)


def test_catalogs_are_asked_in_threads_of_their_own() -> None:
    """Catalogs are called by `Resources.look`: in `ask` a silent one would hold the stores' threads."""
    shared = re.compile(r"\bask\(\s*[^()]*\bcatalogs\b")
    assert [] == [name(path) for path in MODULES if shared.search(path.read_text())]
    assert shared.search("await self.resources.ask(load, catalogs.load, ref)")


def test_nothing_is_timed_by_the_wall_clock() -> None:
    """Only timestamps use the wall clock: a limiter that did misjudged at every step of the clock."""
    stamps = {
        "strata/server/stores.py": {"time.time"},  # created_at and the like
        "strata/artifacts/servers/sql_servers.py": {"time.time"},  # by how much the database is ahead
        "strata/cache/packs.py": {"time.time_ns"},  # names in order of age, across restarts
        "strata/tenants/budgets/cache_sharing.py": {
            "time.time_ns"
        },  # compared with file times of earlier runs
        "strata/checks/surroundings.py": {"time.time"},  # is a certificate over
        "strata/server/schema.py": {"time.time"},  # by how much the database's clock is ahead
        "strata/server/reload.py": {"time.time"},  # the same
        "strata/http/api/administration.py": {"time.time"},  # start times shown to operators
        "strata/executor/protocol/signed_urls.py": {"time.time"},  # expires_at, once
        "strata/tables/callers/token_exchange.py": {"time.time"},  # the end of a signed token
        "strata/cli/notebook.py": {"dt.datetime.now"},  # created_at of a directory
        "strata/client/wire.py": {"dt.datetime.now"},  # Retry-After may be an HTTP date
    }
    clocks = re.compile(r"\b(?:time\.time(?:_ns)?|(?:dt\.)?(?:datetime|date)\.(?:utcnow|now|today))\b")
    found = {name(path): set(clocks.findall(path.read_text())) for path in MODULES}
    assert stamps == {path: uses for path, uses in found.items() if uses}


def test_no_package_registry_and_no_machine_is_named() -> None:
    """The repository names no host of a package registry and no path of a machine."""
    hosts = re.compile(r"https?://[a-z0-9.-]*(?:pythonhosted|npmjs|[/.]py" + "pi)[.]", re.IGNORECASE)
    paths = re.compile(r"(?:^|[^A-Za-z0-9_.-])/(?:wor" + r"k|far" + r"m|roo" + r"t)/", re.MULTILINE)
    for path, text in texts():
        assert not hosts.search(text), name(path)
        assert not paths.search(text), name(path)


def test_tests_mirror_the_package() -> None:
    """Every folder of the package has its folder of tests."""
    folders = {part_of(path) for path in MODULES if path.parent != PACKAGE}
    assert set() == {folder for folder in folders if not list((ROOT / "tests" / folder).rglob("test_*.py"))}


def test_every_test_states_its_promise() -> None:
    """Every test has a docstring."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{name(path)}: {node.name}"


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    """The version in pyproject.toml is released, or the changelog has an entry for it."""
    version = strata.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    unreleased = re.search(r"^## Unreleased\n(.+?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    assert unreleased is not None
    assert f"## {version}" in changelog or "- " in unreleased[1]

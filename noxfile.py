"""Everything that can be run in this repository, one session each: ``nox --list``.

Sessions that run Strata install it as its users do, as a wheel, and then see to it that the checkout is not
on the import path (``PYTHONSAFEPATH``): what passes here is what was packaged.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
EXTRAS = ",".join(sorted(PYPROJECT["project"]["optional-dependencies"]))

# The oldest and the newest interpreter: pip resolves Quart and Quart-Trio to different lines on them.
FAST_PYTHONS = ["3.11", "3.13"]

# Programs that are no Python packages, by the Debian package that has them. Tests drive the real ones.
PROGRAMS = {"nginx": "nginx", "promtool": "prometheus"}

CHECK_INSTALLED = """
import strata, sysconfig
assert strata.__file__.startswith(sysconfig.get_path("purelib")), strata.__file__
"""

LINTED = ["strata", "tests", "bench", "noxfile.py"]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of ``pyproject.toml``."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def install(session: nox.Session, *groups: str) -> None:
    """Install the built package with its extras, and dependency groups, in one resolution."""
    session.install(f".[{EXTRAS}]", *(requirement for name in groups for requirement in group(name)))


def need_programs(session: nox.Session) -> None:
    """Stop with the command that helps, rather than in the middle of the suite, when a program is missing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None]
    if packages:
        session.error(f"the tests need programs that are missing here: apt-get install {' '.join(packages)}")


def isolated(session: nox.Session) -> dict[str, str]:
    """Return the environment of a session that must see the installed package only; fail if it does not."""
    env = {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    session.run("python", "-c", CHECK_INSTALLED, env=env)
    return env


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
def tests(session: nox.Session) -> None:
    """Run the full suite on the interpreter that runs nox, with the coverage of lines and branches."""
    need_programs(session)
    install(session, "test")
    env = isolated(session)
    # Not session.create_tmp(): it moves TMPDIR to where other users (PostgreSQL's) cannot go.
    data = Path(session.virtualenv.location) / "coverage" / f"data-{platform.python_version()}"
    data.parent.mkdir(exist_ok=True)
    env["COVERAGE_FILE"] = str(data)
    for old in data.parent.glob(f"{data.name}*"):
        old.unlink()
    session.run("coverage", "run", "-m", "pytest", "-m", "not nightly", *session.posargs, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    session.run("coverage", "report", env=env)


@nox.session(python=FAST_PYTHONS)
def tests_fast(session: nox.Session) -> None:
    """Run what takes no seconds: the tests that are neither slow nor nightly."""
    need_programs(session)
    install(session, "test")
    session.run("pytest", "-m", "not slow and not nightly", *session.posargs, env=isolated(session))


@nox.session
def nightly(session: nox.Session) -> None:
    """Run what takes minutes: properties on 2,000 examples, of the access rules on 100,000."""
    need_programs(session)
    install(session, "test")
    env = isolated(session)
    marked = ("pytest", "-m", "nightly or hypothesis", *session.posargs)
    session.run(*marked, "--ignore=tests/acl", env=env | {"HYPOTHESIS_PROFILE": "nightly"})
    session.run(*marked, "tests/acl", env=env | {"HYPOTHESIS_PROFILE": "thorough"})


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the server against bare libraries side by side; `-- --help` lists the options."""
    session.install(f".[{EXTRAS}]")
    isolated(session)
    # Its own modules are found beside the script; the servers it starts run under PYTHONSAFEPATH.
    session.run("python", "bench/run.py", *session.posargs)


@nox.session
def bench_neighbours(session: nox.Session) -> None:
    """Measure what a tenant's neighbours do to it; `-- --help` lists the options."""
    session.install(f".[{EXTRAS}]")
    isolated(session)
    session.run("python", "bench/neighbours.py", *session.posargs)


@nox.session
def bench_acl(session: nox.Session) -> None:
    """Measure one decision of the access rules beside Cedar and casbin; `-- --help` lists the options."""
    install(session, "bench-acl")
    isolated(session)
    session.run("python", "bench/acl.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documentation: references are current, links resolve, and every code block is run."""
    need_programs(session)
    install(session, "test")
    generated = [
        "tests/config/test_settings.py::test_the_settings_reference_is_the_settings",
        "tests/service/test_metrics.py::test_the_metrics_reference_is_the_metrics",
    ]
    session.run("pytest", "tests/docs", *generated, *session.posargs, env=isolated(session))

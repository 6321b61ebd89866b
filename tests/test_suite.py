"""The suite's own rules: a missing program is installed or named, CI skips nothing, and what measures runs alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import programs
import pytest

SUPPORT = Path(__file__).parent / "support"

SKIPS = {
    "test_tests.py": """
import pytest

def test_by_itself():
    pytest.skip("no moon")

@pytest.mark.skip(reason="no moon")
def test_by_a_mark(): pass

@pytest.fixture
def moon():
    pytest.skip("no moon")

def test_by_a_fixture(moon): pass

@pytest.mark.xfail(reason="it is known")
def test_that_is_expected_to_fail():
    assert False
""",
    "test_module.py": "import pytest\npytest.skip('no moon', allow_module_level=True)\n",
}


@pytest.fixture
def bare(tmp_path: Path, monkeypatch) -> Path:
    """A machine on which no program is installed, and a folder that its path names."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "SYSTEM", ())
    monkeypatch.setattr(programs, "POSTGRESQL", tmp_path / "postgresql")
    programs.install.cache_clear()
    yield tmp_path
    programs.install.cache_clear()


def script(path: Path, text: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


def skipped(program: str) -> str:
    with pytest.raises(pytest.skip.Exception) as found:
        programs.need(program)
    return str(found.value)


def test_a_program_is_found_where_it_is(bare: Path) -> None:
    """On the path first, else with the newest PostgreSQL: 15 is newer than 9.6."""
    script(bare / "postgresql" / "9.6" / "bin" / "initdb")
    newest = script(bare / "postgresql" / "15" / "bin" / "initdb")
    assert newest == programs.need("initdb")
    ours = script(bare / "initdb")
    assert ours == programs.need("initdb")


def test_a_program_that_cannot_be_installed_skips_with_its_package(bare: Path, monkeypatch) -> None:
    """One line: without apt-get, without root, and where apt-get fails."""
    assert "promtool is missing: apt-get install prometheus (there is no apt-get here)" == skipped("promtool")

    script(bare / "apt-get", "import sys; print('a line'); print('E: no such luck'); sys.exit(100)")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    programs.install.cache_clear()
    assert "promtool is missing: apt-get install prometheus (which takes root)" == skipped("promtool")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "LOCKED", bare)
    programs.install.cache_clear()
    expected = "nginx is missing: apt-get install nginx (apt-get update failed: E: no such luck)"
    assert expected == skipped("nginx")


def test_apt_get_that_hangs_is_ended(bare: Path, monkeypatch) -> None:
    """A mirror that is silent costs the test that needs it, not the run."""
    script(bare / "apt-get", "import signal; signal.pause()")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "LOCKED", bare)
    monkeypatch.setattr(programs, "INSTALL_SECONDS", 0.1)
    assert "(apt-get update took longer than 0.1 seconds)" in skipped("nginx")


def test_root_installs_a_missing_program_once(bare: Path, monkeypatch) -> None:
    """The lists first, then the package, asking nothing; a second test finds it there."""
    log = bare / "log"
    script(
        bare / "apt-get",
        "import os, pathlib, sys\n"
        f"print(os.environ['DEBIAN_FRONTEND'], *sys.argv[-4:], file=open({str(log)!r}, 'a'))\n"
        f"program = pathlib.Path({str(bare / 'nginx')!r})\n"
        "if 'install' in sys.argv: program.touch(); program.chmod(0o755)\n",
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "LOCKED", bare)
    assert [str(bare / "nginx")] * 2 == [programs.need("nginx"), programs.need("nginx")]
    update, install = log.read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert install == "noninteractive install -y --no-install-recommends nginx"


@pytest.mark.parametrize(("ci", "status", "failed"), [("true", 1, 4), ("", 0, 0)])
def test_ci_allows_no_skip(tmp_path: Path, ci: str, status: int, failed: int) -> None:
    """By a mark, a fixture, a test or a whole module: in CI it fails and says its reason; elsewhere it passes."""
    for name, text in SKIPS.items():
        (tmp_path / name).write_text(text)
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no_skips", "-p", "no:cacheprovider",
         "--continue-on-collection-errors", "."],
        env=os.environ | {"CI": ci, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert status == done.returncode, done.stdout
    assert failed == done.stdout.count("\nCI allows no skip: no moon"), done.stdout
    assert "1 xfailed" in done.stdout, done.stdout


TRIES = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range({failures}))
def test_first(number):
    tried = pathlib.Path(str(number))
    first = not tried.exists()
    tried.touch()
    assert not first

def test_that_stays_broken():
    assert 'broken' != '{broken}'

def test_that_passes(): pass
"""


@pytest.mark.parametrize(
    ("failures", "broken", "status", "said"),
    [
        (5, None, 0, "FLAKY test_tries.py::test_first[4]: failed beside other tests, and passes alone"),
        (6, None, 4, "6 tests failed: at most 5 have a second try"),
        (1, "broken", 1, "1 failed, 1 passed"),
    ],
)
def test_a_second_try_is_for_few_tests(
    tmp_path: Path, failures: int, broken: str | None, status: int, said: str
) -> None:
    """What passes then is named; what fails again, and many failures, stay failures."""
    (tmp_path / "test_tries.py").write_text(TRIES.format(failures=failures, broken=broken))
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "second_try", *options, "."],
            env=os.environ | environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert run().returncode == 1
    again = run("--second-try")
    assert (status, True) == (again.returncode, said in again.stdout + again.stderr), again


@pytest.mark.parametrize(
    ("share", "kept"),
    [("no", ["b1", "b3", "a1"]), ("only", ["a2", "b2"]), (None, ["a1", "a2", "b1", "b2", "b3"])],
)
def test_what_measures_the_machine_runs_alone_and_slow_files_begin(
    pytestconfig, share: str | None, kept: list[str]
) -> None:
    """Every test is on one side of ``--alone``; side by side the slow files come first, in their own order."""
    marks = {"a1": (), "a2": ("alone",), "b1": (), "b2": ("alone",), "b3": ("slow",)}
    items = [
        SimpleNamespace(name=name, path=name[0], get_closest_marker=dict.fromkeys(its, True).get)
        for name, its in marks.items()
    ]
    dropped: list[SimpleNamespace] = []

    def deselected(items: list[SimpleNamespace]) -> None:
        dropped.extend(items)

    config = SimpleNamespace(
        getoption={"--alone": share}.get,
        hook=SimpleNamespace(pytest_deselected=deselected),
    )
    conftest = pytestconfig.pluginmanager.get_plugin(str(Path(__file__).parent / "conftest.py"))
    conftest.pytest_collection_modifyitems(config, items)
    assert kept == [item.name for item in items]
    assert sorted(marks) == sorted(item.name for item in [*items, *dropped])

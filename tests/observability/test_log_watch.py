"""The suite's watch over its own logs: it finds secrets, and fails the test that logged them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from log_watch import MARK, TOKENS, leaks

SUPPORT = Path(__file__).parents[1] / "support"

CASES = {
    "a structlog event below every level": "structlog.get_logger('strata.x').debug('read', name='{secret}')",
    "what is bound to the context": "structlog.contextvars.bind_contextvars(who='{secret}'); structlog.get_logger().info('x')",
    "a library's record": "logging.getLogger('lib').warning('asked for %s', '{secret}')",
    "the log of a server": "service_kit.watch.note(pathlib.Path('{file}').read_text())",
    "our own lines once logging is set up": "logs.configure('DEBUG', 'json', io.StringIO()); structlog.get_logger('strata.x').warning('y', key='{secret}')",
}


@pytest.mark.parametrize("secret", [f"{MARK}-7", *TOKENS])
def test_a_secret_is_found_with_what_stands_around_it(secret: str) -> None:
    """A secret is found anywhere in a text."""
    (leak,) = leaks(f"{'.' * 200}name={secret};{'.' * 200}")
    assert f"name={secret};" in leak
    assert [] == leaks("a row, a token and a name")


def run(tmp_path: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """Run a test of these lines in a pytest of its own, with the plugin."""
    imports = (
        "import io, logging, pathlib, structlog\nimport service_kit\nfrom strata.observability import logs\n"
    )
    test = tmp_path / "test_generated.py"
    test.write_text(f"{imports}def test_it():\n" + "".join(f"    {line}\n" for line in lines))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "log_watch",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:schemathesis",
        "--import-mode=importlib",
        str(test),
    ]
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_test_that_logs_a_secret_fails(tmp_path: Path, case: str) -> None:
    """It fails for every kind of logger."""
    (tmp_path / "server.log").write_text(f'{{"event": "request", "token": "{TOKENS[0]}"}}\n')
    done = run(tmp_path, CASES[case].format(secret=f"{MARK}-row", file=tmp_path / "server.log"))
    assert 1 == done.returncode, done.stdout
    assert "secrets were logged, 1 in all" in done.stdout, done.stdout


@pytest.mark.slow
def test_an_exceptions_message_is_not_in_its_log_line(tmp_path: Path) -> None:
    """A crash that names a row's value fails no test, as its message is not logged."""
    done = run(
        tmp_path,
        "try:",
        "    raise ValueError('s3cr' + '3t')",
        "except ValueError:",
        "    structlog.get_logger('strata.x').exception('crashed')",
    )
    assert 0 == done.returncode, done.stdout

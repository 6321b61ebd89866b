"""The suite's watch over its own logs: it finds secrets, and fails the test that logged them."""

from __future__ import annotations

import os
import re
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

QUIET = """\
    try:
        raise ValueError('s3cr' + '3t')
    except ValueError:
        structlog.get_logger('strata.x').exception('crashed')
"""


@pytest.mark.parametrize("secret", [f"{MARK}-7", *TOKENS])
def test_a_secret_is_found_with_what_stands_around_it(secret: str) -> None:
    """A secret is found anywhere in a text."""
    (leak,) = leaks(f"{'.' * 200}name={secret};{'.' * 200}")
    assert f"name={secret};" in leak
    assert [] == leaks("a row, a token and a name")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run a test of each case in a pytest of its own, with the plugin; returns what it says of each."""
    place = tmp_path_factory.mktemp("watched")
    log = place / "server.log"
    log.write_text(f'{{"event": "request", "token": "{TOKENS[0]}"}}\n')
    imports = (
        "import io, logging, pathlib, structlog\nimport service_kit\nfrom strata.observability import logs\n"
    )
    # A line that stays bound, or logging that is set up, is not for the next test.
    clean = "import pytest\n@pytest.fixture(autouse=True)\ndef as_before():\n    before = structlog.get_config()\n    yield\n"
    clean += "    structlog.contextvars.clear_contextvars()\n    structlog.configure(**before)\n"
    lines = [case.format(secret=f"{MARK}-row", file=log) for case in CASES.values()]
    tests = [f"def test_{at}():\n    {line}\n" for at, line in enumerate(lines)]
    (place / "test_generated.py").write_text(f"{imports}{clean}{''.join(tests)}def test_quiet():\n{QUIET}")
    options = ["-v", "-p", "log_watch", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--import-mode=importlib", "test_generated.py"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 1 == done.returncode, done.stdout + done.stderr
    assert "test_quiet PASSED" in done.stdout
    parts = re.split(r"^_+ ERROR at teardown of test_(\w+) _+$", done.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_test_that_logs_a_secret_fails(outcomes: dict[str, str], case: str) -> None:
    """It fails for every kind of logger."""
    assert "secrets were logged, 1 in all" in outcomes[str([*CASES].index(case))]


@pytest.mark.slow
def test_an_exceptions_message_is_not_in_its_log_line(outcomes: dict[str, str]) -> None:
    """A crash that names a row's value fails no test, as its message is not logged."""
    assert {str(at) for at in range(len(CASES))} == outcomes.keys()

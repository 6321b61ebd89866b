"""A second try for what failed beside other tests: a few tests, one at a time, and named.

A pytest plugin. With ``--second-try``, pytest runs what its cache has as failed. More than :data:`MOST` tests are a
usage error. What passes now is printed: processes, browsers and threads on a busy machine have decided
it, and it is to be mended all the same.
"""

from __future__ import annotations

from typing import Final

import pytest

MOST: Final = 5
"""Tests that have a second try."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--second-try", action="store_true", help="run once more the few tests that have failed")


# First, since it needs the cache's own options before they are read.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose what has failed, and nothing if nothing has."""
    if config.getoption("second_try"):
        config.option.lf, config.option.last_failed_no_failures = True, "none"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse more than a few tests.

    Raises:
        pytest.UsageError: If they are too many.
    """
    if not session.config.getoption("second_try"):
        return
    if len(session.items) > MOST:
        raise pytest.UsageError(f"{len(session.items)} tests failed: at most {MOST} have a second try")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what failed beside others and passes by itself."""
    if not config.getoption("second_try"):
        return
    for report in terminalreporter.stats.get("passed", []):
        terminalreporter.write_line(f"FLAKY {report.nodeid}: failed beside other tests, and passes alone")

"""For all tests: Hypothesis' profiles, an ear to the logs, the event loop's budget, and no skip in CI.

``ci`` is derandomized and small, ``nightly`` is large, ``thorough`` is for what decides in microseconds; HYPOTHESIS_PROFILE chooses.
"""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["log_watch", "loop_budget", "no_skips", "postgres_kit", "schema_at_once", "second_try"]

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile("ci", max_examples=60, derandomize=True, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("thorough", max_examples=100_000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# structlog's own renderer has rich draw every local variable: a minute of it, and thousands of lines, for an
# actor that crashes while the machine is busy. Strata's renderers do not.
structlog.get_config()["processors"][-1].exception_formatter = structlog.dev.plain_traceback


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a test's command configures: its level would drop the lines that the next test expects."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--alone",
        choices=["no", "only"],
        help="leave out the tests that need the machine alone, or run only those",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose by ``--alone``, whatever ``-m`` chooses besides; side by side, begin with the files that take longest."""
    if (share := config.getoption("--alone")) is None:
        return
    sides: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        sides[(share == "only") == (item.get_closest_marker("alone") is not None)].append(item)
    slow = {item.path for item in sides[True] if item.get_closest_marker("slow") is not None}
    items[:] = sorted(sides[True], key=lambda item: item.path not in slow)
    if sides[False]:
        config.hook.pytest_deselected(items=sides[False])

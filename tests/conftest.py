"""For all tests: Hypothesis' profiles, an ear to the logs, and no skip in CI.

``ci`` is derandomized and small, ``nightly`` is large, ``thorough`` is for what decides in microseconds; HYPOTHESIS_PROFILE chooses.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["log_watch", "no_skips"]

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "ci", max_examples=100, derandomize=True, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("thorough", max_examples=100_000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--alone",
        choices=["no", "only"],
        help="leave out the tests that need the machine alone, or run only those",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose by ``--alone``, whatever ``-m`` chooses besides."""
    if (share := config.getoption("--alone")) is None:
        return
    sides: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        sides[(share == "only") == (item.get_closest_marker("alone") is not None)].append(item)
    items[:] = sides[True]
    if sides[False]:
        config.hook.pytest_deselected(items=sides[False])

"""For all tests: Hypothesis' profiles, an ear to the logs, and no skip in CI.

``ci`` is derandomized and small, ``nightly`` is large, ``thorough`` is for what decides in microseconds; HYPOTHESIS_PROFILE chooses.
"""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["log_watch", "no_skips"]

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "ci", max_examples=100, derandomize=True, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile("nightly", max_examples=2000, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("thorough", max_examples=100_000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

"""The measurement of a scrape runs and reports its figures."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "metrics.py"


def test_the_measurement_of_a_scrape_says_what_it_measured() -> None:
    """One line of JSON; the figures depend on the machine."""
    found = subprocess.run(
        [sys.executable, str(BENCH), "20"], capture_output=True, text=True, check=True, timeout=120
    )

    figures = json.loads(found.stdout)
    assert 20 == figures["tenants"]
    assert {
        "bytes",
        "median_ms",
        "worst_ms",
        "longest_hold_cpu_ms",
        "longest_hold_ms",
        "longest_hold_ms_alone",
    } < set(figures)

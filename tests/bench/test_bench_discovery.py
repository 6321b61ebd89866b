"""The benchmark of discovery runs end to end: each listing is whole, and has its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_each_listing_is_measured_and_whole() -> None:
    """Few tables; a listing with other than all of them would end the run."""
    command = [sys.executable, str(BENCH / "discovery.py"), "--runs", "1", "--json"]
    done = subprocess.run(
        [*command, "--namespaces", "6", "--tables", "50", "--pages", "2"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    found = json.loads(done.stdout)["figures"]
    assert 4 == len([one for one in found if not one["name"].startswith("beside")])
    assert all(one["median"] > 0 for one in found)

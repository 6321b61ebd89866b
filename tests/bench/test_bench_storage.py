"""The benchmark of a tenant that fills the disk runs end to end: its quota held, and its neighbour was served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.nightly
@pytest.mark.alone
def test_a_tenant_stays_within_its_quota_and_its_neighbour_is_served() -> None:
    """Two seconds of writing, on the real disk; speeds do not count."""
    done = subprocess.run(
        [
            sys.executable, str(BENCH / "storage.py"), "--rows", "20000", "--result-rows", "10000", "--quota-mb", "8",
            "--runs", "1", "--seconds", "2", "--alone-seconds", "1", "--json",
        ],
        capture_output=True, text=True, check=False, timeout=600,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert 0 == found["requests of B that were refused or failed"]
    disk, *others = found["figures"]
    assert 0 < disk["median"] <= disk["baseline_median"]
    assert 5 == len(others)
    assert all(one["median"] > 0 for one in others)

"""The benchmark of finished results runs end to end, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from postgres_kit import dsn, new_database

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.nightly
@pytest.mark.alone
def test_each_figure_is_measured(postgresql: str) -> None:
    """Few results: what is not found, listed in full or a hit would end the run."""
    done = subprocess.run(
        [
            sys.executable, str(BENCH / "results.py"), "--rows", "20000", "--results", "300", "--few", "200",
            "--count", "100", "--hits", "1", "--runs", "1", "--json", "--dsn", dsn(new_database(postgresql)),
        ],
        capture_output=True, text=True, check=False, timeout=600,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-4000:]
    found = json.loads(done.stdout)["figures"]
    assert 4 == len(found)
    assert all(one["median"] > 0 for one in found)

"""The benchmark of long lists runs end to end: each list is whole, and the steps of the server are noted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_each_list_is_whole_and_its_longest_step_is_known() -> None:
    """Short lists; one with other than all of its lines would end the run."""
    sizes = ("--tenants", "120", "--results", "150", "--tables", "200")
    done = subprocess.run(
        [sys.executable, str(BENCH / "lists.py"), "--runs", "1", "--json", *sizes],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    found = {one["name"]: one["median"] for one in json.loads(done.stdout)["figures"]}
    assert {"tenants", "results", "tables", "results, with access rules"} <= found.keys()
    assert max(found.values()) > 0

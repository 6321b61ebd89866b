"""The benchmark of pages runs end to end: each view is loaded, and the grid scrolls, in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import need

from strata.ui import installed_pages

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
@pytest.mark.nightly
def test_each_view_is_loaded_and_the_grid_scrolls() -> None:
    """A small table; a grid with other than all of its rows would end the run."""
    need("chromium")
    if installed_pages() is None:
        pytest.skip("the pages are not installed here: install the wheel")
    done = subprocess.run(
        [
            sys.executable,
            str(BENCH / "pages.py"),
            "--runs",
            "1",
            "--json",
            "--rows",
            "5000",
            "--columns",
            "40",
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    found = {one["name"]: one["median"] for one in json.loads(done.stdout)["figures"]}
    assert found["data: painted"] <= found["data: interactive"]
    assert found["scrolled all rows: frames"] > 0
    assert found["scrolled by the wheel: longest task"] > 0

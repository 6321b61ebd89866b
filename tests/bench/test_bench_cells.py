"""The benchmark of cells runs and reports its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "cells.py"


def test_the_benchmark_of_cells_says_what_it_measured() -> None:
    """Each scene checks its results; the figures depend on the machine."""
    found = subprocess.run(
        [sys.executable, str(BENCH), "--clicks", "2", "--bytes", "800000", "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )

    assert 0 == found.returncode, found.stderr[-4000:]
    names = [one["name"] for one in json.loads(found.stdout)["figures"]]
    assert [
        "click to result, computed",
        "click to result, reused",
        "growth of the server, 1 MB from cell to cell",
    ] == names

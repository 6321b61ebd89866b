"""The benchmark of shapes runs end to end: the same rows as pyiceberg's, and a figure of each shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_each_shape_is_measured_beside_pyiceberg(tmp_path: Path) -> None:
    """Tables of a hundredth; a scan that gave other rows than pyiceberg would end the run."""
    command = [sys.executable, str(BENCH / "shapes.py"), "--divide", "100", "--runs", "1", "--json"]
    done = subprocess.run(
        [*command, "--data", str(tmp_path / "tables")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    found = json.loads(done.stdout)["figures"]
    shapes = [one for one in found if one["unit"] == "ms" and one["baseline"].startswith("pyiceberg")]
    assert 6 == len(shapes)
    assert all(one["ratio"] > 0 for one in found)

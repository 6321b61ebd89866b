"""The benchmark of transforms runs end to end, and has a figure for each of its aims."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SMALL = (
    *("--rows", "20000", "--large-rows", "20000", "--runs", "1"),
    *("--builds", "3", "--seconds", "1", "--threads", "1"),
)


@pytest.mark.slow
def test_queries_have_their_figures(tmp_path: Path) -> None:
    """Of a small table, which says nothing about the aims."""
    found = figures_of(tmp_path, "start", "queries")
    assert {"aggregate", "join", "warm start of a build"} < {one["name"] for one in found}
    assert 4 == len(found)


@pytest.mark.nightly
def test_neighbours_and_large_results_have_their_figures(tmp_path: Path) -> None:
    """Of a small table, too."""
    assert 5 == len(figures_of(tmp_path, "neighbours", "large"))


def figures_of(directory: Path, *scenes: str) -> list[dict]:
    """Run scenes and return their figures, of which each has an aim."""
    chosen = [part for scene in scenes for part in ("--scene", scene)]
    done = subprocess.run(
        [
            sys.executable,
            str(BENCH / "transforms.py"),
            *SMALL,
            *chosen,
            "--directory",
            str(directory),
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    found = json.loads(done.stdout)["figures"]
    assert all(one["aim"] and one["median"] >= 0 for one in found)
    return list(found)

"""The benchmark of large results runs by every way, and each way gives the whole result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import need

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.nightly
def test_every_way_gives_the_whole_result() -> None:
    """A way with fewer bytes would end the run; the aims are of the accelerated way alone."""
    need("nginx")
    pytest.importorskip("moto", reason="moto is a test dependency")
    command = [sys.executable, str(BENCH / "delivery.py"), "--runs", "1", "--json", "--rows", "20000"]
    done = subprocess.run(
        [*command, "--requests", "2"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # Its own modules are found beside the script.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
    )
    assert 0 == done.returncode, done.stderr[-4000:]
    found = {(one["name"], one["baseline"]): one for one in json.loads(done.stdout)["figures"]}
    assert {
        ("nginx, accelerated", "nginx, static file"),
        ("nginx", "nginx, static file"),
        ("Strata", "bare socket"),
        ("nginx, from the bucket", "the bucket"),
    } <= found.keys()
    assert all(one["median"] > 0 for (name, _), one in found.items() if "processor" not in name)
    assert "≥ 0.95" == found["nginx, accelerated", "nginx, static file"]["aim"]

"""The benchmark of small requests runs by every way, and judges its aim by what the machine's cores allow."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from programs import need

BENCH = Path(__file__).parents[2] / "bench"
WAYS = {
    "direct", "direct, one round trip", "direct, two servers",
    "nginx", "nginx, one round trip", "nginx, accelerated", "nginx, two servers",
}  # fmt: skip


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("pairs", "servers", "tables", "wire", "workload"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("pairs")


def samples(pairs: ModuleType, rate: float, server: float, client: float, others: float = 0.0) -> object:
    one = [1.0]
    return pairs.Samples([rate], one, one, [server], [0.0], [client], [others])


def test_the_bound_is_what_the_cores_allow(pairs: ModuleType) -> None:
    """Of two cores, clients that take a quarter of a pair's time leave two servers 1.6 of them."""
    one = samples(pairs, 1000, 1.0, 0.25)
    assert 1.6 == pairs.bound(samples(pairs, 1500, 1.0, 0.25), one, 2)
    assert 2.0 == pairs.bound(samples(pairs, 1900, 1.0, 0.25), one, 8)


def test_an_aim_that_the_machine_does_not_allow_is_said_to_be_out_of_reach(pairs: ModuleType) -> None:
    """With the bound beside it, never as missed; where the cores allow it and are free, it is met or missed."""
    found = {("direct", 8): samples(pairs, 1000, 1.0, 0.25)}
    for rate, cores, others, verdict in (
        (1500, 2, 0.0, "1.50; these cores allow 1.60: cannot be shown here"),
        (1500, 4, 0.0, "1.50; these cores allow 2.00: missed"),
        (1750, 4, 0.1, "1.75; these cores allow 2.00: met"),
        (1750, 2, 0.0, "1.75; these cores allow 1.60: met"),
        (1750, 4, 1.5, "1.75; these cores allow 2.00: cannot be shown here, other programs had 1.50 cores"),
    ):
        found["direct, two servers", 8] = samples(pairs, rate, 1.0, 0.25, others)
        assert [f"direct, two servers, 8 clients: {verdict}"] == pairs.aims(found, cores)
        assert verdict in pairs.report(found, cores)


@pytest.mark.nightly
def test_every_way_is_measured() -> None:
    """Clients, nginx and four servers run; each way answers pairs, and processor time is measured with them."""
    need("nginx")
    command = [sys.executable, str(BENCH / "pairs.py"), "--runs", "1", "--seconds", "0.2", "--clients", "3"]
    # Its own modules are found beside the script.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=False, timeout=500, env=env
    )
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert WAYS == {one["way"] for one in found["samples"]}
    assert all(one["rate"][0] > 0 and one["client"][0] > 0 for one in found["samples"])
    assert ["direct, two servers", "nginx, two servers"] == sorted(
        line.partition(", 3 clients")[0] for line in found["aims"]
    )

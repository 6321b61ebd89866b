"""What `strata demo` prints to try runs as it is printed, and rows of the data are shown."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import need

SECONDS = 120.0


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[str]:
    """Start a demo on free ports; return all that it printed before it waits."""
    ports = [word for name in ("", "user-", "admin-") for word in (f"--{name}port", "0")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRATA_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "strata", "demo", "--data", str(tmp_path / "d"), *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment | {"PYTHONSAFEPATH": "1"},
    )
    assert process.stdout is not None
    found, deadline = b"", time.monotonic() + SECONDS
    try:
        while b"Ctrl-C ends it." not in found:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(process.stdout.fileno(), 65536) if ready else b""
            assert part, found.decode(errors="replace")
            found += part
        yield found.decode()
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.slow
def test_what_there_is_to_try_runs_as_it_is_printed(printed: str, tmp_path: Path) -> None:
    """Each command succeeds in a shell, in their order, and shows what it promises."""
    rows, _, hints = printed.partition("ry it in another terminal")
    assert "First rows of demo:nyc.flights" in rows
    lines = [line[2:] for line in hints.splitlines() if line.startswith("  ")]
    assert [3, 2] == [sum(word in line for line in lines) for word in ("strata ", "curl")]
    script = "\n".join(['set -eu; strata() { "$PYTHON" -m strata "$@"; }', *lines])
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [need("bash"), "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert "demo:nyc.flights\ttable" in done.stdout
    assert "year\tmonth\tday" in done.stdout
    assert "there is no demo:internal.delays" in done.stdout
    assert "demo-admin of tenant demo-team may read all of demo:internal.delays." in done.stdout
    assert '"total_count":1,' in done.stdout  # the one that the demo's checks made for the other tenant

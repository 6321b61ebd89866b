"""Effects of the machine on a measurement."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAT = Path("/proc/stat")
STEAL = 8
"""Index of the word with stolen time in the first line of ``/proc/stat`` (proc(5)): ticks over all cores."""


def stolen_seconds(stat: Path = STAT) -> float:
    """Return the seconds in which the host did not run this virtual machine although it was ready, all cores.

    Counted since the machine's start; 0.0 where the system does not count it. A pause of the whole machine is
    counted in part; anything measured during it took that much longer.
    """
    try:
        words = stat.read_text().split("\n", 1)[0].split()
        return int(words[STEAL]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


@contextmanager
def stolen(into: list[float]) -> Iterator[None]:
    """Append to ``into`` the share of the machine that the host took during the block, from 0.0 to 1.0."""
    before, began = stolen_seconds(), time.perf_counter()
    try:
        yield
    finally:
        granted = (time.perf_counter() - began) * (os.cpu_count() or 1)
        into.append((stolen_seconds() - before) / granted)

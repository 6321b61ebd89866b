"""What the machine does to a measurement, whatever is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STAT = Path("/proc/stat")
STEAL = 8
"""Which word of the first line of ``/proc/stat`` counts stolen time (proc(5)), in ticks over all cores."""


def stolen_seconds(stat: Path = STAT) -> float:
    """Return how long the host has not run this virtual machine though it wanted to, over all cores.

    Since it was started; 0.0 where nobody counts. What stops all of the machine shows here, if not to its
    full extent, and whatever was measured meanwhile took as much longer.
    """
    try:
        words = stat.read_text().split("\n", 1)[0].split()
        return int(words[STEAL]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


@contextmanager
def stolen(into: list[float]) -> Iterator[None]:
    """Add to ``into`` which share of the machine was stolen during the block, from 0.0 to 1.0."""
    before, began = stolen_seconds(), time.perf_counter()
    try:
        yield
    finally:
        granted = (time.perf_counter() - began) * (os.cpu_count() or 1)
        into.append((stolen_seconds() - before) / granted)

"""Check whether the disk has space for another result, at most once a second."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from strata.outcomes import Reason, Refused

SECONDS = 1.0
"""Seconds for which a measurement of the free bytes is used."""

FULL = Refused(
    Reason.UNAVAILABLE,
    "The server's disk is nearly full (disk_reserve_bytes): results can be read, and none can be built now.",
    code="storage_unavailable",
    retry_after=30,
)


def free_bytes(path: Path) -> int:
    """Return the bytes an unprivileged process may still write to a path's file system; blocking."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class DiskSpaceGuard:
    """Compares the free bytes of one file system with a reserve.

    Args:
        path: A directory of the file system.
        reserve: Bytes that must stay free; 0 disables the check.
        free: Returns the free bytes; blocking.
    """

    def __init__(self, path: Path, reserve: int, free: Callable[[Path], int] = free_bytes) -> None:
        self.reserve = reserve
        self._path = path
        self._look = free
        self._free = 0
        self._looked: float | None = None

    def known(self, now: float) -> bool:
        """Whether no new measurement is needed at ``now`` (Trio's clock)."""
        return not self.reserve or (self._looked is not None and now < self._looked + SECONDS)

    def look(self, now: float) -> None:
        """Measure the free bytes; blocking.

        Raises:
            OSError: If the file system cannot be asked.
        """
        self._free = self._look(self._path)
        self._looked = now

    @property
    def full(self) -> bool:
        """Whether less than the reserve was free at the last measurement."""
        return bool(self.reserve) and self._free < self.reserve

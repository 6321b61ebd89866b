"""Whether the disk has room for another result; looked at no more often than once a second."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from strata.outcomes import Reason, Refused

SECONDS = 1.0

FULL = Refused(
    Reason.UNAVAILABLE,
    "The server's disk is nearly full (disk_reserve_bytes): results can be read, and none can be built now.",
    code="storage_unavailable",
    retry_after=30,
)


def free_bytes(path: Path) -> int:
    """Return the bytes an ordinary process may still write to a path's file system."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


class DiskSpaceGuard:
    """The free bytes of one file system.

    Args:
        path: A directory on it.
        reserve: Bytes that must stay free; 0 to ask for none.
        free: Looks; blocking.
    """

    def __init__(self, path: Path, reserve: int, free: Callable[[Path], int] = free_bytes) -> None:
        self.reserve = reserve
        self._path = path
        self._look = free
        self._free = 0
        self._looked: float | None = None

    def known(self, now: float) -> bool:
        """Whether nobody needs to look again yet."""
        return not self.reserve or (self._looked is not None and now < self._looked + SECONDS)

    def look(self, now: float) -> None:
        """Look again; blocking."""
        self._free = self._look(self._path)
        self._looked = now

    @property
    def full(self) -> bool:
        """Whether there was less than the reserve when somebody looked."""
        return bool(self.reserve) and self._free < self.reserve

"""Check whether the disk has space for another result, and leaves some for other tenants."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from strata.outcomes import Reason, Refused

SECONDS = 1.0
"""Seconds for which a measurement of the free bytes is used."""

LOOK_BYTES = 8 * 1024 * 1024
"""Bytes written after which the disk is looked at again: others write to it, too."""

NEAR = 2
"""The disk nears its reserve when less than this multiple of the reserve is free."""

SHARE = 3
"""Most bytes of results that one tenant keeps, as a multiple of the bytes left to all tenants: with more, its
builds are refused, so that it fills at most three quarters of the disk."""

FULL = Refused(
    Reason.UNAVAILABLE,
    "The server's disk is nearly full (disk_reserve_bytes): results can be read, and none can be built now.",
    code="storage_unavailable",
    retry_after=30,
)


OVER_SHARE = Refused(
    Reason.UNAVAILABLE,
    f"The server's disk is getting full, and this tenant's results take more than {SHARE} times the bytes "
    "that are left: they can be read, and none can be built now.",
    code="storage_share",
    retry_after=30,
)


def free_bytes(path: Path) -> int:
    """Return the bytes an unprivileged process may still write to a path's file system; blocking."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def used_bytes(path: Path) -> int:
    """Return the used bytes of a path's file system; blocking."""
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


class DiskSpaceGuard:
    """Compares the free bytes of one file system with a reserve.

    Args:
        path: A directory of the file system.
        reserve: Bytes that must stay free; 0 disables the check.
        free: Returns the free bytes; blocking.
        used: Returns the used bytes; blocking.
        shared: Whether several tenants keep their results there.
    """

    def __init__(
        self,
        path: Path,
        reserve: int,
        free: Callable[[Path], int] = free_bytes,
        used: Callable[[Path], int] = used_bytes,
        *,
        shared: bool = False,
    ) -> None:
        self.reserve = reserve
        self._path = path
        self._look = free
        self._look_used = used
        self._shared = shared
        self._free = self._used = 0
        self._looked: float | None = None
        self._since = 0
        self._lock = threading.Lock()

    def known(self, now: float) -> bool:
        """Whether no new measurement is needed at ``now`` (Trio's clock)."""
        return not self.reserve or (self._looked is not None and now < self._looked + SECONDS)

    def look(self, now: float) -> None:
        """Measure the free bytes; blocking.

        Raises:
            OSError: If the file system cannot be asked.
        """
        self._measure()
        self._looked = now

    def _measure(self) -> None:
        free, used = self._look(self._path), self._look_used(self._path)
        with self._lock:
            self._free, self._used, self._since = free, used, 0

    def note_written(self, nbytes: int) -> None:
        """Count bytes that were written since the last measurement, or removed if negative; thread-safe."""
        with self._lock:
            self._free -= nbytes
            self._used += nbytes
            self._since += max(0, nbytes)

    def note_growth(self, nbytes: int) -> None:
        """Count bytes of a growing result; blocking, for every :data:`LOOK_BYTES` the disk is looked at.

        Raises:
            OSError: If the file system cannot be asked.
        """
        self.note_written(nbytes)
        if self.reserve and self._since >= LOOK_BYTES:
            self._measure()

    @property
    def free(self) -> int:
        """Free bytes at the last measurement, less what was written since."""
        return self._free

    def lacks(self, nbytes: int) -> bool:
        """Whether ``nbytes`` more would take of the reserve; not before the first measurement."""
        return bool(self.reserve) and self._looked is not None and self._free - nbytes < self.reserve

    def missing(self, nbytes: int) -> int:
        """Return the bytes to be removed before ``nbytes`` can be written."""
        return max(0, self.reserve + nbytes - self._free)

    @property
    def near(self) -> bool:
        """Whether the free bytes near the reserve."""
        return bool(self.reserve) and self._looked is not None and self._free < NEAR * self.reserve

    @property
    def missing_for_ease(self) -> int:
        """Bytes to be removed so that the free bytes do not near the reserve."""
        return max(0, NEAR * self.reserve - self._free)

    @property
    def share(self) -> int | None:
        """Most bytes of one tenant's results; None: no tenant can have more, whatever it keeps."""
        most = SHARE * max(0, self._free - self.reserve)
        return most if self._shared and self.reserve and self._used > most else None

    @property
    def full(self) -> bool:
        """Whether less than the reserve was free at the last measurement."""
        return self.lacks(0)

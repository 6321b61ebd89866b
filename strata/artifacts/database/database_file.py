"""Notice that the database's file was removed or replaced while it is open.

SQLite goes on with the file it has opened, also when that has no name any more: everything written from then
on would be lost at the next start, without a word.
"""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from strata.artifacts.database.contract import STORE_DOWN
from strata.outcomes import RefusalError

log = structlog.get_logger(__name__)


class DatabaseFile:
    """The file that a store has opened.

    Args:
        path: The file, which exists.

    Raises:
        OSError: If it cannot be examined.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = _identity(path)
        self._told = False

    def check(self, _connection: object = None) -> None:
        """Check that the path still names the opened file; takes two microseconds.

        Raises:
            RefusalError: UNAVAILABLE if it does not; the first time it is also logged.
        """
        try:
            same = _identity(self._path) == self._opened
        except OSError:  # missing, or its directory is
            same = False
        if not same:
            if not self._told:
                self._told = True
                log.error(
                    "metadata database was removed or replaced under the running server; put the file back, "
                    "or restart the server",
                    file=self._path.name,
                )
            raise RefusalError(STORE_DOWN)
        self._told = False


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116  # half the time of Path.stat, before every transaction
    return found.st_dev, found.st_ino

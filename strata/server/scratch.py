"""A directory for unfinished results and local copies, where the settings name none.

With an object store for results and a database server for metadata nothing of value is local. Each server
then has a directory of its own below the system's temporary one, and removes it when it ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

PREFIX = "strata-scratch-"
"""Beginning of the names of these directories."""

LOCK = "scratch.lock"
"""File in such a directory that its server keeps locked; the system unlocks it when the process dies."""

log = structlog.get_logger(__name__)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make a private directory and remove it afterwards, with those of servers that were killed. Blocking.

    Raises:
        OSError: If the temporary directory cannot be written; ``TMPDIR`` names another one.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    descriptor = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(descriptor)


def _remove_abandoned(parent: Path) -> None:
    """Remove the directories of this user's killed servers; those in use are locked."""
    for directory in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if directory.is_symlink() or directory.lstat().st_uid != os.geteuid():
                continue
            descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
                log.warning("removed the scratch directory of a killed process", directory=directory.name)
            finally:
                os.close(descriptor)

"""The walls around readers: what a file that has taken one over cannot do."""

from __future__ import annotations

import os
import resource
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import strata
from strata.sandbox import walls

NICENESS = 10
"""Nice levels of a reader below the server, as of its quanta's threads (``strata.work.threads``)."""

OPEN_FILES = 1024
"""Most files that a reader may have open: those of the row groups that it reads, and their delete files."""

_TIME_ZONES = "/usr/share/zoneinfo"
"""Read by Arrow for values with a time zone."""


def leave_network() -> tuple[str, ...]:
    """Leave the network, before there are readers, which inherit that; returns the walls that are missing.

    The process must have one thread.
    """
    return () if walls.no_network() else ("network",)


def raise_walls() -> tuple[str, ...]:
    """Raise the walls around this process, which has one thread; returns the names of those that are missing.

    Files are readable in Python's library and in this package only: modules are imported when they are needed
    for the first time. Files of tables come as descriptors.
    """
    parent = os.getppid()
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    readable = [_directory(path) for path in _libraries()]
    each: dict[str, Callable[[], bool]] = {
        "die_with_parent": walls.die_with_parent,
        "limits": _limits,
        "private": walls.private,
        "landlock": lambda: walls.landlock([], [one for one in readable if one is not None]),
        "no_tcp": walls.no_tcp,
        "seccomp": walls.system_calls,
    }
    missing = tuple(name for name, wall in each.items() if not wall())
    for one in readable:
        if one is not None:
            os.close(one)
    if os.getppid() != parent:  # it ended before the kernel knew that this process is to end with it
        sys.exit(0)
    return missing


def raise_opener_walls() -> None:
    """Raise the walls around a process that opens files for reading, by any name.

    No filter of system calls: it asks where a file is that it opened (``readlink``).
    """
    parent = os.getppid()
    with suppress(OSError):
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            walls.die_with_parent()
            walls.landlock([], [root])
        finally:
            os.close(root)
    if os.getppid() != parent:
        sys.exit(0)


def _libraries() -> set[Path]:
    paths = sysconfig.get_paths()
    found = {Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return {*found, Path(strata.__file__).parent, Path(_TIME_ZONES)}


def _directory(path: Path) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None


def _limits() -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    except (OSError, ValueError):
        return False
    return True

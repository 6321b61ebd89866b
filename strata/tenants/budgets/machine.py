"""Find the memory and processors that this process may use: the machine's, or less by its control groups.

A limit may be set on the process's own control group or on any above it (systemd's ``MemoryMax`` of a
service, a container's limits, a container in a container), so all of them are read (cgroups(7)).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")
_UNIFIED = ""
"""The name of version 2 among the controllers of ``/proc/self/cgroup``."""

_MOUNT_FIELDS = 5
"""Fields of a line of ``/proc/self/mountinfo`` up to the mount point (proc_pid_mountinfo(5))."""


def machine_bytes(root: Path = _ROOT) -> int:
    """Return the bytes of memory of the machine, or of a control group of this process where that has less.

    Args:
        root: Directory that holds ``proc`` and ``sys``.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for group in _groups("memory", root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(group / name).strip()
            if text.isdigit():  # "max" is no limit
                found = min(found, int(text))
    return found


def processors(root: Path = _ROOT) -> int:
    """Return how many processors this process may use: by its affinity and by its control groups' quotas.

    A quota of one and a half processors counts as two: two threads use all of it.

    Args:
        root: Directory that holds ``proc`` and ``sys``.
    """
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu", root):
        quota, _, period = _read(group / "cpu.max").strip().partition(" ")
        if not quota:
            quota, period = (_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and -1 are no quota
            found = min(found, math.ceil(int(quota) / int(period)))
    return max(1, found)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the directories of this process's control groups with a controller, the innermost first."""
    own = {_UNIFIED: "/", controller: "/"}
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, group = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), group))
    for name, top, place in _mounts(controller, root):
        mine = PurePosixPath(own[name])
        # A group outside of what is mounted here is one that cannot be seen: the mount's own limit counts.
        seen = mine.is_relative_to(top) and ".." not in mine.parts
        inside = mine.relative_to(top) if seen else PurePosixPath()
        yield from (place / part for part in (inside, *inside.parents))


def _mounts(controller: str, root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield each mount of a controller: name or "" for version 2, group at its top, directory."""
    text = _read(root / "proc/self/mountinfo")
    if not text:
        yield _UNIFIED, "/", root / "sys/fs/cgroup"
        yield controller, "/", root / "sys/fs/cgroup" / controller
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < _MOUNT_FIELDS or kind[0] not in {"cgroup", "cgroup2"}:
            continue
        place = root / fields[4].lstrip("/")
        if kind[0] == "cgroup2":
            yield _UNIFIED, fields[3], place
        elif controller in kind[-1].split(","):
            yield controller, fields[3], place


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # not this version of control groups, or not this system

"""The walls around a sandboxed process: each is a function, called in the process itself before it works.

A wall that this kernel lacks, or that this process may not raise, is reported and not an exception: what to
do without it is the operator's choice (``transforms.sandbox``).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from strata.sandbox import seccomp

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_CAPABILITY_VERSION = 0x20080522
_VERSION = 1

_FS: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
"""By Landlock version, how many rights to files it knows."""

_NET_FROM, _SCOPES_FROM = 4, 6
"""Landlock versions from which TCP is restricted, and signals and abstract Unix sockets are."""

_WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = (
    1 << bit for bit in (1, 2, 3, 5, 8, 14)
)
_READ_ONLY: Final = _READ_FILE | _READ_DIR
_USE_DIRECTORY: Final = _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_FILE | _MAKE_REG | _TRUNCATE

OPEN_FILES: Final = 512
"""Most files that a sandboxed process may have open."""

NICE: Final = 10
"""Least niceness of a sandboxed process, by which it steps back behind the server's own threads (nice(2))."""

WALLS: Final = ("die_with_parent", "limits", "network", "private", "landlock", "no_tcp", "seccomp")
"""The names of all walls, in the order in which they are raised."""

_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Bounds:
    """The limits of a sandboxed process.

    Attributes:
        memory_bytes: Bytes of memory that it may allocate, besides those it has already.
        file_bytes: Most bytes of a file that it writes.
        cpu_seconds: Seconds of the processor after which the kernel kills it.
    """

    memory_bytes: int
    file_bytes: int
    cpu_seconds: int


def private() -> bool:
    """Give up privileges for good, and hide this process's memory from others of the same user."""
    os.umask(0o077)
    _prctl(_PR_SET_DUMPABLE, 0)
    head, nothing = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)
    return not _libc.capset(head, nothing) and _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> bool:
    """Have the kernel kill this process when its parent ends."""
    return _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def landlock_version() -> int:
    """Return the version of the kernel's Landlock; 0 if it has none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION)))


def landlock(directories: Sequence[int], readable: Sequence[int] = ()) -> bool:
    """Let this process open no file except in directories, and make no TCP connection.

    Args:
        directories: Descriptors of the directories in which it may read and write files.
        readable: Descriptors of the directories in which it may read files.

    Files that are open already stay usable. Of a Landlock version that does not know TCP, the rest is in
    effect; :func:`no_tcp` tells.
    """
    version = landlock_version()
    if not version:
        return False
    files = (1 << next(count for least, count in reversed(_FS) if version >= least)) - 1
    attributes = struct.pack("=Q", files)
    if version >= _NET_FROM:
        attributes += struct.pack("=Q", 0b11)
    if version >= _SCOPES_FROM:
        attributes += struct.pack("=Q", 0b11)
    ruleset = int(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    if ruleset < 0:
        return False
    try:
        rights = [(_USE_DIRECTORY, one) for one in directories] + [(_READ_ONLY, one) for one in readable]
        for right, directory in rights:
            rule = struct.pack("=Qi", right & files, directory)
            if _libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0):
                return False
        return not _libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def no_tcp() -> bool:
    """Tell whether :func:`landlock` forbids TCP on this kernel."""
    return landlock_version() >= _NET_FROM


def no_network() -> bool:
    """Move this process, which has one thread, into a network without interfaces."""
    if not _libc.unshare(_CLONE_NEWNET):
        return True
    return not _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def system_calls() -> bool:
    """Filter the system calls of this process: no programs, processes, sockets, or signals to others."""
    code = seccomp.program()
    if code is None:
        return False
    instructions = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
    return _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program)


def limits(bounds: Bounds) -> bool:
    """Bound memory, files and time of this process, and offer it first to a kernel that is out of memory.

    Memory is what the process allocates: a mapped file that it only reads is not counted.
    """
    step_back()
    memory = bounds.memory_bytes + allocated_bytes()
    for name, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_FSIZE, bounds.file_bytes),
        (resource.RLIMIT_CPU, bounds.cpu_seconds),
        (resource.RLIMIT_DATA, memory),
    ):
        try:
            resource.setrlimit(name, (most, most))
        except (OSError, ValueError):
            return False
    return True


def step_back() -> None:
    """Let the server's threads go first, and offer this process first to a kernel that is out of memory."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def rehearse() -> None:
    """Do what raises no wall and is needed for it: the pages that it touches become this process's own."""
    landlock_version()
    allocated_bytes()
    seccomp.program()


def allocated_bytes() -> int:
    """Return the bytes that count for this process's memory limit now."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmData:"))


def raise_walls(
    directories: Sequence[int],
    bounds: Bounds,
    without: Sequence[str] = (),
    readable: Sequence[int] = (),
) -> tuple[str, ...]:
    """Raise all walls around this process; returns the names of those that are missing.

    Args:
        directories: Descriptors of the directories in which it may read and write files.
        bounds: Its limits.
        without: Walls that are left out, so that a test can show what each is for.
        readable: Descriptors of the directories in which it may only read files.
    """
    each: dict[str, Callable[[], bool]] = {
        "die_with_parent": die_with_parent,
        "limits": lambda: limits(bounds),
        "network": no_network,
        "private": private,  # after what needs the process's own files below /proc
        "landlock": lambda: landlock(directories, readable),
        "no_tcp": no_tcp,
        "seccomp": system_calls,
    }
    return tuple(name for name, wall in each.items() if name not in without and not wall())


def _prctl(option: int, *arguments: object) -> bool:
    given = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    return not _libc.prctl(option, *given, *[ctypes.c_ulong(0)] * (4 - len(given)))

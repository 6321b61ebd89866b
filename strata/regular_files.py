"""Open stored files, and nothing else that may stand in a file's place.

Opening a FIFO waits for its other end, for ever if there is none, and a link may lead to any file. A writer
of a warehouse, or of a directory of the server's, can put either in a file's place.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from strata.durable import PRIVATE_MODE

_PATH_ONLY = getattr(os, "O_PATH", 0) | os.O_CLOEXEC
"""Flags that open a file's name: nothing is read, and neither a pipe nor a device waits or notices."""

_DESCRIPTORS = "/dev/fd"
"""Directory of this process's open files."""


def open_regular(path: str | Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a regular file without waiting; returns its descriptor.

    Args:
        path: The file.
        flags: As of ``os.open``; a file that is created belongs to its owner alone.
        follow: Whether the last component of the path may be a symbolic link.

    Raises:
        OSError: If the file cannot be opened: ``ELOOP`` for a link, ``EINVAL`` for what is no regular file,
            or can have no name like this.
    """
    more = os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags | more, PRIVATE_MODE)
    except ValueError as error:
        raise _no_name() from error
    regular = False
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        if not regular:
            os.close(descriptor)
    if not regular:
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


class OutsideError(OSError):
    """A file lies outside the directory that it must be in, or would if it were there."""


def open_below(path: str | Path, below: str) -> int:
    """Open a regular file of a directory, with all links resolved; returns its descriptor.

    A path is not what it was a moment ago: a link put into it between a check and an open would lead outside.
    So the file is opened by name without reading it (``O_PATH``), the kernel says where that file is, and
    what is read is that very file, by its descriptor and no longer by its name. Needs Linux with ``/proc``.

    Args:
        path: The file.
        below: The directory, with its own links resolved, and a slash.

    Raises:
        OutsideError: If the file lies outside, alike whether it exists or not.
        OSError: If the file is missing, not readable or not a regular file.
    """
    try:
        descriptor = os.open(path, _PATH_ONLY)
    except ValueError as error:
        raise _no_name() from error
    except OSError:
        if os.path.realpath(path).startswith(below):
            raise
        raise OutsideError(errno.EPERM, "outside") from None
    try:
        opened = f"/proc/self/fd/{descriptor}"
        if not os.readlink(opened).startswith(below):  # noqa: PTH115  # a descriptor, not a path
            raise OutsideError(errno.EPERM, "outside")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, "not a regular file")
        return os.open(opened, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)


def _no_name() -> OSError:
    """Return the error of a name that no file can have: with a NUL, or with what UTF-8 does not hold."""
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def read_regular(path: str | Path, *, buffering: int = -1) -> BinaryIO:
    """Open a regular file for reading, without waiting and without following a link.

    Raises:
        OSError: As :func:`open_regular`.
    """
    descriptor = open_regular(path)
    try:
        return os.fdopen(descriptor, "rb", buffering)
    except OSError:
        os.close(descriptor)
        raise


def place_of(descriptor: int) -> str | None:
    """Return where an open file is, with all links resolved; None if the system does not tell."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:  # not Linux
        return None


def as_arrow_file(descriptor: int) -> Any:
    """Return an open regular file for Arrow, with a descriptor of its own; closes ``descriptor``.

    Raises:
        OSError: If the process has no descriptor left.
    """
    import pyarrow as pa  # noqa: PLC0415  # ``strata serve`` configures Arrow's memory before it is loaded

    try:
        return pa.OSFile(f"{_DESCRIPTORS}/{descriptor}", "rb")
    finally:
        os.close(descriptor)

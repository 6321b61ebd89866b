"""Read a file that operators write, and poll it for changes: a change is taken once the file is at rest."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio

Signature: TypeAlias = "tuple[int, int, int, int, int] | None"
"""What tells contents of a file apart: device, inode, bytes, modification time, and the time of the last
change of any kind, which no program can set; None: no readable file."""

MOST_BYTES = 64 * 1024 * 1024
"""Most bytes of a file of settings or access rules, some 500,000 rules; a larger file is refused."""

_UNREAD = object()


def read_operator_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a regular file; blocking.

    A FIFO would hold the reading thread until a writer comes, a device might never end: neither is opened for
    more than its type.

    Raises:
        OSError: If the file is missing, not readable, not a regular file (``EINVAL``) or has more than
            ``most`` bytes (``EFBIG``).
        ValueError: If the path has a null byte.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return content


def signature_of(path: Path) -> Signature:
    """Return the file's signature; blocking."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@attrs.define(eq=False)
class FilePoller:
    """Calls ``changed`` once after the start, and whenever the file has changed and is at rest.

    A file that is being written may already parse, with its end missing: so a change is taken when two looks
    in a row have seen the same signature.

    Attributes:
        place: Returns the file, and the seconds between two looks; None or 0: no looks until :meth:`move`.
        changed: Reads the file.
        run: Runs a blocking call.
        read: The signature of the content read last; an owner that reads or writes the file between two looks
            sets it, so that its own change is not read again.
    """

    place: Callable[[], tuple[Path | None, float]]
    changed: Callable[[], Awaitable[object]]
    run: Callable[[Callable[[], Any]], Awaitable[Any]]
    read: object = _UNREAD
    _moved: trio.Event = attrs.field(factory=trio.Event)

    def move(self) -> None:
        """Look at once: ``place`` may return another file or interval now."""
        self._moved.set()

    async def watch(self) -> None:
        """Poll until cancelled."""
        last: object = _UNREAD
        while True:
            path, seconds = self.place()
            if path is None or not seconds:
                await self._moved.wait()
                self._moved, self.read = trio.Event(), _UNREAD
                continue
            signature = await self.run(partial(signature_of, path))
            if signature == last and signature != self.read:
                self.read = signature
                await self.changed()
            last = signature
            with trio.move_on_after(seconds):
                await self._moved.wait()
                self._moved = trio.Event()

"""Polling a file for changes: a change is taken once the file is at rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio

Signature: TypeAlias = "tuple[int, int, int, int] | None"
"""What tells contents of a file apart: device, inode, bytes, modification time; None: no readable file."""

_UNREAD = object()


def signature_of(path: Path) -> Signature:
    """Return the file's signature; blocking."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a path with a null byte
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


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

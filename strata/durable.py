"""Write files durably: their content survives a crash."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ``strata serve`` configures Arrow's memory before it is loaded
    import pyarrow as pa

PRIVATE_MODE = 0o600
"""Permissions of every file that a server makes: its owner reads and writes it."""

_IOV_MAX = min(1024, os.sysconf("SC_IOV_MAX"))


def write_parts(descriptor: int, parts: Sequence[bytes | pa.Buffer]) -> int:
    """Write ``parts`` one after the other without joining them; returns the number of bytes written.

    Raises:
        OSError: If the disk is full or broken; some of the bytes may have been written.
    """
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    total = 0
    while views:
        written = os.writev(descriptor, views[:_IOV_MAX])
        total += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
    return total


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: without it, a renamed file may not survive a crash.

    Raises:
        OSError: If the directory cannot be opened or synced.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, text: str) -> None:
    """Replace a file atomically and durably: at any instant, a crash included, it is the old or the new one.

    Raises:
        OSError: If the new content cannot be written; the old file stays, and nothing of the new one. Only if
            the directory cannot be synced, the new file is in place and a power cut may undo it.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_MODE)
        try:
            write_parts(descriptor, [text.encode()])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.replace(path)
    except BaseException:  # raised again: no unfinished file stays, whatever ended the write
        with suppress(OSError):  # the first error is the one to report
            fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)

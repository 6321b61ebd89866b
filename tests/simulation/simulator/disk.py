"""A disk that keeps synced data across a crash, and keeps, loses or tears the rest depending on the seed."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

SHORT_READ_BYTES = 64


class Disk:
    """The files below ``root`` that were synced.

    Args:
        root: Directory of the service's files.
        draw: Decides the fate of unsynced data, and short reads.
        lying: Some acknowledged syncs are lost; then the only promise is that no wrong bytes are served.
        short_reads: Probability that a read returns fewer bytes than requested.
        full: Probability that a write finds the disk full.
    """

    def __init__(
        self, root: Path, draw: random.Random, *, lying: bool, short_reads: float, full: float
    ) -> None:
        self.root = root
        self._draw = draw
        self._lying = lying
        self._short_reads = short_reads
        self._full = full
        self._sizes: dict[int, int] = {}
        self._names: dict[int, dict[str, int]] = {}
        for directory, _, files in os.walk(root):  # files that exist at the start are synced
            self._note_directory(directory)
            for name in files:
                found = Path(directory, name).stat()
                self._sizes[found.st_ino] = found.st_size

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Intercept the service's system calls."""
        pread, writev = os.pread, os.writev

        def synced(descriptor: int) -> None:
            if not self._lying or self._draw.random() < 0.5:
                self._note(descriptor)

        def read(descriptor: int, count: int, offset: int) -> bytes:
            if self._short_reads and count > SHORT_READ_BYTES and self._draw.random() < self._short_reads:
                count = self._draw.randrange(1, count)
            return pread(descriptor, count, offset)

        def write(descriptor: int, buffers: list[memoryview]) -> int:
            if self._full and self._draw.random() < self._full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return writev(descriptor, buffers)

        with (
            mock.patch.object(os, "fsync", synced),
            mock.patch.object(os, "pread", read),
            mock.patch.object(os, "writev", write),
        ):
            yield

    def _note(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._note_directory(descriptor)
        else:
            self._sizes[found.st_ino] = found.st_size

    def _note_directory(self, directory: int | str) -> None:
        with os.scandir(directory) as entries:
            names = {entry.name: entry.inode() for entry in entries}
        self._names[os.stat(directory).st_ino] = names  # noqa: PTH116  # a descriptor, or a name

    def crash(self, target: Path) -> None:
        """Copy the files that a power cut at this instant leaves to ``target``, an empty directory."""
        self._keep(self.root, target, top=True)

    def _keep(self, source: Path, target: Path, *, top: bool = False) -> None:
        durable = self._names.get(source.stat().st_ino, {})
        for entry in sorted(source.iterdir()):
            found = entry.lstat()
            named = top or durable.get(entry.name) == found.st_ino
            if not named and self._draw.random() < 0.5:
                continue
            kept = target / entry.name
            if entry.is_dir():
                kept.mkdir()
                self._keep(entry, kept)
            else:
                kept.write_bytes(self._kept_bytes(entry.read_bytes(), self._sizes.get(found.st_ino, 0)))
                os.utime(kept, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _kept_bytes(self, data: bytes, synced: int) -> bytes:
        if len(data) <= synced:
            return data
        stop = self._draw.randint(synced, len(data))
        tail = data[synced:stop]
        if self._draw.random() < 0.5:
            tail = bytes(len(tail))  # the length was written before the bytes
        return data[:synced] + tail

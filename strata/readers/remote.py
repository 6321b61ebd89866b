"""Fetch parts of files that are not local for readers, which have no network.

A part comes into memory that the reader maps: all of a delete file, and of a data file its footer and the
columns that are read. The server parses no more than the length of a footer.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from typing import Any

import attrs
from pyiceberg.io import FileIO

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers.shared_memory import SEALED
from strata.tables import FileTask, LoadedTable
from strata.tables.errors import Reading, file_name
from strata.tables.files.footers import TAIL_BYTES
from strata.tables.files.lru import WeightedLru
from strata.tables.files.prefetched import Range, merged
from strata.tables.plan.deletes import DeleteFile

WHOLE_BYTES = 256 << 20
"""Bytes of the largest file that is fetched as a whole."""

KEPT_BYTES = 32 << 20
"""Bytes of footers and delete files that are kept for the next row group."""

_MAGIC = b"PAR1"
_LENGTH = 4

_Part = tuple[int, bytes]
"""Position in the file, and bytes."""


@attrs.frozen(eq=False)
class _Kept:
    """What is kept of a file: its bytes, and the parts."""

    size: int
    parts: tuple[_Part, ...]


_kept: WeightedLru[tuple[object, ...], _Kept] = WeightedLru(KEPT_BYTES)


class Fetched:
    """Memory with parts of one file; it is there as long as this object.

    Args:
        size: Bytes of the file.
        parts: Its parts.
    """

    def __init__(self, size: int, parts: Iterable[_Part]) -> None:
        self._descriptor = os.memfd_create("strata-fetched", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._descriptor, size)
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, SEALED)
        found = []
        for start, data in parts:
            left, at = memoryview(data), start
            while left:
                written = os.pwrite(self._descriptor, left, at)
                left, at = left[written:], at + written
            found.append((start, start + len(data)))
        self._ranges = _joined(found)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def opened(self) -> tuple[int, list[Range]]:
        """Return another descriptor of the memory, which is the caller's, and the ranges that are there."""
        return os.dup(self._descriptor), self._ranges


class RemoteFiles:
    """A data file that is not local, and its delete files, as far as they were fetched. For one thread.

    Args:
        table: The table.
        file: The data file.
    """

    def __init__(self, table: LoadedTable, file: FileTask) -> None:
        self._table, self._file = table, file
        self._fetched: dict[str, Fetched] = {}

    def open(self, location: str) -> tuple[int, list[Range]]:
        """Return the descriptor of what was fetched of a file, and its ranges.

        Raises:
            PermissionError: If it was not fetched.
        """
        found = self._fetched.get(location)
        if found is None:
            raise PermissionError(1, "no file of this step")
        return found.opened()

    def fetch_footer(self) -> None:
        """Fetch the data file's footer; blocking.

        Raises:
            RefusalError: DATA_UNREADABLE if the file is missing or cannot be fetched.
        """
        with Reading("data file", self._file.path):
            known = self._footer(None)
            self._fetched[self._file.path] = Fetched(known.size, known.parts)

    def fetch_rows(self, ranges: Iterable[Range]) -> None:
        """Fetch ranges of the data file with its footer, and all of its delete files; blocking.

        Raises:
            RefusalError: DATA_UNREADABLE, naming the file that is missing or cannot be fetched; TOO_LARGE if
                a delete file has more than :data:`WHOLE_BYTES`.
        """
        for delete in self._file.deletes:
            with Reading("delete file", delete.path):
                known = self._delete(delete)
                self._fetched[delete.path] = Fetched(known.size, known.parts)
        with Reading("data file", self._file.path), _open(self._table.io, self._file.path) as source:
            known = self._footer(source)
            parts = [(start, _read(source, start, end)) for start, end in merged(ranges)]
            self._fetched[self._file.path] = Fetched(known.size, [*known.parts, *parts])

    def _footer(self, source: Any) -> _Kept:
        key = (self._table.ref.source, self._file.file_key)
        known = _kept.get(key)
        if known is None:
            if source is None:
                with _open(self._table.io, self._file.path) as opened:
                    known = _tail_of(opened)
            else:
                known = _tail_of(source)
            _keep(key, known)
        return known

    def _delete(self, delete: DeleteFile) -> _Kept:
        key = (self._table.ref.source, self._table.uuid, delete)
        known = _kept.get(key)
        if known is None:
            with _open(self._table.io, delete.path) as source:
                size = source.seek(0, os.SEEK_END) or source.tell()
                start, end = 0, size
                if delete.content_offset is not None and delete.content_size is not None:
                    start = min(max(0, delete.content_offset), size)
                    end = min(max(start, start + delete.content_size), size)
                if end - start > WHOLE_BYTES:
                    raise RefusalError(_too_large(delete.path))
                known = _Kept(size, ((start, _read(source, start, end)),))
            _keep(key, known)
        return known


def _keep(key: tuple[object, ...], found: _Kept) -> None:
    _kept.put(key, found, 1024 + sum(len(data) for _, data in found.parts))


def _open(io: FileIO, location: str) -> Any:
    return io.new_input(location).open()


def _tail_of(source: Any) -> _Kept:
    """Return the end of a file from its footer on, or some of it where that is no Parquet file's."""
    size = source.seek(0, os.SEEK_END) or source.tell()
    start = max(0, size - TAIL_BYTES)
    tail = _read(source, start, size)
    frame = len(_MAGIC) + _LENGTH
    if tail.endswith(_MAGIC) and len(tail) >= frame:
        length = int.from_bytes(tail[-frame : -len(_MAGIC)], "little") + frame
        if len(tail) < length <= min(size, WHOLE_BYTES):
            tail = _read(source, size - length, start) + tail
    return _Kept(size, ((size - len(tail), tail),))


def _read(source: Any, start: int, end: int) -> bytes:
    """Return a range of an open file; raises ValueError if it has less."""
    source.seek(start)
    found: bytes = source.read(end - start)
    if len(found) != end - start:
        raise ValueError(f"the file has {len(found)} of the {end - start} bytes at {start}")
    return found


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in order, those that touch as one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _too_large(location: str) -> Refused:
    detail = f"The delete file {file_name(location)} has more than {WHOLE_BYTES} bytes. Compact the table."
    return Refused(Reason.TOO_LARGE, detail, "deletes_too_large")

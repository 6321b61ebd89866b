"""Byte ranges of a remote file in memory, so that decoding them waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

GAP_BYTES = 1024 * 1024
"""Unwanted bytes that are read along to save a round trip; a wider gap makes two reads."""

Range = tuple[int, int]
"""First byte, and the byte after the last."""


def chunk_ranges(metadata: pq.FileMetaData, row_group: int, leaves: Iterable[int]) -> list[Range]:
    """Return the byte ranges of a row group's column chunks.

    Args:
        metadata: The file's footer.
        row_group: Index of the row group.
        leaves: Indices of the Parquet leaf columns.
    """
    group, ranges = metadata.row_group(row_group), []
    for leaf in leaves:
        chunk = group.column(leaf)
        # Some writers note 0 for a dictionary page that does not exist (as Arrow's own reader assumes).
        start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
        ranges.append((start, start + chunk.total_compressed_size))
    return ranges


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges in order, those closer than :data:`GAP_BYTES` as one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1] + GAP_BYTES:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


class Parts:
    """Arrow's view (``pyarrow.PythonFile``) of a file of which some ranges are in memory, and no others.

    Args:
        size: Bytes of the file.
        parts: The first byte of each range, and its bytes.

    Attributes:
        closed: Whether :meth:`close` was called.
    """

    def __init__(self, size: int, parts: list[tuple[int, pa.Buffer]]) -> None:
        self.closed = False
        self._size = size
        self._at = 0
        self._parts = parts

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {sum(len(part) for _, part in self._parts)} bytes>"

    def _outside(self, count: int) -> pa.Buffer:
        """Return bytes that are in no range; raises ValueError."""
        raise ValueError(f"{count} bytes at {self._at} were not fetched")

    def read_buffer(self, count: int) -> pa.Buffer:
        """Return the next bytes without copying them, at most ``count``."""
        count = max(0, min(count, self._size - self._at))
        if not count:
            return pa.py_buffer(b"")
        for start, part in self._parts:
            if start <= self._at and self._at + count <= start + len(part):
                found = part.slice(self._at - start, count)
                break
        else:
            found = self._outside(count)
        self._at += len(found)
        return found

    def read(self, count: int) -> bytes:
        """Return the next bytes, at most ``count``."""
        return bytes(self.read_buffer(count))

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of the next read; returns it."""
        if whence == os.SEEK_END:
            position += self._size
        self._at = position if whence != os.SEEK_CUR else self._at + position
        return self._at

    def tell(self) -> int:
        """Return the position of the next read."""
        return self._at

    def close(self) -> None:
        """Drop the bytes; the file is its opener's to close."""
        self.closed, self._parts = True, []


class Prefetched(Parts):
    """A file of which some ranges are in memory, and others are read when they are wanted.

    Args:
        source: The file, open for random access; bytes outside of the ranges are read from it.
        ranges: The ranges, read now; blocking.
    """

    def __init__(self, source: Any, ranges: Iterable[Range]) -> None:
        parts: list[tuple[int, pa.Buffer]] = []
        for start, end in merged(ranges):
            source.seek(start)
            parts.append((start, pa.py_buffer(source.read(end - start))))
        source.seek(0, os.SEEK_END)
        super().__init__(source.tell(), parts)
        self._source = source

    def _outside(self, count: int) -> pa.Buffer:
        self._source.seek(self._at)
        return pa.py_buffer(self._source.read(count))

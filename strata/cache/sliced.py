"""Read a large cached segment in slices: as a whole it would occupy a core and its memory for long."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress

import attrs
import pyarrow as pa

from strata.cache.index import Segment
from strata.tables import FieldKey


@attrs.frozen
class Damaged:
    """The segment's bytes are missing or fail their checksum; counts as a miss."""


def projected(batch: pa.RecordBatch, positions: Sequence[int], schema: pa.Schema) -> pa.RecordBatch:
    """Return the columns at ``positions``, named and typed by ``schema``."""
    if not positions:
        return batch.select([])
    return pa.RecordBatch.from_arrays([batch.column(at) for at in positions], schema=schema)


class SegmentReader:
    """Reader of one segment; verifies its checksum before it returns the first byte.

    Methods block and are not thread-safe. The file stays open until :meth:`close`, so an eviction meanwhile
    does not matter.

    Args:
        segment: The segment to read.

    Attributes:
        segment: The segment.
        checked: Whether all bytes have been verified.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._end = segment.packed.offset + segment.packed.length
        self._at = segment.packed.offset
        self._crc32 = 0
        self._file: pa.OSFile | None = None
        self.checked = False

    @property
    def done(self) -> bool:
        """Whether all bytes have been returned."""
        return self.checked and self._at >= self._end

    def check(self, limit: int) -> Damaged | None:
        """Verify at most ``limit`` more bytes; :attr:`checked` is true after the last."""
        if self._read(limit) is None:
            return Damaged()
        if self._at >= self._end:
            if not self._whole():
                return Damaged()
            self._at, self._crc32, self.checked = self.segment.packed.offset, 0, True
        return None

    def read_raw(self, limit: int) -> bytes | Damaged:
        """Return at most ``limit`` more bytes of the encoded messages; their checksum is verified again."""
        data = self._read(limit)
        if data is None or (self._at >= self._end and not self._whole()):
            return Damaged()
        return data

    def read(
        self, limit: int, fields: Sequence[FieldKey], schema: pa.Schema
    ) -> list[pa.RecordBatch] | Damaged:
        """Return the next rows with the columns ``fields``: at least one batch, about ``limit`` bytes."""
        positions = [self.segment.fields.index(field) for field in fields]
        batches, stop = [], min(self._at + limit, self._end)
        try:
            file = self._opened()
            file.seek(self._at)
            while self._at < stop:
                batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), self.segment.schema)
                batches.append(projected(batch, positions, schema))
                self._at = file.tell()
        except (pa.ArrowException, OSError, EOFError):
            return Damaged()
        return batches

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _opened(self) -> pa.OSFile:
        if self._file is None:
            self._file = pa.OSFile(str(self.segment.path), "rb")
        return self._file

    def _read(self, limit: int) -> bytes | None:
        wanted = min(limit, self._end - self._at)
        try:
            file = self._opened()
            file.seek(self._at)
            data: bytes = file.read(wanted)
        except OSError:
            return None
        if len(data) != wanted:
            return None
        self._crc32 = zlib.crc32(data, self._crc32)
        self._at += wanted
        return data

    def _whole(self) -> bool:
        return self._crc32 == self.segment.packed.crc32

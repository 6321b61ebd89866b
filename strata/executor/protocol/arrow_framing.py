"""Follow an Arrow IPC stream as it passes, without holding its bodies: is it whole, and of how many rows.

The framing is that of the Arrow columnar specification, "Encapsulated message format"; of the metadata of a
message, a flatbuffer, the kind, the length of the body, the rows and whether the body is compressed are read.
Whether the values are sound is not known before they are read (:func:`check_values`).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Final

import attrs
import pyarrow as pa

MOST_METADATA: Final = 16 * 1024 * 1024
"""Most bytes of a message's metadata."""

MOST_BODY: Final = 1 << 31
"""Most bytes of a message's body."""

SLICE_ROWS: Final = 64 * 1024
"""Rows whose values are checked in one step."""

_CONTINUATION: Final = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_ROWS, _COMPRESSION = 0, 3


class FramingError(Exception):
    """The bytes are no sound Arrow stream; the message says why."""


@attrs.define(eq=False)
class ArrowFraming:
    """Follows one stream.

    Attributes:
        rows: Rows of the record batches so far.
        ended: Whether the end-of-stream marker has passed.
        seen_schema: Whether the schema has passed.
    """

    rows: int = 0
    ended: bool = False
    seen_schema: bool = False
    _held: bytearray = attrs.field(factory=bytearray)
    _wanted: int = 8
    _is_prefix: bool = True
    _body: int = 0

    def feed(self, data: bytes) -> int:
        """Follow the next bytes; returns the rows of the batches that begin in them.

        Raises:
            FramingError: If they are no Arrow stream, or continue after its end.
        """
        before, view = self.rows, memoryview(data)
        while view:
            if self.ended:
                raise FramingError("it continues after its end")
            if self._body:
                passed = min(self._body, len(view))
                self._body -= passed
                view = view[passed:]
                continue
            taken = min(self._wanted - len(self._held), len(view))
            self._held += view[:taken]
            view = view[taken:]
            if len(self._held) == self._wanted:
                self._complete()
        return self.rows - before

    def finish(self) -> None:
        """Check that the stream is whole.

        Raises:
            FramingError: If it is not.
        """
        if not self.ended or not self.seen_schema:
            raise FramingError("it ended before its end-of-stream marker")

    def _complete(self) -> None:
        held, self._held = bytes(self._held), bytearray()
        if self._is_prefix:
            word, length = struct.unpack("<Ii", held)
            if word != _CONTINUATION or not 0 <= length <= MOST_METADATA:
                raise FramingError("it is no Arrow IPC stream")
            self.ended = length == 0
            self._is_prefix, self._wanted = self.ended, length or 8
            return
        self._is_prefix, self._wanted = True, 8
        try:
            self._message(held)
        except (struct.error, IndexError):
            raise FramingError("it has a message with unreadable metadata") from None

    def _message(self, data: bytes) -> None:
        message = FlatTable(data, struct.unpack_from("<I", data)[0])
        kind = message.number(_HEADER_TYPE, "<B")
        body = message.number(_BODY_LENGTH, "<q")
        if kind not in (_SCHEMA, _DICTIONARY, _BATCH) or not 0 <= body <= MOST_BODY:
            raise FramingError("it has a message that belongs into no such stream")
        if (kind == _SCHEMA) == self.seen_schema:
            raise FramingError("it does not begin with its one schema")
        self.seen_schema = True
        self._body = body
        if kind == _SCHEMA:
            return
        batch = message.table(_HEADER)
        if kind == _DICTIONARY:
            batch = batch.table(1)
        if batch.offset(_COMPRESSION):
            raise FramingError("its batches are compressed; send them as they are")
        if kind == _BATCH:
            rows = batch.number(_ROWS, "<q")
            if rows < 0:
                raise FramingError("it has a batch of less than no rows")
            self.rows += rows


class FlatTable:
    """A table of a flatbuffer; raises struct.error for offsets outside of it."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        (back,) = struct.unpack_from("<i", data, position)
        self._vtable = position - back
        if self._vtable < 0:
            raise struct.error
        (self._size,) = struct.unpack_from("<H", data, self._vtable)

    def offset(self, index: int) -> int:
        """Return where a field is; 0 if it is absent."""
        entry = 4 + 2 * index
        if entry + 2 > self._size:
            return 0
        (offset,) = struct.unpack_from("<H", self._data, self._vtable + entry)
        return self._position + int(offset) if offset else 0

    def number(self, index: int, form: str) -> int:
        """Return a number; 0 if it is absent."""
        at = self.offset(index)
        return int(struct.unpack_from(form, self._data, at)[0]) if at else 0

    def table(self, index: int) -> FlatTable:
        """Return a table within this one."""
        at = self.offset(index)
        if not at:
            raise struct.error
        return FlatTable(self._data, at + struct.unpack_from("<I", self._data, at)[0])


def check_values(path: Path) -> Generator[tuple[pa.Schema, int]]:
    """Read a whole stream, some rows with each step, and yield its schema and the rows so far; blocking.

    Raises:
        FramingError: If a value is not sound, as an offset outside of its buffer.
        OSError: If the file cannot be read.
    """
    rows = 0
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        # Not closed here: batches refer to it, and it goes with the last of them.
        with pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))) as reader:
            yield reader.schema, 0
            for batch in reader:
                batch.validate()  # cheap: the lengths of its buffers
                for start in range(0, batch.num_rows, SLICE_ROWS):
                    batch.slice(start, SLICE_ROWS).validate(full=True)
                    rows += min(SLICE_ROWS, batch.num_rows - start)
                    # The pages that were read stay the system's, and are this process's memory no longer.
                    mapped.madvise(mmap.MADV_DONTNEED)
                    yield reader.schema, rows
    except (pa.ArrowException, ValueError) as error:
        raise FramingError(f"it cannot be read: {str(error)[:200]}") from None

"""Cut the bytes of an Arrow IPC stream into its messages, as they arrive."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import attrs
import pyarrow as pa

from strata.executor.protocol.arrow_framing import FlatTable, FramingError

PREFIX: Final = 8
"""Bytes of the continuation word and the length of a message's metadata."""

SCHEMA, DICTIONARY, BATCH = 1, 2, 3
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_DICTIONARY_ID, _IS_DELTA = 0, 2


@attrs.frozen
class Head:
    """What the metadata of a message says.

    Attributes:
        kind: :data:`SCHEMA`, :data:`DICTIONARY` or :data:`BATCH`.
        size: Bytes of the whole message.
        dictionary: Id of its dictionary; None if it is none.
        delta: Whether it adds to what was sent of that dictionary.
    """

    kind: int
    size: int
    dictionary: int | None = None
    delta: bool = False


@attrs.define(eq=False)
class Messages:
    """The messages of one stream; fed with its bytes, asked for the next head and then for that message.

    Attributes:
        ended: Whether the end-of-stream marker has come.
    """

    ended: bool = False
    _parts: deque[bytes] = attrs.field(factory=deque)
    _held: int = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if data:
            self._parts.append(data)
            self._held += len(data)

    def head(self) -> Head | None:
        """Return the head of the next message; None if its metadata has not arrived, or the stream has ended.

        Raises:
            FramingError: If the bytes are no Arrow stream.
        """
        if self._held < PREFIX:
            return None
        _, length = struct.unpack_from("<Ii", self._first(PREFIX))
        if length < 0:
            raise FramingError("it has a message with unreadable metadata")
        if length == 0:
            self.ended = True
        if self.ended or self._held < PREFIX + length:
            return None
        data = self._first(PREFIX + length)[PREFIX : PREFIX + length]
        try:
            message = FlatTable(data, struct.unpack_from("<I", data)[0])
            kind, body = int(message.number(_HEADER_TYPE, "<B")), int(message.number(_BODY_LENGTH, "<q"))
            dictionary, delta = None, False
            if kind == DICTIONARY:
                table = message.table(_HEADER)
                dictionary = int(table.number(_DICTIONARY_ID, "<q"))
                delta = bool(table.number(_IS_DELTA, "<B"))
        except (struct.error, IndexError):
            raise FramingError("it has a message with unreadable metadata") from None
        if body < 0:
            raise FramingError("it has a message with unreadable metadata")
        return Head(kind, PREFIX + length + body, dictionary, delta)

    def take(self, size: int) -> Sequence[bytes] | None:
        """Return and forget the next message of ``size`` bytes; None if it has not arrived.

        It is returned in the parts that it came in: a large one is joined in the work pool.
        """
        if self._held < size:
            return None
        self._held -= size
        found = list[bytes]()
        while size:
            part = self._parts.popleft()
            if len(part) > size:
                self._parts.appendleft(part[size:])
                part = part[:size]
            found.append(part)
            size -= len(part)
        return found

    def _first(self, size: int) -> bytes:
        """Return the first part, of at least ``size`` bytes, which are held."""
        while len(self._parts[0]) < size:
            begin = self._parts.popleft()
            self._parts[0] = begin + self._parts[0]
        return self._parts[0]


@attrs.define(eq=False)
class Decoder:
    """Reads messages one by one, whatever came before: the schema and the dictionaries are kept."""

    _schema: pa.Schema | None = None
    _before: list[tuple[Head, bytes]] = attrs.field(factory=list)

    @property
    def schema(self) -> pa.Schema:
        """The schema, once its message was kept."""
        assert self._schema is not None
        return self._schema

    @property
    def nbytes(self) -> int:
        """Bytes of the messages that are kept."""
        return sum(head.size for head, _ in self._before)

    def keep(self, head: Head, message: Sequence[bytes]) -> None:
        """Keep a schema or a dictionary for what comes after it; a new dictionary replaces the old one."""
        if head.dictionary is not None and not head.delta:
            self._before = [kept for kept in self._before if kept[0].dictionary != head.dictionary]
        whole = b"".join(message)
        self._before.append((head, whole))
        if self._schema is None:
            self._schema = pa.ipc.read_schema(pa.py_buffer(whole))

    def batches(self, message: Sequence[bytes]) -> Iterator[pa.RecordBatch]:
        """Return the rows of a record batch message."""
        parts = [kept for _, kept in self._before]
        with pa.ipc.open_stream(pa.py_buffer(b"".join([*parts, *message]))) as reader:
            yield from reader

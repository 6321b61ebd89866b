"""An Arrow IPC stream decoded from chunks as they arrive, whole or not at all.

pyarrow reads streams by pulling from a file, which neither an async client nor a socket offers, and it takes
a stream that merely stops for one that ended. This decoder is pushed, holds one message at a time, and knows
the difference: only the end-of-stream marker ends a stream.

The framing is that of the Arrow columnar specification, "Encapsulated message format"; of the metadata, a
flatbuffer ``Message`` (``Message.fbs``), only the kind and the length of the body are read here.
"""

from __future__ import annotations

import struct

import pyarrow as pa

from strata.client.errors import BadAnswerError, TruncatedStreamError

_PREFIX = 8  # continuation word and length of the metadata
_CONTINUATION = 0xFFFFFFFF
_MAX_METADATA = 1 << 28
_MAX_BODY = 1 << 34
_ALIGNMENT = 64  # of a message's body in memory, which Arrow recommends

_HEADER_TYPE, _BODY_LENGTH = 1, 3  # fields of the flatbuffer table Message
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3  # its header types


class StreamDecoder:
    """Turns chunks of bytes into record batches, in bounded memory: one message and one chunk.

    Attributes:
        schema: The result's schema, as soon as it has arrived.
        ended: The end-of-stream marker has arrived.
    """

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self.ended = False
        self._schema_message = b""
        self._dictionaries: list[pa.Buffer] = []
        self._await_prefix()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "before the schema" if self.schema is None else "open"
        return f"<StreamDecoder {state}, {self._filled} of {len(self._room)} bytes of a piece>"

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """Take the next bytes; returns the batches they complete.

        Raises:
            BadAnswerError: If the bytes are no Arrow stream, or go on behind its end.
        """
        batches: list[pa.RecordBatch] = []
        view = memoryview(data)
        while view:
            if self.ended:
                raise BadAnswerError("The Arrow stream goes on behind its end-of-stream marker.")
            count = min(len(view), len(self._room) - self._filled)
            self._room[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == len(self._room):
                batches += self._piece_complete()
        return batches

    def finish(self) -> pa.Schema:
        """Take the end of the bytes; returns the schema.

        Raises:
            TruncatedStreamError: If the stream's own end has not come.
        """
        if not self.ended or self.schema is None:
            raise TruncatedStreamError("The Arrow stream stopped before its end-of-stream marker.")
        return self.schema

    def _await_prefix(self) -> None:
        self._message: pa.Buffer | None = None
        self._body_known = False
        self._room = memoryview(bytearray(_PREFIX))
        self._filled = 0

    def _piece_complete(self) -> list[pa.RecordBatch]:
        if self._message is None:
            self._prefix_complete()
            return []
        if not self._body_known:
            self._metadata_complete()
            if self._filled < len(self._room):
                return []
        message, kind = self._message, self._kind
        self._await_prefix()
        return self._take(kind, message)

    def _prefix_complete(self) -> None:
        word, length = struct.unpack("<Ii", self._room)
        if word != _CONTINUATION or not 0 <= length <= _MAX_METADATA:
            raise BadAnswerError("The answer is not an Arrow IPC stream.")
        if length == 0:
            self.ended = True
            return
        prefix = bytes(self._room)
        self._make_room(prefix, _PREFIX + length)

    def _metadata_complete(self) -> None:
        metadata = bytes(self._room[_PREFIX:])
        try:
            self._kind, body = _read_metadata(metadata)
        except struct.error:
            raise BadAnswerError("The Arrow stream has a message with unreadable metadata.") from None
        if not 0 <= body <= _MAX_BODY:
            raise BadAnswerError("The Arrow stream has a message of an impossible length.")
        self._body_known = True
        self._make_room(bytes(self._room), len(self._room) + body)

    def _make_room(self, start: bytes, size: int) -> None:
        """Continue in new memory for ``size`` bytes, where what follows ``start`` is aligned."""
        pad = -len(start) % _ALIGNMENT
        buffer = pa.allocate_buffer(pad + size)
        self._message = buffer.slice(pad)
        self._room = memoryview(buffer).cast("B")[pad:]
        self._room[: len(start)] = start
        self._filled = len(start)

    def _take(self, kind: int, message: pa.Buffer) -> list[pa.RecordBatch]:
        if (kind == _SCHEMA) != (self.schema is None):
            raise BadAnswerError("The Arrow stream does not begin with its one schema.")
        try:
            if kind == _SCHEMA:
                self._schema_message = message.to_pybytes()
                self.schema = pa.ipc.read_schema(message)
            elif kind == _DICTIONARY_BATCH:
                self._dictionaries.append(message)
            elif kind == _RECORD_BATCH:
                return [self._read_batch(message)]
        except (pa.ArrowException, OSError) as error:
            raise BadAnswerError(f"The Arrow stream has an unreadable message: {error}") from None
        return []

    def _read_batch(self, message: pa.Buffer) -> pa.RecordBatch:
        if self._dictionaries:
            # pyarrow decodes dictionaries only inside a stream, so each batch gets a small one of its own.
            parts = [self._schema_message, *self._dictionaries, message]
            batch = pa.ipc.open_stream(pa.py_buffer(b"".join(parts))).read_next_batch()
        else:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(message), self.schema)
        batch.validate()  # cheap; offsets that point out of their buffers would crash the process later
        return batch


def _read_metadata(metadata: bytes) -> tuple[int, int]:
    """Return a message's header type and the length of its body.

    Raises:
        struct.error: If offsets point out of the metadata.
    """
    (table,) = struct.unpack_from("<I", metadata)
    (back,) = struct.unpack_from("<i", metadata, table)
    vtable = table - back
    if vtable < 0:
        raise struct.error
    (vtable_size,) = struct.unpack_from("<H", metadata, vtable)

    def field(index: int, form: str) -> int:
        entry = 4 + 2 * index
        if entry + 2 > vtable_size:
            return 0
        (offset,) = struct.unpack_from("<H", metadata, vtable + entry)
        return int(struct.unpack_from(form, metadata, table + offset)[0]) if offset else 0

    return field(_HEADER_TYPE, "<B"), field(_BODY_LENGTH, "<q")

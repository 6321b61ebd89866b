"""Decode an Arrow IPC stream from chunks as they arrive, complete or not at all.

pyarrow reads streams by pulling from a file, which an async client cannot offer, and takes a stream that is
cut off for a complete one. This decoder is pushed, holds one message at a time, and accepts only the
end-of-stream marker as the end.

The framing is that of the Arrow columnar specification, "Encapsulated message format". Of the metadata, a
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
_ALIGNMENT = 64  # bytes, of a message's body in memory, as Arrow recommends

_HEADER_TYPE, _BODY_LENGTH = 1, 3  # fields of the flatbuffer table Message
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3  # its header types


class StreamDecoder:
    """Converts chunks of bytes to record batches; memory holds one message and one chunk.

    Attributes:
        schema: The result's schema; ``None`` until it has arrived.
        ended: Whether the end-of-stream marker has arrived.
    """

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None
        self.ended = False
        self._schema_message = b""
        self._dictionaries: list[pa.Buffer] = []
        self._await_prefix()

    def __repr__(self) -> str:
        state = "ended" if self.ended else "before the schema" if self.schema is None else "open"
        return f"<StreamDecoder {state}, {self._filled} of {len(self._buffer)} bytes of a piece>"

    def feed(self, data: bytes) -> list[pa.RecordBatch]:
        """Decode the next bytes; returns the batches they complete.

        Raises:
            BadAnswerError: If the bytes are not an Arrow stream, or continue after its end.
        """
        batches: list[pa.RecordBatch] = []
        view = memoryview(data)
        while view:
            if self.ended:
                raise BadAnswerError("The Arrow stream continues after its end-of-stream marker.")
            count = min(len(view), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            if self._filled == len(self._buffer):
                batches += self._piece_complete()
        return batches

    def finish(self) -> pa.Schema:
        """End the input; returns the schema.

        Raises:
            TruncatedStreamError: If the end-of-stream marker has not arrived.
        """
        if not self.ended or self.schema is None:
            raise TruncatedStreamError("The Arrow stream stopped before its end-of-stream marker.")
        return self.schema

    def _await_prefix(self) -> None:
        self._message: pa.Buffer | None = None
        self._body_known = False
        self._buffer = memoryview(bytearray(_PREFIX))
        self._filled = 0

    def _piece_complete(self) -> list[pa.RecordBatch]:
        if self._message is None:
            self._prefix_complete()
            return []
        if not self._body_known:
            self._metadata_complete()
            if self._filled < len(self._buffer):
                return []
        message, kind = self._message, self._kind
        self._await_prefix()
        return self._take(kind, message)

    def _prefix_complete(self) -> None:
        word, length = struct.unpack("<Ii", self._buffer)
        if word != _CONTINUATION or not 0 <= length <= _MAX_METADATA:
            raise BadAnswerError("The answer is not an Arrow IPC stream.")
        if length == 0:
            self.ended = True
            return
        prefix = bytes(self._buffer)
        self._allocate(prefix, _PREFIX + length)

    def _metadata_complete(self) -> None:
        metadata = bytes(self._buffer[_PREFIX:])
        try:
            self._kind, body = _read_metadata(metadata)
        except struct.error:
            raise BadAnswerError("The Arrow stream has a message with unreadable metadata.") from None
        if not 0 <= body <= _MAX_BODY:
            raise BadAnswerError("The Arrow stream has a message of an impossible length.")
        self._body_known = True
        self._allocate(bytes(self._buffer), len(self._buffer) + body)

    def _allocate(self, start: bytes, size: int) -> None:
        """Allocate ``size`` bytes beginning with ``start``; the bytes after ``start`` are aligned."""
        pad = -len(start) % _ALIGNMENT
        buffer = pa.allocate_buffer(pad + size)
        self._message = buffer.slice(pad)
        self._buffer = memoryview(buffer).cast("B")[pad:]
        self._buffer[: len(start)] = start
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
            # pyarrow decodes dictionaries only in a stream, so each batch gets a small stream of its own.
            parts = [self._schema_message, *self._dictionaries, message]
            batch = pa.ipc.open_stream(pa.py_buffer(b"".join(parts))).read_next_batch()
        else:
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(message), self.schema)
        batch.validate()  # cheap; offsets outside their buffers would crash the process later
        return batch


def _read_metadata(metadata: bytes) -> tuple[int, int]:
    """Return a message's header type and the length of its body in bytes.

    Raises:
        struct.error: If an offset points outside the metadata.
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

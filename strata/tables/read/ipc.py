"""Encode and decode the parts of an Arrow IPC stream.

A stream (Arrow columnar specification, "IPC Streaming Format") is a schema message, record-batch messages
and one end-of-stream marker, at which readers stop. Row groups are encoded one by one: a cache segment is the
record-batch messages of one row group, and an artifact is
``schema_message(schema) + encode(row group)… + EOS``.

Encoding copies nothing: the parts of an :class:`Encoded` are the buffers of the batches, as ``os.writev``
takes them, and keep the batches' memory alive.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import attrs
import pyarrow as pa

EOS = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end-of-stream marker: a continuation word and a metadata length of zero."""

_OPTIONS = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V5, use_threads=False)


@attrs.frozen
class Encoded:
    """Record-batch messages without schema message and end-of-stream marker.

    Attributes:
        parts: The bytes in order, as a gather list; ``nbytes`` in total.
        nbytes: Length in bytes.
        rows: Rows in all messages.
    """

    parts: tuple[bytes | pa.Buffer, ...]
    nbytes: int
    rows: int

    def to_bytes(self) -> bytes:
        """Return the messages as one copied ``bytes``."""
        return b"".join(self.parts)


def crc32_of(encoded: Encoded, checksum: int) -> int:
    """Return the CRC-32 continued from ``checksum`` over the messages."""
    for part in encoded.parts:
        checksum = zlib.crc32(part, checksum)
    return checksum


NOTHING = Encoded((), 0, 0)
"""No messages."""


class _Gather:
    """File-like sink that collects the buffers written to it without copying."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes | pa.Buffer] = []
        self.nbytes = 0

    def write(self, data: bytes | pa.Buffer) -> int:
        size = len(data)
        if size:
            self.parts.append(data)
            self.nbytes += size
        return size

    def tell(self) -> int:
        return self.nbytes

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def schema_message(schema: pa.Schema) -> bytes:
    """Return the schema message that begins every stream of ``schema``."""
    return schema.serialize().to_pybytes()  # type: ignore[no-any-return]  # pyarrow is untyped


def encode(batches: Sequence[pa.RecordBatch]) -> Encoded:
    """Encode ``batches``, all of one schema, as consecutive record-batch messages.

    Raises:
        ValueError: If the schemas differ or a column is dictionary-encoded: dictionaries are messages of
            their own, and each segment must be decodable alone.
    """
    if not batches:
        return NOTHING
    schema = batches[0].schema
    _refuse_dictionaries(schema)
    gather = _Gather()
    with pa.PythonFile(gather, mode="w") as sink:
        writer = pa.ipc.new_stream(sink, schema, options=_OPTIONS)
        head = len(schema_message(schema))
        rows = 0
        for batch in batches:
            if not batch.schema.equals(schema):
                raise ValueError("all batches of a segment have one schema")
            writer.write_batch(batch)
            rows += batch.num_rows
        parts, nbytes = _without_head(gather.parts, head), gather.nbytes - head
        writer.close()
    return Encoded(parts, nbytes, rows)


def encoded_size(batches: Sequence[pa.RecordBatch]) -> int:
    """Return the bytes of memory that :func:`encode_into` needs."""
    if not batches:
        return 0
    rows: int = sum(pa.ipc.get_record_batch_size(batch) for batch in batches)
    return len(schema_message(batches[0].schema)) + rows + len(EOS)


def encode_into(batches: Sequence[pa.RecordBatch], memory: memoryview) -> tuple[int, int]:
    """Encode ``batches``, at least one and all of one schema, into memory; returns offset and bytes.

    Raises:
        ValueError: As :func:`encode`.
        OSError: If the memory is too small.
    """
    schema = batches[0].schema
    _refuse_dictionaries(schema)
    sink = pa.FixedSizeBufferWriter(pa.py_buffer(memory))  # a slice of a buffer could not be written to
    with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
        for batch in batches:
            writer.write_batch(batch)
        end = sink.tell()
    head = len(schema_message(schema))
    return head, end - head


def decode(schema: pa.Schema, data: bytes | pa.Buffer | memoryview) -> list[pa.RecordBatch]:
    """Decode concatenated record-batch messages; the batches are views of ``data``.

    Raises:
        pyarrow.ArrowInvalid: If ``data`` is not a sequence of complete messages of ``schema``.
    """
    source = pa.BufferReader(data)
    size = source.size()
    batches = []
    while source.tell() < size:
        message = pa.ipc.read_message(source)
        batches.append(pa.ipc.read_record_batch(message, schema))
    return batches


def decoded(encoded: Encoded, schema: pa.Schema) -> list[pa.RecordBatch]:
    """Decode messages; the batches are views of their memory."""
    return [batch for part in encoded.parts for batch in decode(schema, part)]


def _without_head(parts: list[bytes | pa.Buffer], head: int) -> tuple[bytes | pa.Buffer, ...]:
    skipped = 0
    for index, part in enumerate(parts):
        if skipped == head:
            return tuple(parts[index:])
        skipped += len(part)
    if skipped != head:
        raise ValueError("the writer did not begin with the schema message")
    return ()


def _refuse_dictionaries(schema: pa.Schema) -> None:
    if any(_has_dictionary(field.type) for field in schema):
        raise ValueError("a segment holds no dictionary-encoded columns")


def _has_dictionary(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(index).type) for index in range(kind.num_fields))

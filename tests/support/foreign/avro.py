"""Write Avro object container files by hand, so that they have what any engine writes and pyiceberg does not."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

MARK = b"sync" * 4


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def _snappy(data: bytes) -> bytes:
    return pa.Codec("snappy").compress(data, asbytes=True) + zlib.crc32(data).to_bytes(4, "big")


def _zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstd,
}
"""Codecs of the Avro specification ("Object Container Files")."""


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


NAMED: dict[str, Any] = {}
"""Types of the file that is written by their names, by which later fields may mention them."""


def encode(value: Any, schema: Any) -> bytes:  # noqa: C901, PLR0912  # a case a type
    """Return the binary encoding of a value."""
    if isinstance(schema, dict) and schema.get("type") == "fixed":
        NAMED[schema["name"]] = schema
    if isinstance(schema, list):
        for place, one in enumerate(schema):
            if (one == "null") == (value is None):
                return varint(place) + encode(value, one)
        raise ValueError(schema)
    kind = schema["type"] if isinstance(schema, dict) else schema
    match kind:
        case "null":
            return b""
        case "boolean":
            return bytes([value])
        case "int" | "long":
            return varint(value)
        case "float":
            return struct.pack("<f", value)
        case "double":
            return struct.pack("<d", value)
        case "bytes":
            return varint(len(value)) + value
        case "string":
            return encode(value.encode(), "bytes")
        case "fixed":
            return value
        case "record":
            return b"".join(encode(value.get(one["name"]), one["type"]) for one in schema["fields"])
        case "array":
            body = b"".join(encode(one, schema["items"]) for one in value)
            return (varint(len(value)) + body if value else b"") + b"\0"
        case _:
            return encode(value, NAMED.get(kind, kind) if isinstance(kind, str) else kind)


def write(
    path: Path,
    schema: Any,
    records: list[Mapping[str, Any]],
    header: Mapping[str, str],
    *,
    codec: str = "deflate",
    per_block: int = 1000,
) -> int:
    """Write a file, with blocks of ``per_block`` records; returns its size."""
    meta = {**header, "avro.schema": json.dumps(schema), "avro.codec": codec}
    if codec == "null":
        del meta["avro.codec"]  # it may be left out
    out = b"Obj\1" + varint(len(meta))
    for key, text in meta.items():
        out += encode(key, "string") + encode(text, "string")
    out += b"\0" + MARK
    for at in range(0, len(records), per_block):
        block = records[at : at + per_block]
        body = CODECS[codec](b"".join(encode(one, schema) for one in block))
        out += varint(len(block)) + varint(len(body)) + body + MARK
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out)
    return len(out)

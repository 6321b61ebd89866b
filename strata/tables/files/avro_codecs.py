"""Unpack the blocks of Avro files, whatever their codec, within a bound.

A block of one megabyte may unpack to a thousand. The codecs are those of the Avro specification ("Object
Container Files", "Required Codecs" and "Optional Codecs").
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping

import pyarrow as pa

from strata.outcomes import Reason, RefusalError, Refused

MOST_BYTES = 256 << 20
"""Bytes of an unpacked block; a larger one is an error. Writers begin a new block after 64 KiB or so."""

_RAW_DEFLATE = -15
_CRC_BYTES = 4


def unpack(codec: str, data: bytes) -> bytes:
    """Return the unpacked bytes of a block.

    Args:
        codec: The codec's name in the file's header.
        data: The packed bytes.

    Raises:
        RefusalError: UNSUPPORTED for an unknown codec.
        Exception: Of many kinds, if the data is damaged or unpacks to more than :data:`MOST_BYTES`.
    """
    if codec == "null":
        return data
    found = _CODECS.get(codec)
    if found is None:
        detail = f"The table cannot be read exactly: a manifest has the unknown codec {codec[:20]!r}"
        raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))
    return found(data)


def _deflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(_RAW_DEFLATE)
    unpacked = unpacker.decompress(data, MOST_BYTES)
    return _whole(unpacked, ended=unpacker.eof)


def _bzip2(data: bytes) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    unpacked = unpacker.decompress(data, MOST_BYTES)
    return _whole(unpacked, ended=unpacker.eof)


def _xz(data: bytes) -> bytes:
    unpacker = lzma.LZMADecompressor()
    unpacked = unpacker.decompress(data, MOST_BYTES)
    return _whole(unpacked, ended=unpacker.eof)


def _zstandard(data: bytes) -> bytes:
    with pa.input_stream(pa.BufferReader(data), compression="zstd") as stream:
        unpacked: bytes = stream.read(MOST_BYTES + 1)
    return _whole(unpacked, ended=bool(data) and len(unpacked) <= MOST_BYTES)


def _snappy(data: bytes) -> bytes:
    """Unpack Snappy, which begins with the unpacked length; a CRC-32 of the unpacked bytes follows."""
    size = shift = 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte <= 0x7F:  # noqa: PLR2004  # the last byte of the length has no highest bit
            break
    _whole(b"", ended=size <= MOST_BYTES)
    unpacked: bytes = pa.decompress(data[:-_CRC_BYTES], decompressed_size=size, codec="snappy", asbytes=True)
    if zlib.crc32(unpacked) != int.from_bytes(data[-_CRC_BYTES:], "big"):
        raise ValueError("the checksum of a block is wrong")
    return unpacked


def _whole(unpacked: bytes, *, ended: bool) -> bytes:
    if not ended:
        raise ValueError(f"a block breaks off or unpacks to more than {MOST_BYTES} bytes")
    return unpacked


_CODECS: Mapping[str, Callable[[bytes], bytes]] = {
    "bzip2": _bzip2,
    "deflate": _deflate,
    "snappy": _snappy,
    "xz": _xz,
    "zstandard": _zstandard,
}

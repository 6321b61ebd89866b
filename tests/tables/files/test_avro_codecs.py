"""Blocks of Avro files are unpacked with every codec of the specification, within a bound."""

import bz2
import lzma
import random
import zlib
from collections.abc import Callable

import pyarrow as pa
import pytest

from strata.outcomes import Reason, RefusalError
from strata.tables.files import avro_codecs
from strata.tables.files.avro_codecs import unpack

DATA = random.Random(1).randbytes(500) + b"x" * 100_000


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def snappy(data: bytes) -> bytes:
    return pa.compress(data, codec="snappy", asbytes=True) + zlib.crc32(data).to_bytes(4, "big")


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "bzip2": bz2.compress,
    "deflate": deflate,
    "snappy": snappy,
    "xz": lzma.compress,
    "zstandard": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("codec", [*PACKERS, "null"])
@pytest.mark.parametrize("data", [DATA, b"", b"x"], ids=len)
def test_a_block_is_unpacked(codec: str, data: bytes) -> None:
    """Avro specification, "Required Codecs" and "Optional Codecs"."""
    assert data == unpack(codec, PACKERS[codec](data) if codec in PACKERS else data)


@pytest.mark.parametrize("codec", PACKERS)
def test_a_block_that_unpacks_to_more_than_the_bound_is_an_error(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte beyond is an error, the bound itself is not."""
    packed = PACKERS[codec](DATA)
    monkeypatch.setattr(avro_codecs, "MOST_BYTES", len(DATA) - 1)
    with pytest.raises(ValueError, match="more than"):
        unpack(codec, packed)


@pytest.mark.parametrize("codec", PACKERS)
@pytest.mark.parametrize("left", [0, 1, 5, 50])
def test_a_block_that_breaks_off_is_an_error(codec: str, left: int) -> None:
    """No beginning of a block is taken for all of it."""
    with pytest.raises((ValueError, OSError, EOFError, pa.ArrowException)):
        unpack(codec, PACKERS[codec](DATA)[:left])


def test_a_wrong_checksum_is_an_error() -> None:
    """Snappy's blocks end with a CRC-32 of the unpacked bytes."""
    packed = snappy(DATA)
    with pytest.raises(ValueError, match="checksum"):
        unpack("snappy", packed[:-1] + bytes([packed[-1] ^ 1]))


def test_an_unknown_codec_is_named() -> None:
    """It is no damage: the table can be rewritten."""
    with pytest.raises(RefusalError, match="'lz4'") as caught:
        unpack("lz4", b"")
    assert Reason.UNSUPPORTED == caught.value.refused.reason

"""Sidecars and segments of cached packs: any damage is a miss."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from fuzz_kit import damaged, fuzz, integers, texts
from hypothesis import given
from hypothesis import strategies as st

from strata.cache import CacheShard, Columns, Damaged, SegmentKey
from strata.cache.packs import DATA, SIDECAR, read
from strata.tables.read.ipc import encode

pytestmark = pytest.mark.slow

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.large_string())])
FIELDS = ((1, "long"), (2, "string"))
KEY = SegmentKey("f", 0)
ROWS = pa.record_batch([[1, 2, 3], ["a", None, "c"]], schema=SCHEMA)
BUDGET = 1 << 20


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Return the two files of a valid pack: data and sidecar."""
    root = tmp_path_factory.mktemp("sound")
    shard = CacheShard.open(root, budget_bytes=BUDGET)
    writer = shard.begin_pack(Columns(FIELDS, SCHEMA))
    for number in range(2):
        encoded = encode([ROWS])
        crc32 = 0
        for part in encoded.parts:
            crc32 = zlib.crc32(part, crc32)
        writer.append(SegmentKey("f", number), encoded, crc32)
    writer.commit()
    (data,) = root.glob(f"*{DATA}")
    return data.read_bytes(), data.with_suffix(SIDECAR).read_bytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shard")


def open_with(root: Path, data: bytes, sidecar: bytes) -> CacheShard:
    for old in root.iterdir():
        old.unlink()
    (root / f"p{DATA}").write_bytes(data)
    (root / f"p{SIDECAR}").write_bytes(sidecar)
    return CacheShard.open(root, budget_bytes=BUDGET)


def check(shard: CacheShard, root: Path) -> bool:
    """Read everything in the shard's index; returns whether all of it is the valid pack's rows."""
    sound = True
    for key in (KEY, SegmentKey("f", 1)):
        for fields, schema in ((FIELDS, SCHEMA), (FIELDS[1:], SCHEMA.remove(0))):
            found = shard.lookup(key, fields)
            rows = Damaged() if found is None else shard.read(found, fields, schema)
            sound = sound and rows == [ROWS.select(schema.names)]
            if found is not None:
                shard.read_raw(found)
    kept = {path.suffix for path in root.iterdir()}
    assert kept in (set(), {DATA, SIDECAR})
    return sound


def sealed(entry: bytes) -> bytes:
    return zlib.crc32(entry).to_bytes(4, "big") + entry


@fuzz
@given(how=st.data())
def test_a_damaged_sidecar_is_a_miss(stored, root, how) -> None:
    """No exception and no other rows; the pack's files are removed."""
    data, sidecar = stored
    given_sidecar = how.draw(damaged(st.just(sidecar)))
    shard = open_with(root, data, given_sidecar)
    assert check(shard, root) == (given_sidecar == sidecar)
    assert bool(shard.stats().segments) == (given_sidecar == sidecar)


_numbers = st.one_of(st.integers(0, 2000), integers)
_schemas = st.one_of(
    st.just(SCHEMA.serialize().to_pybytes()),
    st.just(pa.schema([("id", pa.int64())]).serialize().to_pybytes()),
    st.just(pa.schema([("id", pa.int32()), ("name", pa.int8())]).serialize().to_pybytes()),
    damaged(st.just(SCHEMA.serialize().to_pybytes())),
    st.binary(max_size=16),
)


@fuzz
@given(how=st.data())
def test_a_sidecar_that_lies_is_a_miss_or_an_error_value(stored, root, how) -> None:
    """Its checksum is valid and its content is wrong: offsets outside the file, other fields, another schema."""
    data, sidecar = stored
    version, size, fields, _schema, entries = msgspec.msgpack.decode(sidecar[4:]).values()
    file_key, row_group, offset, length, crc32, rows = entries[0]
    offset, length = how.draw(st.one_of(st.just((offset, length)), st.tuples(_numbers, _numbers)))
    slice_of = data[offset : offset + length] if 0 <= offset < 10**6 and 0 <= length < 10**6 else b""
    crc32 = how.draw(st.sampled_from([crc32, zlib.crc32(slice_of)]))
    draw_number = how.draw(_numbers)
    wire = {
        "version": how.draw(st.sampled_from([version, version, 2, -1])),
        "size": how.draw(st.sampled_from([size, size, draw_number])),
        "fields": how.draw(
            st.sampled_from([fields, fields, fields[:1], [*fields, (3, "int")], fields[::-1], []])
        ),
        "schema": how.draw(_schemas),
        "entries": [
            (how.draw(st.sampled_from([file_key, how.draw(texts)])), row_group, offset, length, crc32, rows)
        ],
    }
    try:
        entry = msgspec.msgpack.encode(wire)
    except (OverflowError, UnicodeEncodeError):  # what msgpack cannot say
        return
    check(open_with(root, data, sealed(entry)), root)


@fuzz
@given(how=st.data())
def test_a_damaged_segment_is_never_read(stored, root, how) -> None:
    """The checksum is verified first, so no garbage reaches the decoder."""
    data, sidecar = stored
    given_data = how.draw(damaged(st.just(data)))
    shard = open_with(root, given_data, sidecar)
    for number in range(2):
        found = shard.lookup(SegmentKey("f", number), FIELDS)
        if found is None:
            assert len(given_data) != len(data)
            continue
        raw = read(found.path, found.packed)
        at, length = found.packed.offset, found.packed.length
        assert raw == (
            data[at : at + length] if given_data[at : at + length] == data[at : at + length] else None
        )

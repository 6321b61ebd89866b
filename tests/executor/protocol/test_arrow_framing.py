"""A stream that is cut, continued, compressed or unsound is never taken for a whole one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from executor_kit import stream_of
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.executor.protocol.arrow_framing import ArrowFraming, FramingError, check_values

BATCH = pa.record_batch(
    {"a": [1, 2, 3], "s": ["x", None, "zz"], "d": pa.array(["p", "q", "p"]).dictionary_encode()}
)
WHOLE = stream_of(BATCH, BATCH.slice(1))


def follow(data: bytes, step: int = 1 << 20) -> ArrowFraming:
    found = ArrowFraming()
    for at in range(0, len(data), step):
        found.feed(data[at : at + step])
    found.finish()
    return found


@given(st.integers(1, 3000))
@settings(max_examples=30)
def test_the_rows_are_counted_however_it_is_cut(step: int) -> None:
    """A stream of two batches and a dictionary, in pieces of any size."""
    assert 5 == follow(WHOLE, step).rows


@given(st.integers(0, len(WHOLE) - 1))
def test_a_stream_cut_anywhere_is_not_whole(length: int) -> None:
    """Every prefix is an error at its end, if not before."""
    with pytest.raises(FramingError):
        follow(WHOLE[:length])


@pytest.mark.parametrize(
    "data",
    [
        WHOLE + WHOLE,
        WHOLE + b"\0",
        b"PAR1" + WHOLE,
        stream_of(BATCH, options=pa.ipc.IpcWriteOptions(compression="zstd")),
        stream_of(BATCH, end=False) + stream_of(BATCH),
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\xff\xff\xff\xff\x08\0\0\0" + b"\xee" * 8,
    ],
)
def test_what_is_no_single_plain_stream_is_refused(data: bytes) -> None:
    """Two streams, a byte after the end, compression, and junk."""
    with pytest.raises(FramingError):
        follow(data)


def test_unsound_values_are_found(tmp_path: Path) -> None:
    """Offsets that point outside of their buffer are found before anything reads the rows."""
    offsets = pa.py_buffer(pa.array([0, 900, 2], pa.int32()).buffers()[1])
    bad = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"ab"))
    (tmp_path / "f").write_bytes(stream_of(pa.record_batch({"s": bad})))
    with pytest.raises(FramingError):
        list(check_values(tmp_path / "f"))
    (tmp_path / "g").write_bytes(WHOLE)
    assert 5 == [*check_values(tmp_path / "g")][-1][1]


def test_no_more_of_a_stream_is_in_memory_than_a_step_reads(tmp_path: Path) -> None:
    """A result of a gigabyte is checked without a gigabyte of the server's memory."""
    (tmp_path / "large").write_bytes(stream_of(*[pa.record_batch({"a": range(500_000)})] * 4))
    seen = [(rows, resident_bytes(tmp_path / "large")) for _, rows in check_values(tmp_path / "large")]
    assert 2_000_000 == seen[-1][0]
    assert {0} == {resident for rows, resident in seen if rows}


def resident_bytes(path: Path) -> int:
    """Return how many bytes of a mapped file are in this process's memory."""
    found, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024 * ours
        elif "-" in line.split()[0]:
            ours = line.endswith(str(path))
    return found

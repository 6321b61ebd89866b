"""Rows are written by whoever has read them, if they are next; in order, once, and by one thread at a time."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from inline_pool import InlinePool
from trio.testing import wait_all_tasks_blocked

from strata.outcomes import Reason, RefusalError
from strata.tables.read.ipc import Encoded
from strata.tenants.builds import scan_pipeline
from strata.tenants.builds.output import Output
from strata.tenants.builds.reorder_buffer import Piece, RowGroupStream, Written
from strata.tenants.builds.scan_pipeline import ScanBuild
from strata.tenants.shared.byte_stream import Tail
from strata.work import Tier

LIMIT = 100


class Writer:
    """A blob in memory.

    Attributes:
        data: What was appended.
        busy: Whether a disk would have to be waited for.
        failures: How many appends write a part and then fail.
        gate: What an append waits for.
    """

    def __init__(self) -> None:
        self.data = b""
        self.busy = False
        self.failures = 0
        self.began = threading.Event()
        self.authorizer = threading.Event()
        self.authorizer.set()

    @property
    def on_file(self) -> int:
        """A byte is always on its way."""
        return max(0, len(self.data) - 1)

    def append(self, parts: tuple[bytes, ...]) -> int:
        """See :class:`strata.artifacts.BlobWriter`."""
        self.began.set()
        assert self.authorizer.wait(30)
        offset, self.data = len(self.data), self.data + b"".join(parts)
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return offset

    def behind(self, _count: int) -> bool:
        """See :class:`strata.artifacts.BlobWriter`."""
        return self.busy


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def output(writer: Writer) -> Output:
    found = Output(SimpleNamespace(passthrough=True), None, "acme", LIMIT)
    found.writer = writer
    return found


def lane() -> RowGroupStream:
    return RowGroupStream(SimpleNamespace(nbytes=1, num_rows=1), 1)


def piece(data: bytes) -> Piece:
    return Piece(Encoded((data,), len(data), 1), 1, None)


def test_rows_that_are_next_are_written_where_they_were_read(output: Output, writer: Writer) -> None:
    """And say where they are, and how much of the blob is in the file."""
    here = lane()
    output.let(here)
    for offset, data in ((0, b"abc"), (3, b"defg")):
        found = output.write_if_next(here, piece(data), 0)
        assert Written(offset, offset + len(data) - 1) == found.written
        assert piece(data).out == found.out
    assert b"abcdefg" == writer.data
    assert 7 == output.size


def test_rows_that_are_not_next_are_not_written(output: Output, writer: Writer) -> None:
    """Those of a later row group, and those with others of the same one before them on their way."""
    first, second = lane(), lane()
    assert output.write_if_next(first, piece(b"x"), 0).written is None
    output.let(first)
    assert output.write_if_next(second, piece(b"x"), 0).written is None
    first.unwritten = 1
    assert output.write_if_next(first, piece(b"x"), 0).written is None
    output.let(None)
    first.unwritten = 0
    assert output.write_if_next(first, piece(b"x"), 0).written is None
    assert b"" == writer.data


async def test_an_offered_slice_counts_until_somebody_writes_it(output: Output) -> None:
    """From before it is in the channel: the next one may be read as soon as it is taken out."""
    here = lane()
    output.let(here)
    with trio.move_on_after(0):
        await here.offer(output.write_if_next(here, piece(b"a"), 0))
    assert 0 == here.unwritten
    with trio.move_on_after(0):
        await here.offer(piece(b"b"))
    assert 1 == here.unwritten
    assert output.write_if_next(here, piece(b"c"), 0).written is None


def test_what_would_wait_or_be_too_large_is_left_to_whoever_says_so(output: Output, writer: Writer) -> None:
    """A core is not held for a disk, and a limit is a refusal in words, to the byte."""
    here = lane()
    output.let(here)
    writer.busy = True
    assert output.write_if_next(here, piece(b"x"), 0).written is None
    writer.busy = False
    assert output.write_if_next(here, piece(b"x" * (LIMIT + 1)), 0).written is None
    output.check_room(LIMIT)
    with pytest.raises(RefusalError) as caught:
        output.check_room(LIMIT + 1)
    assert Reason.TOO_LARGE is caught.value.refused.reason
    assert output.write_if_next(here, piece(b"x" * LIMIT), 0).written is not None
    assert output.write_if_next(here, piece(b"y"), 0).written is None
    assert b"x" * LIMIT == writer.data


def test_no_byte_is_written_after_a_write_that_failed(output: Output, writer: Writer) -> None:
    """A part of it may be in the file: written again, it would be there twice."""
    here = lane()
    output.let(here)
    writer.failures = 1
    found = output.write_if_next(here, piece(b"abc"), 0)
    assert found.written is None
    with pytest.raises(OSError, match="No space"):
        output.write(found.out, found, here)
    assert output.write_if_next(here, piece(b"def"), 0).written is None
    assert b"abc" == writer.data
    assert 0 == output.size


async def test_a_slice_that_was_written_late_does_not_make_the_next_one_late(
    tmp_path: Path, writer: Writer
) -> None:
    """It is the lane's turn from then on; the first slice is often read before there is a blob."""
    blob = tmp_path / "blob"
    blob.touch()
    tail = Tail(os.open(blob, os.O_RDONLY))
    scan = ScanBuild(
        plan=SimpleNamespace(passthrough=True),
        build=SimpleNamespace(tail=tail, rows_done=0),
        shard=SimpleNamespace(generation=0, most_of_one_scan=0),
        pool=InlinePool(1),
        flow="acme",
        principal="ana",
        tier=Tier.BULK,
        limits=SimpleNamespace(max_response_bytes=LIMIT),
        disk=trio.CapacityLimiter(1),
        started=lambda: None,
    )
    here = lane()
    late = scan.output.write_if_next(here, piece(b"abc"), 0)
    assert late.written is None
    scan.output.begin(writer, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scan._take, here)
        async with here.send:
            await here.offer(late)
            await wait_all_tasks_blocked()
            prompt = scan.output.write_if_next(here, piece(b"de"), 0)
            assert prompt.written is not None
            await here.offer(prompt)
    assert b"abcde" == writer.data
    assert 5 == tail.size
    assert b"abcde" == b"".join(tail.hot(0, 5))
    assert scan.output.write_if_next(here, piece(b"x"), 0).written is None
    tail.close()


def test_writing_is_charged_whoever_does_it(output: Output) -> None:
    """A tenant whose rows are next by luck pays no less than one whose are not."""
    here = lane()
    read = Piece(Encoded((b"ab",), 2, 1), 1, Encoded((b"abcde",), 5, 2))
    assert 5 == scan_pipeline._took(read)
    output.let(here)
    assert 5 + 2 == scan_pipeline._took(output.write_if_next(here, read, 0))


async def test_whoever_cleans_up_finds_the_files_at_rest(output: Output, writer: Writer) -> None:
    """A thread that nobody waits for any more may be in the middle of a write."""
    here, found = lane(), []
    output.let(here)
    writer.authorizer.clear()
    thread = threading.Thread(target=lambda: found.append(output.write_if_next(here, piece(b"abc"), 0)))
    thread.start()
    assert writer.began.wait(30)
    async with trio.open_nursery() as nursery:
        rested = trio.Event()

        async def rest() -> None:
            with trio.CancelScope() as scope:
                scope.cancel()  # whoever cleans up was often cancelled
                await output.rest()
            assert b"abc" == writer.data
            rested.set()

        nursery.start_soon(rest)
        await wait_all_tasks_blocked()
        assert not rested.is_set()
        writer.authorizer.set()
        await rested.wait()
    thread.join()
    assert found[0].written is not None
    assert output.write_if_next(here, piece(b"def"), 0).written is None

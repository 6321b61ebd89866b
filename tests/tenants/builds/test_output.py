"""Output writes slices in order, once, and in one thread at a time."""

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
from strata.tables import ScanSpec
from strata.tables.read.ipc import Encoded
from strata.tenants.builds import reorder_buffer
from strata.tenants.builds.output import Output
from strata.tenants.builds.reorder_buffer import BlobPosition, RowGroupStream, Slice
from strata.tenants.builds.scan_pipeline import ScanBuild
from strata.tenants.builds.work import BuildWork
from strata.tenants.shared.byte_stream import Tail
from strata.tenants.shared.thread_groups import ThreadGroups
from strata.work import Tier

LIMIT = 100
TASK = SimpleNamespace(nbytes=1, num_rows=1)


class Writer:
    """A blob in memory.

    Attributes:
        data: What was appended.
        busy: Whether an append would wait for the disk.
        failures: How many appends write their bytes and then fail.
        began: Set when an append has begun.
        gate: What an append waits for.
    """

    def __init__(self) -> None:
        self.data = b""
        self.busy = False
        self.failures = 0
        self.began = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    @property
    def on_file(self) -> int:
        """The last byte is always buffered."""
        return max(0, len(self.data) - 1)

    def append(self, parts: tuple[bytes, ...]) -> int:
        """See :class:`strata.artifacts.BlobWriter`."""
        self.began.set()
        assert self.gate.wait(30)
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


def new_stream() -> RowGroupStream:
    return RowGroupStream(TASK, 1)


def slice_of(data: bytes) -> Slice:
    return Slice(TASK, Encoded((data,), len(data), 1), 1, None)


def test_a_slice_that_is_next_is_written_where_it_was_read(output: Output, writer: Writer) -> None:
    """The returned slice has its offset in the blob, and the bytes that are in the file."""
    stream = new_stream()
    output.set_next(stream)
    for offset, data in ((0, b"abc"), (3, b"defg")):
        found = output.write_if_next(stream, slice_of(data), 0)
        assert BlobPosition(offset, offset + len(data) - 1, slice_of(data).out) == found.written
        assert slice_of(data).out == found.out
    assert b"abcdefg" == writer.data
    assert 7 == output.size


def test_a_slice_that_is_not_next_is_not_written(output: Output, writer: Writer) -> None:
    """A slice of a later row group, or behind an unwritten one of its own row group, is not written."""
    first, second = new_stream(), new_stream()
    assert output.write_if_next(first, slice_of(b"x"), 0).written is None
    output.set_next(first)
    assert output.write_if_next(second, slice_of(b"x"), 0).written is None
    first.unwritten = 1
    assert output.write_if_next(first, slice_of(b"x"), 0).written is None
    output.set_next(None)
    first.unwritten = 0
    assert output.write_if_next(first, slice_of(b"x"), 0).written is None
    assert b"" == writer.data


async def test_an_offered_slice_counts_as_unwritten_until_it_is_written(output: Output) -> None:
    """It counts from before it is in the channel: once it is received, the next slice may be read."""
    stream = new_stream()
    output.set_next(stream)
    with trio.move_on_after(0):
        await stream.offer(output.write_if_next(stream, slice_of(b"a"), 0))
    assert 0 == stream.unwritten
    with trio.move_on_after(0):
        await stream.offer(slice_of(b"b"))
    assert 1 == stream.unwritten
    assert output.write_if_next(stream, slice_of(b"c"), 0).written is None


def test_a_slice_that_would_wait_or_exceed_the_limit_is_not_written(output: Output, writer: Writer) -> None:
    """A core is not held while the disk is busy, and the limit is a refusal, exact to the byte."""
    stream = new_stream()
    output.set_next(stream)
    writer.busy = True
    assert output.write_if_next(stream, slice_of(b"x"), 0).written is None
    writer.busy = False
    assert output.write_if_next(stream, slice_of(b"x" * (LIMIT + 1)), 0).written is None
    output.check_limit(LIMIT)
    with pytest.raises(RefusalError) as caught:
        output.check_limit(LIMIT + 1)
    assert Reason.TOO_LARGE is caught.value.refused.reason
    assert output.write_if_next(stream, slice_of(b"x" * LIMIT), 0).written is not None
    assert output.write_if_next(stream, slice_of(b"y"), 0).written is None
    assert b"x" * LIMIT == writer.data


def test_no_byte_is_written_after_a_write_that_failed(output: Output, writer: Writer) -> None:
    """Part of the failed slice may be in the file: a second write would repeat it."""
    stream = new_stream()
    output.set_next(stream)
    writer.failures = 1
    found = output.write_if_next(stream, slice_of(b"abc"), 0)
    assert found.written is None
    with pytest.raises(OSError, match="No space"):
        output.write(found.out, found)
    assert output.write_if_next(stream, slice_of(b"def"), 0).written is None
    assert b"abc" == writer.data
    assert 0 == output.size


async def test_a_slice_that_was_written_late_does_not_make_the_next_one_late(
    tmp_path: Path, writer: Writer
) -> None:
    """After a slice read before the blob was open, the next one is written by the quantum that reads it."""
    blob = tmp_path / "blob"
    blob.touch()
    tail = Tail(os.open(blob, os.O_RDONLY))
    scan = ScanBuild(
        plan=SimpleNamespace(passthrough=True, scan=SimpleNamespace(restricted=False, spec=ScanSpec())),
        build=SimpleNamespace(tail=tail, rows_done=0),
        shard=SimpleNamespace(generation=0, most_of_one_scan=0),
        work=BuildWork(InlinePool(1), "acme", "ana", Tier.BULK, fetch_timeout=1.0),
        limits=SimpleNamespace(max_response_bytes=LIMIT),
        disk=ThreadGroups().disk,
        started=lambda: None,
    )
    stream = new_stream()
    late = scan.output.write_if_next(stream, slice_of(b"abc"), 0)
    assert late.written is None
    scan.output.begin(writer, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scan._write_stream, stream)
        async with stream.send:
            await stream.offer(late)
            await wait_all_tasks_blocked()
            prompt = scan.output.write_if_next(stream, slice_of(b"de"), 0)
            assert prompt.written is not None
            await stream.offer(prompt)
    assert b"abcde" == writer.data
    assert 5 == tail.size
    assert b"abcde" == b"".join(tail.hot(0, 5))
    assert scan.output.write_if_next(stream, slice_of(b"x"), 0).written is None
    tail.close()


def test_the_quantum_that_writes_a_slice_is_charged_for_it(output: Output) -> None:
    """A slice written where it was read costs its tenant as much as one written by another quantum."""
    stream = new_stream()
    read = Slice(TASK, Encoded((b"ab",), 2, 1), 1, Encoded((b"abcde",), 5, 2))
    assert 5 == reorder_buffer.charged_bytes(read)
    output.set_next(stream)
    assert 5 + 2 == reorder_buffer.charged_bytes(output.write_if_next(stream, read, 0))


async def test_no_thread_writes_after_quiesce(output: Output, writer: Writer) -> None:
    """``quiesce`` waits for a write in progress, also when its caller is cancelled, and lets none begin."""
    stream, found = new_stream(), []
    output.set_next(stream)
    writer.gate.clear()
    thread = threading.Thread(target=lambda: found.append(output.write_if_next(stream, slice_of(b"abc"), 0)))
    thread.start()
    assert writer.began.wait(30)
    async with trio.open_nursery() as nursery:
        quiet = trio.Event()

        async def quiesce() -> None:
            with trio.CancelScope() as scope:
                scope.cancel()  # clean-up often follows a cancellation
                await output.quiesce(ThreadGroups().disk)
            assert b"abc" == writer.data
            quiet.set()

        nursery.start_soon(quiesce)
        await wait_all_tasks_blocked()
        assert not quiet.is_set()
        writer.gate.set()
        await quiet.wait()
    thread.join()
    assert found[0].written is not None
    assert output.write_if_next(stream, slice_of(b"def"), 0).written is None

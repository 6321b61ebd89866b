"""Large blobs past the page cache: the same bytes, with and without O_DIRECT support."""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from strata.artifacts.blobs import direct
from strata.artifacts.blobs.direct import BLOCK, BUFFER_BYTES, WRITES, DirectTail
from strata.artifacts.blobs.growing import DIRECT_FROM, GrowingFile


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "blob"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    yield descriptor, path
    os.close(descriptor)


def grown(file: tuple[int, Path], start: bytes) -> DirectTail:
    os.write(file[0], start)
    try:
        return DirectTail(*file, len(start))
    except OSError:
        pytest.skip("the file system of temporary files takes no direct writes")


@pytest.mark.parametrize("start", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 17])
def test_any_pieces_from_any_offset_are_the_same_bytes(file, start: int) -> None:
    """Unaligned starts, parts larger than a buffer, and settling in between."""
    draw = random.Random(start)
    expected = draw.randbytes(start)
    tail = grown(file, expected)
    for size in (1, BLOCK, 0, 5 * BLOCK + 3, BUFFER_BYTES - 1, BUFFER_BYTES, 2 * BUFFER_BYTES + 11, 7):
        piece = draw.randbytes(size)
        tail.append([piece[: size // 3], piece[size // 3 :]])
        expected += piece
        on_file = tail.on_file
        assert on_file <= len(expected)
        assert expected[:on_file] == file[1].read_bytes()[:on_file]
        if draw.random() < 0.5:
            tail.settle()
            assert expected == file[1].read_bytes()
            assert len(expected) == tail.on_file
    tail.settle()
    tail.close()
    tail.close()
    assert expected == file[1].read_bytes()


@pytest.mark.parametrize("written", [0, 1, BLOCK, BLOCK + 1, errno.EINVAL, errno.EOPNOTSUPP])
def test_what_is_not_written_directly_is_written_all_the_same(
    file, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Short direct writes, and file systems that open a file with O_DIRECT and then refuse writes."""
    tail, real = grown(file, b"start"), os.pwrite
    direct_fd = tail._direct

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if descriptor != direct_fd:
            return real(descriptor, data, offset)
        if written in (errno.EINVAL, errno.EOPNOTSUPP):
            raise OSError(written, os.strerror(written))
        return real(file[0], data[:written], offset) if written else 0

    monkeypatch.setattr(os, "pwrite", pwrite)
    piece = random.Random(1).randbytes(BUFFER_BYTES + 3 * BLOCK)
    tail.append([piece])
    tail.settle()
    tail.close()
    assert b"start" + piece == file[1].read_bytes()


def test_a_disk_that_is_full_is_the_callers_error(file, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised; missing bytes never count as written."""
    tail = grown(file, b"")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    tail.append([b"x" * 10])
    with pytest.raises(OSError, match="No space"):
        tail.settle()
    again = grown(file, b"")
    again.append([b"x" * BUFFER_BYTES])
    for _ in range(2):  # its bytes are lost, and it says so for good
        again.catch_up()
        with pytest.raises(OSError, match="No space"):
            again.settle()
        with pytest.raises(OSError, match="No space"):
            again.append([b"x"])
    assert 0 == again.on_file
    again.close()
    assert 0 == tail.on_file
    tail.close()


def test_buffers_are_reused_without_their_former_content(file) -> None:
    """Only the appended bytes are written, none of a buffer's former content."""
    tail = grown(file, b"")
    tail.append([b"secret" * 1000])
    buffer = tail._view.obj
    tail.close()
    again = grown(file, b"")
    assert again._view.obj is buffer
    again.append([b"mine"])
    again.settle()
    again.close()
    assert b"mine" == file[1].read_bytes()


@pytest.mark.parametrize("known", [True, False])
def test_a_large_blob_is_the_same_with_and_without_direct_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """A system without O_DIRECT writes plainly."""
    if not known:
        monkeypatch.setattr(direct, "_O_DIRECT", 0)
    path = tmp_path / "blob"
    growing = GrowingFile(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), path)
    draw, expected = random.Random(7), b""
    for size in (100, DIRECT_FROM, 17, 3 * DIRECT_FROM + 1):
        piece = draw.randbytes(size)
        assert len(expected) == growing.append([piece])
        expected += piece
    assert known == (growing._tail is not None)
    assert known == (growing.on_file < len(expected))
    while growing.hash_more(DIRECT_FROM):
        pass
    assert len(expected) == growing.on_file
    growing._close()
    assert expected == path.read_bytes()


def test_one_buffer_is_filled_while_others_are_written(file, monkeypatch: pytest.MonkeyPatch) -> None:
    """``behind`` reports beforehand that an append would wait, so no core is held meanwhile."""
    tail, real, may_write = grown(file, b""), os.pwrite, threading.Event()

    def slow(descriptor: int, data: memoryview, offset: int) -> int:
        assert may_write.wait(30)
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    whole = WRITES * BUFFER_BYTES
    expected = random.Random(3).randbytes(whole + BUFFER_BYTES + 5)
    assert not tail.behind(whole + BUFFER_BYTES)
    tail.append([expected[: BUFFER_BYTES + 10]])
    assert tail.behind(whole - 10)
    assert not tail.behind(whole - 11)
    tail.append([expected[BUFFER_BYTES + 10 : whole]])
    assert 0 == tail.on_file
    assert not tail.behind(BUFFER_BYTES - 1)
    assert tail.behind(BUFFER_BYTES)
    tail.append([expected[whole : whole + BUFFER_BYTES - 1]])
    may_write.set()
    while tail.behind(6):
        tail.catch_up()
    tail.append([expected[whole + BUFFER_BYTES - 1 :]])
    assert BUFFER_BYTES <= tail.on_file
    tail.settle()
    tail.close()
    assert expected == file[1].read_bytes()


def test_a_slow_disk_is_waited_for_and_not_written_ahead_of(file, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has as many buffers as may be written at a time, plus the one being filled."""

    class Slow(Future):
        """A write that ends only when it is waited for."""

        def __init__(self, write: Callable[[], None]) -> None:
            super().__init__()
            self.write = write

        def result(self, timeout: float | None = None) -> None:
            if not self.done():
                self.set_result(self.write())
            return super().result(timeout)

    class Writers:
        """An executor that starts nothing by itself."""

        @staticmethod
        def submit(write: Callable[..., None], *args: object) -> Slow:
            return Slow(partial(write, *args))

    made: list[memoryview] = []
    real = direct._buffer
    monkeypatch.setattr(direct, "_writers", Writers)
    monkeypatch.setattr(direct, "_buffer", lambda: made.append(real()) or made[-1])
    tail = grown(file, b"")
    expected = random.Random(5).randbytes(6 * BUFFER_BYTES)
    tail.append([expected])
    assert WRITES + 1 == len(made)
    assert (6 - WRITES) * BUFFER_BYTES == tail.on_file
    tail.settle()
    tail.close()
    assert WRITES + 1 == len(made)
    assert expected == file[1].read_bytes()


def test_what_lies_behind_bytes_that_are_not_there_is_not_on_file(
    file, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later of two writes may end first."""
    tail, real, first, second = grown(file, b""), os.pwrite, threading.Event(), threading.Event()

    def out_of_order(descriptor: int, data: memoryview, offset: int) -> int:
        if offset == 0:
            assert first.wait(30)
        count = real(descriptor, data, offset)
        if offset:
            second.set()
        return count

    monkeypatch.setattr(os, "pwrite", out_of_order)
    expected = random.Random(4).randbytes(2 * BUFFER_BYTES)
    tail.append([expected])
    assert second.wait(30)
    assert 0 == tail.on_file
    first.set()
    tail.settle()
    assert len(expected) == tail.on_file
    tail.close()
    assert expected == file[1].read_bytes()


@pytest.mark.parametrize("call", ["preadv", "open"])
def test_direct_writes_that_cannot_begin_leave_no_descriptor(
    file, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The file is written plainly then, and no descriptor is left of the attempt."""
    descriptor, path = file
    grown(file, b"x" * 100).close()
    before, spare = len(list(Path("/proc/self/fd").iterdir())), len(direct._spare)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken)
        with pytest.raises(OSError, match="Input/output"):
            DirectTail(descriptor, path, 100)
        growing = GrowingFile(os.dup(descriptor), path)
        growing.append([b"y" * DIRECT_FROM])
    growing._close()
    assert before == len(list(Path("/proc/self/fd").iterdir()))
    assert spare == len(direct._spare), "its buffer was given back, too"


def test_a_file_that_cannot_be_closed_leaves_no_descriptor(file, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the two descriptors reports an error when it is closed, both are closed."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    growing = GrowingFile(os.dup(file[0]), file[1])
    growing.append([b"y" * DIRECT_FROM])
    real = os.close

    def broken(descriptor: int) -> None:
        real(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", broken)
        with pytest.raises(OSError, match="Input/output"):
            growing._close()
    assert before == len(list(Path("/proc/self/fd").iterdir()))

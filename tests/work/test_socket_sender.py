"""A thread sends large results to sockets: every byte, in order, to the right socket, with nothing leaked."""

import errno
import mmap
import os
import random
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from strata.work import EgressTurns, socket_sender, threads
from strata.work.socket_sender import MOST_PIECES, FileRange, ShortFileError

PIPE = 4 * 1024 * 1024


class ByteSource:
    """Bytes partly in memory, in buffers, and partly in the file; it counts the bytes it returns."""

    def __init__(self, path: Path, data: bytes, hot: tuple[int, int] = (0, 0), piece: int = 4096) -> None:
        path.write_bytes(data)
        self.fd = os.open(path, os.O_RDONLY)
        self.data, self.hot, self.piece = data, hot, piece
        self.asked = 0

    def locate(self, position: int, wanted: int) -> tuple[Sequence[memoryview], int]:
        self.asked += 1
        begin, end = self.hot
        if begin <= position < end:
            stop = min(end, position + wanted)
            view = memoryview(self.data)
            return [view[at : min(at + self.piece, stop)] for at in range(position, stop, self.piece)], 0
        limit = begin if position < begin else len(self.data)
        return (), min(wanted, limit - position)


@pytest.fixture
def pair():
    near, far = trio.socket.socketpair()
    with near, far:
        yield near, far


def open_descriptors() -> list[str]:
    return sorted(each.name for each in Path("/proc/self/fd").iterdir())


async def send_all(load: FileRange, to: trio.socket.SocketType) -> None:
    while load:
        await load.send_some(to)
        if load:
            await trio.lowlevel.wait_writable(to)


async def receive(count: int, source: trio.socket.SocketType, most: int = 65536) -> bytes:
    parts, size = [], 0
    while size < count and (part := await source.recv(min(most, count - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(12))
async def test_every_byte_arrives_in_order_wherever_it_is(seed: int, tmp_path: Path, pair) -> None:
    """Bytes in memory, in the file or in both arrive in order at a reader of any pace."""
    draw = random.Random(seed)
    data = draw.randbytes(draw.randrange(1, 3_000_000))
    begin, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    hold = ByteSource(tmp_path / "blob", data, (begin, end), piece=draw.choice([700, 4096, 1 << 20]))
    start = draw.randrange(len(data))
    load = FileRange(hold, start, len(data) - start, "a", EgressTurns())
    assert len(data) - start == len(load)
    found: list[bytes] = []

    async def read() -> None:
        found.append(await receive(len(data) - start, pair[1], draw.choice([999, 65536, PIPE])))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await send_all(load, pair[0])
    assert data[start:] == found[0]
    assert not load


async def test_more_pieces_than_the_system_takes_at_once(tmp_path: Path, pair) -> None:
    """More buffers than one system call takes are sent by several calls."""
    data = random.Random(1).randbytes(3 * MOST_PIECES)
    load = FileRange(
        ByteSource(tmp_path / "blob", data, (0, len(data)), piece=1), 0, len(data), "a", EgressTurns()
    )
    await send_all(load, pair[0])
    assert data == await receive(len(data), pair[1])


async def test_a_reader_that_stalls_holds_neither_memory_nor_the_carrier(tmp_path: Path, pair) -> None:
    """Unsent bytes are located again later, and other tenants' ranges are sent meanwhile."""
    data = random.Random(2).randbytes(PIPE)
    hold, turns = ByteSource(tmp_path / "blob", data, (0, len(data))), EgressTurns()
    stalled = FileRange(hold, 0, len(data), "a", turns)
    await stalled.send_some(pair[0])
    sent = len(data) - len(stalled)
    assert 0 < sent < len(data)
    hold.hot = (0, 0)  # all of it is in the file by now

    near, far = socket.socketpair()
    with near, far:
        other = FileRange(ByteSource(tmp_path / "other", b"other", (0, 5)), 0, 5, "b", turns)
        with trio.fail_after(60):
            await send_all(other, trio.socket.from_stdlib_socket(near))
        assert b"other" == far.recv(10)

    got: list[bytes] = []

    async def read() -> None:
        got.append(await receive(len(data), pair[1]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await send_all(stalled, pair[0])
    assert data == got[0]
    assert hold.asked >= 2


@pytest.mark.parametrize("position", [0, 3, 5, 4096])
async def test_a_file_that_is_too_short_is_an_error_and_not_an_end(
    position: int, tmp_path: Path, pair
) -> None:
    """No byte of it is sent, and the turn is given back."""
    turns = EgressTurns()
    hold = ByteSource(tmp_path / "blob", b"short")
    load = FileRange(hold, position, 100, "a", turns)
    hold.locate = lambda _position, wanted: ((), wanted)  # a source whose file was cut
    with pytest.raises(ShortFileError):
        await send_all(load, pair[0])
    with pytest.raises(BlockingIOError):
        os.read(pair[1].fileno(), 100)
    await turns.take("b")
    turns.give()


@pytest.mark.parametrize("left", [0, 5000, 2 * mmap.PAGESIZE, 3 * mmap.PAGESIZE - 1])
async def test_a_file_cut_while_it_is_sent_is_an_error_and_never_zeros(
    left: int, tmp_path: Path, pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapping past the file's end reads as zeros up to the page's end; that is an error."""
    data = random.Random(3).randbytes(3 * mmap.PAGESIZE)
    hold = ByteSource(tmp_path / "blob", data)
    real = socket_sender.mmap.mmap

    def cut(*args, **more) -> mmap.mmap:
        found = real(*args, **more)
        os.truncate(tmp_path / "blob", left)
        return found

    monkeypatch.setattr(socket_sender.mmap, "mmap", cut)
    with pytest.raises(ShortFileError):
        await send_all(FileRange(hold, 0, len(data), "a", EgressTurns()), pair[0])


@pytest.mark.parametrize("why", [errno.ENODEV, errno.ENOMEM])
async def test_a_file_that_cannot_be_mapped_is_read(
    why: int, tmp_path: Path, pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be mapped is read instead, and is an error if too short."""

    def refuse(*args: object, **more: object) -> mmap.mmap:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(socket_sender.mmap, "mmap", refuse)
    data = random.Random(4).randbytes(socket_sender.READ_BYTES + 5)
    got: list[bytes] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            got.append(await receive(len(data) - 3, pair[1]))

        nursery.start_soon(read)
        await send_all(
            FileRange(ByteSource(tmp_path / "blob", data), 3, len(data) - 3, "a", EgressTurns()), pair[0]
        )
    assert data[3:] == got[0]

    short = ByteSource(tmp_path / "short", data[:100])
    short.locate = lambda _position, wanted: ((), wanted)
    with pytest.raises(ShortFileError):
        await send_all(FileRange(short, 0, 101, "a", EgressTurns()), pair[0])
    closed = ByteSource(tmp_path / "closed", data[:100])
    os.close(closed.fd)
    closed.fd = os.open(tmp_path / "closed", os.O_WRONLY)
    with pytest.raises(ShortFileError):
        await send_all(FileRange(closed, 0, 100, "a", EgressTurns()), pair[0])


async def test_a_peer_that_left_is_an_error(tmp_path: Path, pair) -> None:
    """A closed peer raises ``OSError``, not a signal or a regular end."""
    load = FileRange(ByteSource(tmp_path / "blob", bytes(100)), 0, 100, "a", EgressTurns())
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        await load.send_some(pair[0])


async def test_no_byte_goes_to_a_socket_that_has_taken_a_closed_ones_number(
    tmp_path: Path, pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte reaches another connection that got a closed socket's descriptor number."""
    load = FileRange(ByteSource(tmp_path / "blob", b"secret"), 0, 6, "a", EgressTurns())
    number = pair[0].fileno()
    near, far = socket.socketpair()
    real = socket_sender.run_in_thread

    async def in_between(work: Callable[[], int], **more) -> int:
        pair[0].close()
        os.dup2(near.fileno(), number)  # reused by another connection
        return await real(work, **more)

    monkeypatch.setattr(socket_sender, "run_in_thread", in_between)
    with near, far:
        try:
            await load.send_some(pair[0])
        finally:
            os.close(number)
        with pytest.raises(BlockingIOError):
            far.recv(10, socket.MSG_DONTWAIT)
    assert b"secret" == await receive(6, pair[1])


async def test_whoever_is_cancelled_leaves_no_descriptor_and_no_turn(tmp_path: Path, pair) -> None:
    """A cancelled call ends, its descriptor is closed and its turn is given back."""
    turns = EgressTurns()
    load = FileRange(ByteSource(tmp_path / "blob", bytes(100)), 0, 100, "a", turns)
    before = open_descriptors()
    with trio.CancelScope() as scope:
        scope.cancel()
        await load.send_some(pair[0])
        await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert before == open_descriptors()
    with trio.fail_after(60):
        await turns.take("b")
    turns.give()


async def test_where_there_is_no_thread_nothing_is_left_open(
    tmp_path: Path, pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread the call fails, and the next attempt finds the turn free and all bytes unsent."""

    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    turns = EgressTurns()
    load = FileRange(ByteSource(tmp_path / "blob", bytes(100)), 0, 100, "a", turns)
    before = open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_THREADS", threads.Threads())
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            await load.send_some(pair[0])
    assert before == open_descriptors()
    assert 100 == len(load)
    await send_all(load, pair[0])
    assert bytes(100) == await receive(100, pair[1])

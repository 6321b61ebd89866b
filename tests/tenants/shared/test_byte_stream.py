"""Reading a blob that may still be growing."""

import os
import random
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.shared.byte_stream import CHUNK, HOT_BYTES, ByteStream, Tail
from strata.work import FileRange
from strata.work.socket_sender import LOAD_BYTES, READ_BYTES, WORTH_BYTES, RevokedError, ShortFileError

LOST = Refused(Reason.FAILED, "The build failed.")


@pytest.fixture
def blob(tmp_path: Path):
    path = tmp_path / "blob"
    path.touch()
    return path


def follow(tail: Tail, **more) -> ByteStream:
    return ByteStream(os.dup(tail.fd), tail=tail, **more)


def joined(found: list[memoryview] | int) -> bytes | int:
    return found if isinstance(found, int) else b"".join(found)


def tail_of(blob: Path) -> Tail:
    return Tail(os.open(blob, os.O_RDONLY))


async def read_all(stream: ByteStream) -> bytes:
    parts = []
    while (part := await stream.chunk()) is not None:
        assert 0 < len(part) <= CHUNK
        parts.append(bytes(part))
    return b"".join(parts)


async def test_a_reader_receives_what_is_there_before_the_rest_is(blob: Path) -> None:
    """The first bytes can be read before the next are written."""
    tail = tail_of(blob)
    stream = follow(tail)
    blob.write_bytes(b"first")
    tail.advance(5)

    assert b"first" == bytes(await stream.chunk() or b"")

    blob.write_bytes(b"first second")
    tail.advance(12)
    tail.end()
    assert b" second" == await read_all(stream)
    stream.close()
    tail.close()


async def test_readers_at_their_own_pace_all_receive_every_byte(blob: Path) -> None:
    """A slow reader delays neither the build nor another reader, and all read every byte."""
    data = os.urandom(3 * CHUNK + 17)
    tail = tail_of(blob)
    got: dict[int, bytes] = {}

    async def reader(number: int) -> None:
        stream = follow(tail)
        got[number] = await read_all(stream)
        stream.close()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(reader, number)
        with blob.open("r+b") as file:
            for start in range(0, len(data), 700_001):
                await wait_all_tasks_blocked()
                file.write(data[start : start + 700_001])
                file.flush()
                tail.advance(min(len(data), start + 700_001))
        tail.end()

    assert {0: data, 1: data, 2: data} == got
    tail.close()


async def test_bytes_beyond_what_is_announced_are_not_read(blob: Path) -> None:
    """Bytes in the file are not read before they are announced."""
    blob.write_bytes(b"whole torn")
    tail = tail_of(blob)
    stream = follow(tail)
    tail.advance(5)

    assert b"whole" == bytes(await stream.chunk() or b"")
    with trio.move_on_after(0) as waiting:
        await stream.chunk()
    assert waiting.cancelled_caught
    stream.close()
    tail.close()


async def test_a_failed_build_is_an_error_after_its_bytes_and_never_an_end(blob: Path) -> None:
    """A reader of a failed build gets the bytes there are, then an error, never a regular end."""
    blob.write_bytes(b"some")
    tail = tail_of(blob)
    stream = follow(tail)
    tail.advance(4)
    tail.end(LOST)

    assert b"some" == bytes(await stream.chunk() or b"")
    with pytest.raises(RefusalError) as caught:
        await stream.chunk()
    assert LOST is caught.value.refused
    stream.close()
    tail.close()


@pytest.mark.parametrize("failure", [None, LOST])
async def test_who_wants_the_whole_waits_for_its_end(blob: Path, failure: Refused | None) -> None:
    """``whole`` waits until the size is known, and raises if the build fails."""
    blob.write_bytes(b"some more")
    tail, ends = tail_of(blob), []
    stream = follow(tail)
    tail.advance(4)

    async def wait() -> None:
        try:
            await stream.whole()
        except RefusalError as error:
            ends.append(error.refused)
        else:
            ends.append(stream.size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        tail.advance(9)
        await wait_all_tasks_blocked()
        assert [] == ends
        tail.end(failure)
    assert [failure or 9] == ends
    if failure is None:
        assert b"some more" == await read_all(stream)
    stream.close()
    tail.close()


async def test_a_file_shorter_than_it_must_be_is_an_error(blob: Path) -> None:
    """A truncated blob is an error, never a short result."""
    blob.write_bytes(b"short")
    stream = ByteStream(os.open(blob, os.O_RDONLY), stop=100)

    assert b"short" == bytes(await stream.chunk() or b"")
    with pytest.raises(RefusalError):
        await stream.chunk()
    stream.close()


@pytest.mark.parametrize("head", [b"", b"0123"])
@pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 3), (2, 4), (3, 9), (4, 10), (9, 10)])
async def test_a_range_is_exactly_its_bytes(blob: Path, head: bytes, start: int, stop: int) -> None:
    """A range has exactly its bytes, whether the first ones were read ahead or not."""
    blob.write_bytes(b"0123456789")
    stream = ByteStream(os.open(blob, os.O_RDONLY), stop=10, head=head)
    stream.narrow(start, stop)

    assert stop - start == stream.size
    assert b"0123456789"[start:stop] == await read_all(stream)
    stream.close()


async def test_a_small_result_is_served_from_memory_alone() -> None:
    """A result that is all head needs no descriptor, whole or as a range."""
    stream = ByteStream(stop=10, head=b"0123456789")
    assert b"0123456789" == await read_all(stream)
    stream.close()
    part = ByteStream(stop=10, head=b"0123456789")
    part.narrow(3, 7)
    assert b"3456" == await read_all(part)
    part.close()


async def test_closing_twice_tells_the_build_once(blob: Path) -> None:
    """A repeated close calls ``on_close`` once."""
    left = []
    stream = ByteStream(os.open(blob, os.O_RDONLY), stop=0, on_close=lambda: left.append(1))

    stream.close()
    stream.close()

    assert [1] == left


@pytest.mark.parametrize("on_file_lag", [0, 1, HOT_BYTES, 4 * HOT_BYTES])
async def test_who_follows_closely_reads_memory_and_who_does_not_the_file(
    blob: Path, on_file_lag: int
) -> None:
    """Readers get every byte in order, whatever part of the blob is in memory."""
    draw = random.Random(on_file_lag)
    tail, data = tail_of(blob), b""
    close, late = follow(tail), follow(tail)
    seen = b""
    for size in [HOT_BYTES // 3 + 1, 5, CHUNK, HOT_BYTES + 1, 1, HOT_BYTES // 2] * 2:
        block = draw.randbytes(size)
        offset, data = len(data), data + block
        on_file = max(0, len(data) - on_file_lag)
        blob.write_bytes(data[:on_file])
        tail.keep(
            offset, [block[: size // 3], block[size // 3 : size // 2], b"", block[size // 2 :]], on_file
        )
        tail.advance(len(data))
        assert block[:CHUNK] == joined(tail.hot(offset, CHUNK)) or len(data) <= on_file
        seen += await close.chunk() or b""
    blob.write_bytes(data)
    middle = follow(tail, start=len(data) // 2)
    tail.end()
    assert data[: len(seen)] == seen
    assert data == seen + b"".join(await chunks(close))
    assert data[len(data) // 2 :] == b"".join(await chunks(middle))
    tail.cool()
    assert data == await read_all(late)
    for stream in (close, late, middle):
        stream.close()
    tail.close()


async def test_a_first_chunk_may_be_smaller_than_what_is_there(blob: Path) -> None:
    """A limited chunk is at most as large as asked, and the next one continues behind it."""
    data = bytes(range(256)) * 1024
    blob.write_bytes(data)
    tail = tail_of(blob)
    tail.keep(0, [data[:1000], data[1000:]], on_file=len(data))
    tail.advance(len(data))
    tail.end()
    hot, cold = follow(tail), follow(tail)
    assert data[:5000] == await hot.chunk(5000)
    assert data[5000:] == await read_all(hot)
    tail.cool()
    assert data[:5000] == await cold.chunk(5000)
    assert data[5000:] == await read_all(cold)
    for stream in (hot, cold):
        stream.close()
    tail.close()


async def test_memory_holds_no_more_than_the_newest_bytes(blob: Path) -> None:
    """At most ``HOT_BYTES`` stay in memory, and in addition the bytes not in the file yet."""
    tail = tail_of(blob)
    for index in range(100):
        tail.keep(index * CHUNK, [bytes(CHUNK)], on_file=(index + 1) * CHUNK)
        assert tail._hot_bytes == sum(map(len, tail._hot)) <= HOT_BYTES
    assert 100 * CHUNK - HOT_BYTES == tail.hot(0, CHUNK)
    for index in range(100, 120):
        tail.keep(index * CHUNK, [bytes(CHUNK)], on_file=100 * CHUNK)
    assert bytes(CHUNK) == joined(tail.hot(100 * CHUNK, CHUNK))
    tail.close()
    assert 0 == tail._hot_bytes


async def chunks(stream: ByteStream) -> list[bytes]:
    found = []
    while (part := await stream.chunk()) is not None:
        found.append(part)
    return found


async def to_socket(stream: ByteStream) -> tuple[bytes, int]:
    """Send a stream as the server does; return the bytes received and the number of file ranges."""
    sender, reader = trio.socket.socketpair()
    got: list[bytes] = []
    loads = 0

    async def read() -> None:
        while part := await reader.recv(1 << 20):
            got.append(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with sender:
            while part := await stream.load():
                if isinstance(part, bytes):
                    await send_bytes(sender, part)
                    continue
                assert len(part) <= LOAD_BYTES
                loads += 1
                while part:
                    await part.send_some(sender)
                    if part:
                        await trio.lowlevel.wait_writable(sender)
    reader.close()
    return b"".join(got), loads


async def send_bytes(sender: trio.socket.SocketType, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[await sender.send(view) :]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("size", [1, WORTH_BYTES - 1, WORTH_BYTES, 3 * LOAD_BYTES + WORTH_BYTES - 1])
async def test_a_finished_blob_is_carried_to_a_socket(
    blob: Path, size: int, *, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large parts are sent as file ranges, small ones as bytes; uncached ones are read in a thread first."""
    data = random.Random(size).randbytes(size)
    blob.write_bytes(data)
    monkeypatch.setattr(ByteStream, "_in_memory", lambda _self, _position: cached)
    stream = ByteStream(os.open(blob, os.O_RDONLY), stop=size)
    got, loads = await to_socket(stream)
    assert data == got
    most = LOAD_BYTES if cached else READ_BYTES  # bytes read ahead stay in memory until they are sent
    assert size // most + (size % most >= WORTH_BYTES) == loads
    stream.close()


async def test_a_growing_blob_is_carried_out_of_memory_and_file(blob: Path) -> None:
    """A reader of a growing blob gets every byte, from memory and from the file."""
    draw, data = random.Random(5), b""
    tail = tail_of(blob)
    for size in (WORTH_BYTES * 3, HOT_BYTES, 17, LOAD_BYTES + 5):
        block = draw.randbytes(size)
        tail.keep(len(data), [block[: size // 2], block[size // 2 :]], on_file=len(data))
        data += block
        blob.write_bytes(data[: len(data) - size])
        tail.advance(len(data))
    blob.write_bytes(data)
    tail.end()
    stream = follow(tail)
    got, loads = await to_socket(stream)
    assert data == got
    assert loads >= len(data) // LOAD_BYTES
    stream.close()
    tail.close()


@pytest.mark.parametrize("cached", [True, False])
async def test_a_file_cut_short_is_an_error_for_loads_too(
    blob: Path, *, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncated file is an error for file ranges, never a short result."""
    blob.write_bytes(bytes(WORTH_BYTES // 2))
    monkeypatch.setattr(ByteStream, "_in_memory", lambda _self, _position: cached)
    stream = ByteStream(os.open(blob, os.O_RDONLY), stop=4 * LOAD_BYTES)
    with pytest.raises(ExceptionGroup) as caught:
        await to_socket(stream)
    assert [ShortFileError if cached else RefusalError] == [type(each) for each in caught.value.exceptions]
    stream.close()


async def test_bytes_in_memory_are_joined_up_to_a_gap(blob: Path) -> None:
    """Adjacent blocks in memory are returned together, and none beyond a gap."""
    tail = tail_of(blob)
    tail.keep(10, [b"ab", b"cd"], on_file=10)
    tail.keep(14, [b"ef"], on_file=10)
    tail.keep(20, [b"xyz"], on_file=20)
    tail.advance(23)
    assert 10 == tail.hot(0, 100)
    assert b"abcdef" == joined(tail.hot(10, 100))
    assert b"def" == joined(tail.hot(13, 100))
    assert b"bcd" == joined(tail.hot(11, 3))
    assert 20 == tail.hot(16, 100)
    assert b"xyz" == joined(tail.hot(20, 100))
    assert 23 == tail.hot(23, 100)
    tail.close()


async def test_a_refused_stream_gives_no_further_byte(blob: Path) -> None:
    """Neither by chunk nor by load, nor out of a range whose sending has begun; before the end of a build neither."""
    blob.write_bytes(os.urandom(2 * WORTH_BYTES))
    whole = ByteStream(os.open(blob, os.O_RDONLY), stop=2 * WORTH_BYTES, head=b"head")
    begun = await ByteStream(os.open(blob, os.O_RDONLY), stop=2 * WORTH_BYTES).load()
    assert isinstance(begun, FileRange)
    tail = tail_of(blob)
    tail.advance(9)
    growing = follow(tail)
    begun_stream = begun.hold
    assert isinstance(begun_stream, ByteStream)
    for stream in (whole, growing, begun_stream):
        stream.refuse(LOST)
    with pytest.raises(RevokedError):
        begun.hold.locate(0, 1)
    for stream in (whole, growing):
        for read in (stream.chunk, stream.load):
            with pytest.raises(RefusalError) as caught:
                await read()
            assert LOST is caught.value.refused
    for stream in (whole, growing, begun_stream):
        stream.close()
    tail.close()

"""The serving loop on real loopback sockets and a virtual clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.http.serve import PatientStream, serve

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def small(_scope: dict, receive: Callable, send: Callable) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


async def endless(_scope: dict, receive: Callable, send: Callable) -> None:
    """Sends until the client is gone, as Quart does: a disconnect cancels the handler."""
    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await trio.lowlevel.checkpoint()
            await send({"type": "http.response.body", "body": b"x" * 1024 * 1024, "more_body": True})


@asynccontextmanager
async def serving(
    app, *, grace: float = 30, stall_seconds: float = 60
) -> AsyncIterator[tuple[int, trio.Event]]:
    """A server on a free port; the event stops it."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(*, task_status) -> None:
            await serve(
                app,
                [("127.0.0.1", 0)],
                stop=stop.wait,
                grace=grace,
                stall_seconds=stall_seconds,
                task_status=task_status,
            )

        urls = await nursery.start(run)
        yield int(urls[0].rsplit(":", 1)[1]), stop
        stop.set()


async def answer(stream: trio.SocketStream) -> bytes:
    data = b""
    while not data.endswith(b"ok"):
        part = await stream.receive_some()
        assert part
        data += part
    return data


async def test_serves_and_stops(autojump_clock: MockClock) -> None:
    """A stop with nothing under way does not wait for the grace."""
    async with serving(small) as (port, stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        assert b"200" in await answer(stream)
        began = trio.current_time()
        stop.set()
        assert b"" == await stream.receive_some()
    assert trio.current_time() - began < 1


async def test_a_client_that_stops_reading_is_cut_at_the_deadline(autojump_clock: MockClock) -> None:
    """It would hold its slot, its memory and every shutdown."""
    async with serving(endless, stall_seconds=10) as (port, _stop):
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await trio.sleep(9)
        assert await stream.receive_some(1)
        await trio.sleep(12)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(1024 * 1024):
                pass
        assert 10 <= trio.current_time() - began <= 22


async def test_shutdown_with_fifty_stalled_clients_ends_within_its_grace(autojump_clock: MockClock) -> None:
    """Hypercorn's shield does not hold it up."""
    async with serving(endless, grace=5, stall_seconds=1000) as (port, stop):
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(50)]
        for stream in streams:
            await stream.send_all(GET)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        stop.set()
    assert 5 <= trio.current_time() - began <= 7
    for stream in streams:
        await stream.aclose()


async def test_a_request_under_way_ends_in_peace_during_the_grace(autojump_clock: MockClock) -> None:
    """A stop is not a cut."""

    async def slow(scope: dict, receive: Callable, send: Callable) -> None:
        await trio.sleep(3)
        await small(scope, receive, send)

    async with serving(slow, grace=30) as (port, stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await wait_all_tasks_blocked()
        stop.set()
        assert b"200" in await answer(stream)


async def test_cancelling_the_server_breaks_what_is_shielded(autojump_clock: MockClock) -> None:
    """A second signal ends at once, stalled clients or not."""
    with trio.CancelScope() as scope:
        async with serving(endless, grace=1000, stall_seconds=1000) as (port, _stop):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GET)
            await wait_all_tasks_blocked()
            began = trio.current_time()
            scope.cancel()
    assert trio.current_time() - began < 1
    await stream.aclose()


async def test_a_request_head_of_100_kilobytes_is_refused(autojump_clock: MockClock) -> None:
    """Such headers were accepted once."""
    async with serving(small) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 100_000 + b"\r\n\r\n")
        assert (await stream.receive_some()).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


async def test_progress_resets_the_deadline(autojump_clock: MockClock) -> None:
    """A slow client is not a stalled one."""

    class SlowSocket:
        family = trio.socket.AF_UNIX

        async def send(self, view: memoryview) -> int:
            await trio.sleep(9)
            return min(10, len(view))

    class Slow:
        socket = SlowSocket()

    stream = PatientStream(Slow(), 10)  # type: ignore[arg-type]
    await stream.send_all(b"x" * 100)

    assert 90 == trio.current_time()

"""Routes entered by the front door, on real loopback sockets: work for a client that left ends."""

from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import pytest
import trio
from serve_kit import GET, serving
from trio.testing import MockClock

from strata.http.asgi import GONE_KEY
from strata.http.door import routing
from strata.http.door.context import Context
from strata.http.serving.protocol import Tasks


def answering(
    handler: Callable[[routing.Call], Awaitable[routing.Answer]], *, told: bool, alive: list[bool]
) -> Callable[..., Awaitable[None]]:
    """Return an application with a fast route's handler, which notes cancellation after each message."""

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        context = Context("request-1", None)  # type: ignore[arg-type]  # unused by these handlers
        context.tell_gone = scope[GONE_KEY] if told else None

        async def noting(message: dict) -> None:
            context.ended = message["type"] == "http.response.body" and not message["more_body"]
            await send(message)
            alive.append(trio.current_effective_deadline() > 0)

        await routing.serve(handler, routing.Call(context), receive, noting)

    return app


@pytest.mark.parametrize("told", [True, False])
async def test_work_for_a_client_that_left_ends(
    told: bool,  # noqa: FBT001  # a parameter
    autojump_clock: MockClock,
) -> None:
    """The handler is cancelled, whether the server reports the disconnect or a task watches for it."""
    working, ended, alive = trio.Event(), trio.Event(), []

    async def handler(_call: routing.Call) -> routing.Answer:
        working.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    async with serving(answering(handler, told=told, alive=alive)) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await working.wait()
        assert not ended.is_set()
        await stream.aclose()
        await ended.wait()
        assert trio.current_time() < 1
    assert [] == alive


@pytest.mark.parametrize("told", [True, False])
async def test_the_goodbye_within_the_last_send_cancels_nothing(
    told: bool,  # noqa: FBT001  # a parameter
    autojump_clock: MockClock,
) -> None:
    """Every response arrives whole, and the connection serves the next request."""
    alive: list[bool] = []

    async def handler(_call: routing.Call) -> routing.Answer:
        await trio.sleep(1)
        return routing.Answer([("Content-Type", "text/plain")], b"ok")

    async with serving(answering(handler, told=told, alive=alive)) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for _ in range(3):
            await stream.send_all(GET)
            data = b""
            while not data.endswith(b"\r\n\r\nok"):
                data += await stream.receive_some()
            assert data.startswith(b"HTTP/1.1 200")
    assert [True] * 6 == alive


async def test_a_late_listener_is_called_at_once() -> None:
    """A disconnect before the watch began is reported at once, and none after the response has ended."""

    async def nowhere(_message: object) -> None:
        """Discard the response's messages."""

    heard: list[str] = []

    async def late(scope: dict, receive: Callable, _send: Callable) -> None:
        assert "http.disconnect" == (await receive())["type"]
        scope[GONE_KEY](lambda: heard.append("late"))

    async def done(scope: dict, _receive: Callable, _send: Callable) -> None:
        scope[GONE_KEY](lambda: heard.append("after the end"))

    async with trio.open_nursery() as nursery:
        puts = [
            await Tasks(nursery).spawn_app(app, None, {"type": "http"}, nowhere)  # type: ignore[arg-type]  # all that is read
            for app in (late, done)
        ]
        await puts[0]({"type": "http.disconnect"})
    await puts[1]({"type": "http.disconnect"})
    assert ["late"] == heard


async def test_small_pieces_that_the_kernel_does_not_take_arrive_in_order(autojump_clock: MockClock) -> None:
    """What the kernel does not accept at once is sent when the reader catches up."""
    parts = [bytes([number % 251]) * 9973 for number in range(1500)]

    async def app(_scope: dict, receive: Callable, send: Callable) -> None:
        await receive()
        length = str(sum(map(len, parts))).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with serving(app) as (port, _stop):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(GET)
        await trio.sleep(5)  # the reader receives nothing meanwhile
        data, whole = b"", b"".join(parts)
        with trio.fail_after(30):
            while len(data) < len(whole):
                data += await stream.receive_some(100_000)
                if b"\r\n\r\n" in data[:200]:
                    data = data.split(b"\r\n\r\n", 1)[1]
        assert whole == data


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/v1/me", "/v1/me"),
        ("/v1%2Fme", f"/v1{routing.SLASH}me"),
        ("/v1%2fme", f"/v1{routing.SLASH}me"),
        ("/v1/%6De", "/v1/me"),
        ("/v1/a%252Fb", "/v1/a%2Fb"),
        ("/v1/%EF%BF%BF", ""),
        ("/v1/%2F%EF%BF%BF", ""),
        ("/v1/%2", "/v1/%2"),
    ],
)
def test_an_encoded_slash_separates_no_parts_of_a_path(raw: str, path: str) -> None:
    """It is a character of one part; what stands for it cannot be sent."""
    assert path == routing.routed_path({"path": unquote(raw), "raw_path": raw.encode()})

"""Frames of one read of a WebSocket's connection."""

import pytest
import trio
from hypercorn.events import Event
from wsproto.connection import Connection, ConnectionType

from strata.http.serving.websocket import FRAMES_AT_ONCE, SocketStream

EMPTY = b"\x80\x00\x00\x00\x00"


@pytest.mark.parametrize("kind", [b"\x89", b"\x8a", b"\x00"])  # pings, pongs, pieces of a message
async def test_others_have_their_turn_between_frames_that_wait_for_nothing(kind: bytes) -> None:
    """A read full of empty frames takes a second of work; no other client waits for the end of it."""
    frames, sent, turns = 1000, list[Event](), 0
    stream = object.__new__(SocketStream)
    stream.connection = Connection(ConnectionType.SERVER)
    stream.stream_id = 1

    async def send(event: Event) -> None:
        sent.append(event)

    stream.send = send
    stream.buffer = _Nothing()
    if kind == b"\x00":
        stream.connection.receive_data(b"\x01" + EMPTY)
    stream.connection.receive_data((kind + EMPTY) * frames)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await stream._handle_events()
        nursery.cancel_scope.cancel()
    assert frames // FRAMES_AT_ONCE - 2 <= turns  # the tasks of a pass run in any order
    assert len(sent) == (frames if kind == b"\x89" else 0)


class _Nothing:
    """The pieces of a message, of which none has a byte."""

    length = 0

    def extend(self, event: object) -> None:
        """Take a piece."""

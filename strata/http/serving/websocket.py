"""WebSocket on a connection: which handshakes are taken, and the stream that replaces HTTP behind one.

Hypercorn's stream reads the frames. It keeps messages of any size, inflates compressed ones, and stays open
after some faults; the stream here bounds each message, takes no extension, and ends with every fault.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import h11
import trio
from hypercorn.protocol.events import Body, Data, Event, StreamClosed
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.protocol.ws_stream import WSStream
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

MESSAGE_BYTES = 128 * 1024
"""Most bytes of one message of a client; the connection of a larger one is closed with 1009."""

FRAMES_AT_ONCE = 32
"""Frames after which other tasks have their turn: a read has up to ten thousand empty ones, and neither these
nor the answers to pings wait for anything."""

KEY_BYTES = 16
"""Bytes of a handshake's key (RFC 6455, section 4.1)."""

_EXTENSIONS = b"sec-websocket-extensions"


def is_handshake(request: h11.Request) -> bool:
    """Whether a request is a whole and valid handshake of a WebSocket (RFC 6455, section 4.2.1)."""
    found: dict[bytes, bytes] = {}
    for name, value in request.headers:
        if name in (b"content-length", b"transfer-encoding"):
            return False  # what follows would be its body for one reader, and frames for another
        found[name] = (
            f"{found[name].decode('latin-1')}, ".encode("latin-1") + value if name in found else value
        )
    tokens = {token.strip().lower() for token in found.get(b"connection", b"").split(b",")}
    return (
        request.method == b"GET"
        and request.http_version == b"1.1"
        and b"upgrade" in tokens
        and found.get(b"upgrade", b"").strip().lower() == b"websocket"
        and found.get(b"sec-websocket-version") == b"13"
        and _is_key(found.get(b"sec-websocket-key", b""))
    )


def without_extensions(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return a handshake's headers without the offer of extensions: a few compressed bytes could be many."""
    return [pair for pair in headers if pair[0] != _EXTENSIONS]


def _is_key(text: bytes) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False


class SwitchedConnection(H11WSConnection):
    """The connection behind a handshake: its bytes are frames.

    Attributes:
        lingers: Whether the client may still send; the close is sent in vain if unread bytes reset it.
    """

    lingers = False

    @property
    def trailing_data(self) -> tuple[bytes, bool]:  # type: ignore[override]  # an attribute of Hypercorn's
        """Bytes of a request that has begun, as of an h11 connection."""
        return (b"?" if self.lingers else b"", False)


class SocketStream(WSStream):
    """The frames of one WebSocket."""

    switched: SwitchedConnection

    async def handle(self, event: Event) -> None:
        """Handle what the client sent, or that it left."""
        if not self.closed and isinstance(event, Body | Data) and not self.handshake.accepted:
            # Frames before the handshake is answered, perhaps in a request's place: no client may send them.
            await self._tell_gone(CloseReason.PROTOCOL_ERROR)
            await super().handle(event)
            await self.send(StreamClosed(stream_id=self.stream_id))
            return
        try:
            await super().handle(event)
        except LocalProtocolError:  # bytes behind the end
            self.closed = True

    async def app_send(self, message: Any) -> None:
        """Send a message of the application."""
        if message is not None and message["type"] == "websocket.close":
            self.switched.lingers = True
        await super().app_send(message)

    async def _handle_events(self) -> None:
        for place, event in enumerate(self.connection.events(), 1):
            if not place % FRAMES_AT_ONCE:
                await trio.lowlevel.checkpoint()
            if isinstance(event, Message):
                size = len(event.data.encode()) if isinstance(event, TextMessage) else len(event.data)
                if self.buffer.length + size > MESSAGE_BYTES:
                    await self._fail(CloseReason.MESSAGE_TOO_BIG, f"at most {MESSAGE_BYTES} bytes")
                    return
                self.buffer.extend(event)
                if event.message_finished:
                    assert self.app_put is not None
                    message = self.buffer.to_message()
                    self.buffer.clear()
                    await self.app_put(message)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                    await self.send(StreamClosed(stream_id=self.stream_id))
                elif self.connection.state is ConnectionState.CLOSED:  # its answer to ours
                    await self.send(StreamClosed(stream_id=self.stream_id))
                else:
                    await self._fail(event.code, "the frames are not valid")
                return

    async def _fail(self, code: int, reason: str) -> None:
        """End the socket for a fault of its client."""
        self.switched.lingers = True
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        await self._tell_gone(code)
        self.closed = True
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _tell_gone(self, code: int) -> None:
        if self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": int(code)})

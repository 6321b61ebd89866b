"""A client of WebSockets on Trio, which does what it is told, also what no browser would."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)


class RejectedError(Exception):
    """The handshake was answered as a request."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


@attrs.define(eq=False)
class Client:
    """A WebSocket.

    Attributes:
        closed: The close code of the server, once it has sent one; 0: it went without.
        seen: All messages so far.
    """

    stream: trio.SocketStream
    connection: WSConnection
    closed: int | None = None
    seen: list[dict] = attrs.field(factory=list)
    _waiting: list[dict] = attrs.field(factory=list)
    _text: str = ""
    _ids: int = 0

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def text(self, text: str) -> None:
        await self.raw(self.connection.send(TextMessage(text)))

    async def binary(self, data: bytes) -> None:
        await self.raw(self.connection.send(BytesMessage(data)))

    async def next(self) -> dict | None:
        """Return the next message, None at the end."""
        while not self._waiting and self.closed is None:
            await self._read()
        return self._waiting.pop(0) if self._waiting else None

    async def until(self, wanted: Callable[[dict], bool]) -> dict:
        """Return the next message of which ``wanted`` is true; the others are in ``seen``."""
        with trio.fail_after(120):
            while (found := await self.next()) is not None:
                if wanted(found):
                    return found
        raise AssertionError(f"the socket was closed: {self.closed}, {self.seen[-3:]}")

    async def event(self, kind: str, **fields: object) -> dict:
        """Return the payload of the next message of a type with these fields."""
        found = await self.until(
            lambda one: one["type"] == kind and fields.items() <= one.get("payload", {}).items()
        )
        return found["payload"]

    async def ask(self, kind: str, **payload: object) -> dict:
        """Send a frame, and return the payload of its reply; events that come before it stay to be read."""
        self._ids += 1
        await self.text(json.dumps({"type": kind, "id": self._ids, "payload": payload}))
        passed = list[dict]()

        def is_reply(one: dict) -> bool:
            if one["type"] == "reply" and one["payload"]["id"] == self._ids:
                return True
            passed.append(one)
            return False

        reply = await self.until(is_reply)
        self._waiting[:0] = passed
        return reply["payload"]

    async def ended(self) -> tuple[int | None, str]:
        """Read to the end; returns the close code and the reason in the last message."""
        with trio.fail_after(120):
            while await self.next() is not None:
                pass
        last = self.seen[-1] if self.seen else {}
        return self.closed, last["payload"]["reason"] if last.get("type") == "closed" else ""

    async def _read(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = self.closed or 0
            return
        self.connection.receive_data(data)
        for event in self.connection.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self._waiting.append(json.loads(self._text))
                    self.seen.append(self._waiting[-1])
                    self._text = ""
            elif isinstance(event, CloseConnection):
                self.closed = event.code


@asynccontextmanager
async def socket(url: str, path: str, **headers: str) -> AsyncIterator[Client]:
    """Open a WebSocket at a server.

    Raises:
        RejectedError: With the status and the body of the answer.
    """
    where = urlsplit(url)
    stream = await trio.open_tcp_stream(where.hostname or "", where.port or 80)
    async with stream:
        connection = WSConnection(ConnectionType.CLIENT)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await stream.send_all(connection.send(Request(host=where.netloc, target=path, extra_headers=pairs)))
        client = Client(stream, connection)
        status, body = 0, b""
        with trio.fail_after(30):
            while True:
                data = await stream.receive_some()
                connection.receive_data(data or None)
                for event in connection.events():
                    if isinstance(event, RejectConnection):
                        status = event.status_code
                    if isinstance(event, RejectData):
                        body += event.data
                        if event.body_finished:
                            raise RejectedError(status, body)
                    if isinstance(event, TextMessage):
                        client._waiting.append(json.loads(event.data))
                        client.seen.append(client._waiting[-1])
                    if isinstance(event, AcceptConnection):
                        status = 101
                if status == 101:
                    break
        yield client

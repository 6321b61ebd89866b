"""Simulated connections: a request to the front door, by a client that may leave, stall or send slowly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import trio

TOKEN = "a-token-of-the-simulation"
REQUEST_SECONDS = 700.0
"""Maximum seconds of a request: plan 30, queue 30, scan 300, and the slowest client."""


@attrs.frozen
class Manner:
    """Behaviour of a client.

    Attributes:
        leaves_after: Seconds after which the client disconnects; None: never.
        stalls: Seconds before it takes each piece.
        stutter: Seconds between the pieces of its body.
    """

    leaves_after: float | None = None
    stalls: float = 0.0
    stutter: float = 0.0


@attrs.define(eq=False)
class Answer:
    """Answer to a request.

    Attributes:
        status: HTTP status; 0 without an answer.
        whole: The last byte arrived.
        late: The answer did not end within :data:`REQUEST_SECONDS`.
    """

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    whole: bool = False
    late: bool = False

    def json(self) -> Any:
        """Return the body as JSON; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Wire:
    """ASGI side of one connection.

    Args:
        body: Body of the request.
        manner: Behaviour of the client.
    """

    def __init__(self, body: bytes, manner: Manner) -> None:
        half = len(body) // 2 if manner.stutter else len(body)
        self._parts = [body[:half], body[half:]] if manner.stutter else [body]
        self._manner = manner
        self._over = trio.Event()
        self.answer = Answer()

    async def receive(self) -> dict[str, Any]:
        """Implement ASGI's receive."""
        if self._parts:
            if self._manner.stutter:
                with trio.move_on_after(self._manner.stutter):
                    await self._over.wait()
            if not self._over.is_set():
                part = self._parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Implement ASGI's send; as in Hypercorn, data sent after the end is dropped without a checkpoint."""
        if self._over.is_set():
            return
        if self._manner.stalls:
            with trio.CancelScope(shield=True), trio.move_on_after(self._manner.stalls):
                await self._over.wait()
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self.answer.body += message.get("body", b"")
        if not message.get("more_body", False):
            self.answer.whole = True
            self._over.set()

    def hang_up(self) -> None:
        """Disconnect the client."""
        self._over.set()


@attrs.frozen
class Caller:
    """Identity and address of a caller.

    Attributes:
        tenant: Tenant of the caller.
        name: Principal of the caller.
        scopes: Scopes that the proxy states.
        address: Address of the peer.
        token: Token of the proxy.
    """

    tenant: str
    name: str
    scopes: str = "admin:cache"
    address: str = "10.0.0.1"
    token: str = TOKEN

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that the proxy adds."""
        return [
            (b"x-strata-proxy-token", self.token.encode()),
            (b"x-strata-principal", self.name.encode()),
            (b"x-tenant-id", self.tenant.encode()),
            (b"x-strata-scopes", self.scopes.encode()),
        ]


async def ask(
    app: Callable[..., Any],
    server: trio.Nursery,
    caller: Caller,
    method: str,
    path: str,
    *,
    request_id: str,
    body: object | None = None,
    manner: Manner | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    """Send a request; the server's side runs in ``server``, and ends with it."""
    manner = manner or Manner()
    data = b"" if body is None else json.dumps(body).encode()
    wire = Wire(data, manner)
    path, _, query = path.partition("?")
    pairs = [*caller.headers(), (b"x-request-id", request_id.encode()), *headers]
    if data:
        pairs += [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": method, "scheme": "http", "path": path, "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "headers": pairs, "extensions": {}, "state": {},
        "client": (caller.address, 1), "server": ("10.0.0.9", 8765),
    }  # fmt: skip
    ended = trio.Event()

    async def serve() -> None:
        try:
            await app(scope, wire.receive, wire.send)
        finally:
            ended.set()

    server.start_soon(serve)
    with trio.move_on_after(REQUEST_SECONDS) as patience:
        if manner.leaves_after is not None:
            with trio.move_on_after(manner.leaves_after):
                await ended.wait()
            wire.hang_up()
        await ended.wait()
    wire.hang_up()
    wire.answer.late = patience.cancelled_caught
    return wire.answer

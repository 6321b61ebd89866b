"""Simulated connections: a request to the front door, by somebody who may leave, stall or stutter."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import trio

TOKEN = "a-token-of-the-simulation"
REQUEST_SECONDS = 700.0
"""Longest a request may take: plan 30, queue 30, scan 300, and the slowest of clients."""


@attrs.frozen
class Manner:
    """How somebody asks.

    Attributes:
        leaves_after: Seconds after which the client hangs up; None for one who stays.
        stalls: Seconds it waits before each piece it takes.
        stutter: Seconds between the pieces of its body.
    """

    leaves_after: float | None = None
    stalls: float = 0.0
    stutter: float = 0.0


@attrs.define(eq=False)
class Answer:
    """What came back.

    Attributes:
        status: 0 when nothing did.
        whole: The last byte arrived.
        late: It did not come within :data:`REQUEST_SECONDS`.
    """

    status: int = 0
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    whole: bool = False
    late: bool = False

    def json(self) -> Any:
        """Return the body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Wire:
    """One connection's worth of ASGI.

    Args:
        body: Of the request.
        manner: The client's.
    """

    def __init__(self, body: bytes, manner: Manner) -> None:
        half = len(body) // 2 if manner.stutter else len(body)
        self._parts = [body[:half], body[half:]] if manner.stutter else [body]
        self._manner = manner
        self._over = trio.Event()
        self.answer = Answer()

    async def receive(self) -> dict[str, Any]:
        """ASGI's."""
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
        """ASGI's; as with Hypercorn, what is sent after the end goes nowhere, without a checkpoint."""
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
        """The client leaves."""
        self._over.set()


@attrs.frozen
class Caller:
    """Somebody's identity and address.

    Attributes:
        tenant: Of the caller.
        name: The principal.
        scopes: What the proxy says.
        address: Of the peer.
        token: What the proxy proves itself with.
    """

    tenant: str
    name: str
    scopes: str = "admin:cache"
    address: str = "10.0.0.1"
    token: str = TOKEN

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what the proxy adds."""
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
    """Ask; the server's side runs in ``server``, and ends with it."""
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

"""The ASGI around a front door, for tests."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import trio

from strata.auth import IdentityContract
from strata.tenants.stats.runtime import RuntimeStats

TOKEN = "t" * 20
GOOD = [
    (b"x-strata-proxy-token", TOKEN.encode()),
    (b"x-strata-principal", b"ana@example.com"),
    (b"x-tenant-id", b"team-a"),
]
CONTRACT = IdentityContract(mode="trusted_proxy", tokens=(TOKEN,), multi_tenant=True, require_tenant=True)


class Wire:
    """One ASGI request: the body's parts in, messages out."""

    def __init__(self, *parts: bytes, whole: bool = True) -> None:
        self.parts = list(parts or (b"",))
        self.whole = whole
        self.read = 0
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        await trio.lowlevel.checkpoint()
        if self.parts:
            part = self.parts.pop(0)
            self.read += len(part)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts) or not self.whole}
        if not self.whole:
            await trio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            assert not self.parts, "answered before the body was read"
        self.sent.append(message)

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


async def echo(scope: dict, receive: Callable, send: Callable) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"], "more_body": False})


def nothing_behind() -> SimpleNamespace:
    """Return a registry that has no tenants: it only counts who could not be identified."""
    return SimpleNamespace(runtime_stats=RuntimeStats())

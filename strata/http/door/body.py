"""Take the body of a request, up to a limit."""

from __future__ import annotations

from strata.http.asgi import Receive

DRAIN_BYTES = 64 * 1024 * 1024
"""Bytes of a refused body that are read and dropped; of a larger one the connection is closed."""


class ClientGoneError(Exception):
    """The client left before its whole request had arrived."""


async def take_body(receive: Receive, keep: int) -> tuple[bytes | None, bool]:
    """Read a body; returns it if it has at most ``keep`` bytes, and whether its end was read.

    Raises:
        ClientGoneError: If the client left.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size <= keep:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body", False):
            return (b"".join(parts) if size <= keep else None), True
        if size > max(keep, DRAIN_BYTES):
            return None, False

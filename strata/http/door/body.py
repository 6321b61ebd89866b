"""Take the body of a request, up to a limit and within the budget of memory."""

from __future__ import annotations

import attrs

from strata.http.asgi import Receive
from strata.outcomes import Refused
from strata.tenants.budgets.body_budget import FREE_BYTES, NO_MEMORY, BodyCharge

DRAIN_BYTES = 64 * 1024 * 1024
"""Bytes of a refused body that are read and dropped; of a larger one the connection is closed."""


class ClientGoneError(Exception):
    """The client left before its whole request had arrived."""


@attrs.define(eq=False)
class Body:
    """A request's body as it arrives.

    Attributes:
        keep: Most bytes to keep; a larger body is dropped.
        charge: What the body holds of the memory budget; None if none of it is kept.
        content: The bytes so far; None when the body was dropped.
        refused: Why it was dropped; None if it has more than ``keep`` bytes.
        whole: Whether its end was read.
        late: Whether it did not arrive in time.
    """

    keep: int
    charge: BodyCharge | None = None
    content: bytes | bytearray | None = b""
    refused: Refused | None = None
    whole: bool = False
    late: bool = False
    _size: int = 0

    async def take(self, receive: Receive) -> None:
        """Read the body to its end, or a dropped one for :data:`DRAIN_BYTES`.

        Raises:
            ClientGoneError: If the client left.
        """
        while not self.whole and self._size <= max(self.keep, DRAIN_BYTES):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            self._size += len(part)
            self.whole = not message.get("more_body", False)
            if self._size == len(part) <= min(FREE_BYTES, self.keep) and self.content is not None:
                self.content = part  # mostly the only one
            elif part and self.content is not None:
                self._add(part)

    def _add(self, part: bytes) -> None:
        if self._size > self.keep:
            self._drop(None)
        elif self._size > FREE_BYTES and self.charge is not None and not self.charge.cover(self._size):
            self._drop(NO_MEMORY)
        elif not self.content:
            self.content = part  # mostly the only one
        else:
            # One buffer: kept apart, parts of a few bytes each would take twenty times their size.
            if isinstance(self.content, bytes):
                self.content = bytearray(self.content)
            self.content += part

    def _drop(self, refused: Refused | None) -> None:
        self.content, self.refused = None, refused
        if self.charge is not None:
            self.charge.release()


async def drain(receive: Receive) -> bool:
    """Read and drop a body, up to :data:`DRAIN_BYTES`; returns whether its end was read.

    Raises:
        ClientGoneError: If the client left.
    """
    body = Body(0, content=None)
    await body.take(receive)
    return body.whole

"""Turns: how large results leave without anybody else waiting behind them.

Where a thread cannot carry them (:mod:`strata.work.socket_sender`), by TLS and as ranges, the loop copies
bytes of results, a fraction of a millisecond a chunk. A small request passes through the loop a dozen times,
and would wait each time for a chunk of every large result on its way. So one chunk or load is taken at a
time, over all of them, the tenants in turn; and chunks are small while somebody else is served.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import attrs
import trio

LARGE_BYTES = 1024 * 1024
"""A chunk when nobody else is served: Hypercorn's cost is by chunk, and 1 MiB is where it no longer shows."""

SMALL_BYTES = 256 * 1024
"""A chunk when somebody else is served: 0.1 ms of copying, about what it costs to send it at all."""

SERVED_SECONDS = 0.1
"""How long after a request somebody is being served: a dashboard asks for one result after another."""


@attrs.define(eq=False)
class EgressTurns:
    """One turn after the other, round robin over tenants.

    Attributes:
        asked: When the latest request came in, on Trio's clock.
    """

    asked: float = float("-inf")
    _taken: bool = False
    _waiting: OrderedDict[str, deque[trio.Event]] = attrs.field(factory=OrderedDict)

    def note_request(self) -> None:
        """Somebody asks for something."""
        self.asked = trio.current_time()

    @property
    def chunk_bytes(self) -> int:
        """How many bytes a turn may take now."""
        return SMALL_BYTES if trio.current_time() - self.asked < SERVED_SECONDS else LARGE_BYTES

    async def take(self, tenant: str) -> None:
        """Wait for ``tenant``'s turn. To be ended by :meth:`give`, whatever happens in between."""
        if not self._taken:
            self._taken = True
            return
        event = trio.Event()
        self._waiting.setdefault(tenant, deque()).append(event)
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():
                self.give()  # the turn came in the very moment in which nobody wanted it any more
            else:
                self._forget(tenant, event)
            raise

    def give(self) -> None:
        """End the turn; not before the loop has passed, or turns would come in one pass after all.

        The next one begins in the pass after this one.
        """
        if not self._waiting:
            self._taken = False
            return
        tenant, events = self._waiting.popitem(last=False)
        events.popleft().set()
        if events:
            self._waiting[tenant] = events  # at the end of the round

    def _forget(self, tenant: str, event: trio.Event) -> None:
        events = self._waiting[tenant]
        events.remove(event)
        if not events:
            del self._waiting[tenant]

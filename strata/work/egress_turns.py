"""Send large results one chunk at a time, the tenants in turn, so that small requests do not wait for them.

Where a thread cannot send a result (:mod:`strata.work.socket_sender`), over TLS and as ranges, the loop
copies its bytes, a fraction of a millisecond a chunk. A small request passes through the loop a dozen times,
and would wait each time for a chunk of every large result being sent. So one chunk or file range is sent at a
time in the whole process, and chunks are small while other requests are served.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import attrs
import trio

LARGE_BYTES = 1024 * 1024
"""Bytes of a chunk without other requests: Hypercorn's cost by chunk is no longer measurable at 1 MiB."""

SMALL_BYTES = 256 * 1024
"""Bytes of a chunk beside other requests: 0.1 ms of copying, about the fixed cost of sending a chunk."""

SERVED_SECONDS = 0.1
"""Seconds after a request in which chunks stay small: a dashboard reads one result after another."""


@attrs.define(eq=False)
class EgressTurns:
    """Give out one turn at a time, round robin over tenants.

    Attributes:
        asked: Time of the latest request, on Trio's clock.
    """

    asked: float = float("-inf")
    _taken: bool = False
    _waiting: OrderedDict[str, deque[trio.Event]] = attrs.field(factory=OrderedDict)

    def note_request(self) -> None:
        """Note that a request arrived: chunks are small for :data:`SERVED_SECONDS`."""
        self.asked = trio.current_time()

    @property
    def chunk_bytes(self) -> int:
        """Most bytes of one turn now."""
        return SMALL_BYTES if trio.current_time() - self.asked < SERVED_SECONDS else LARGE_BYTES

    async def take(self, tenant: str) -> None:
        """Wait for a turn of ``tenant``; the caller must end it with :meth:`give`, also after an error."""
        if not self._taken:
            self._taken = True
            return
        event = trio.Event()
        self._waiting.setdefault(tenant, deque()).append(event)
        try:
            await event.wait()
        except trio.Cancelled:
            if event.is_set():
                self.give()  # the turn came in the instant of the cancellation
            else:
                self._forget(tenant, event)
            raise

    def give(self) -> None:
        """End the turn. The next turn begins in the loop's next pass, so that other tasks run in between."""
        if not self._waiting:
            self._taken = False
            return
        tenant, events = self._waiting.popitem(last=False)
        events.popleft().set()
        if events:
            self._waiting[tenant] = events  # the end of the round

    def _forget(self, tenant: str, event: trio.Event) -> None:
        events = self._waiting[tenant]
        events.remove(event)
        if not events:
            del self._waiting[tenant]

"""The slots of one tier: a limiter with a queue timeout, whose leases come back exactly once."""

from __future__ import annotations

import math

import attrs
import trio

from strata.outcomes import Limit, Reason, Refused


@attrs.define(eq=False)
class Lease:
    """One slot in use. Releasing it twice is harmless; losing it is not, so owners release in ``finally``."""

    _limiter: trio.CapacityLimiter
    _released: bool = False

    def release(self) -> None:
        """Give the slot back."""
        if not self._released:
            self._released = True
            self._limiter.release_on_behalf_of(self)


class Slots:
    """Slots of one tier of one tenant.

    Args:
        name: What the caller is told was exhausted, such as ``interactive_slots``.
        total: How many.
    """

    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self._limiter = trio.CapacityLimiter(total)

    def __repr__(self) -> str:
        return f"<Slots {self.name} {self.used}/{self.total}, {self.waiting} waiting>"

    @property
    def total(self) -> int:
        """Slots there are."""
        return int(self._limiter.total_tokens)

    @property
    def used(self) -> int:
        """Slots in use; may exceed the total for a while after it was lowered."""
        return int(self._limiter.borrowed_tokens)

    @property
    def waiting(self) -> int:
        """Builds that wait for a slot."""
        return self._limiter.statistics().tasks_waiting

    def resize(self, total: int) -> None:
        """Change how many there are; leases in use are kept, and drain when there are too many."""
        self._limiter.total_tokens = total

    async def acquire(self, timeout: float) -> Lease | Refused:  # noqa: ASYNC109  # the refusal is a value
        """Wait at most ``timeout`` seconds for a slot."""
        lease = Lease(self._limiter)
        with trio.move_on_after(timeout):
            await self._limiter.acquire_on_behalf_of(lease)
            return lease
        wait = max(1, math.ceil(timeout))
        return Refused(
            Reason.BUSY,
            f"None of this tenant's {self.total} {self.name} became free within {timeout:g} seconds.",
            code=self.name,
            retry_after=wait,
            limit=Limit(self.name, self.total, wait),
        )

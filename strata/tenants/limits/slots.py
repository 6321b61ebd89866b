"""The slots of one tier: principals take turns, a wait has its end, and a slot comes back exactly once."""

from __future__ import annotations

import attrs
import trio

from strata.outcomes import Limit, Reason, Refused
from strata.tenants.limits.fair_slots import Claim, FairShares
from strata.tenants.limits.retry_after import Kept, Promises

SEVERAL_TURNS = 5
"""Turns within which one comes whatever the lengths of scans: one in a hundred and fifty does not."""

MOST_PATIENCE = 60.0

PROMISED = 2
"""Every second slot that comes free is promised, while there are more than that who were refused; the others
are for those who wait."""


@attrs.define(eq=False)
class Lease:
    """A place in the queue, and then a slot. Releasing it twice is harmless; losing it is not.

    Attributes:
        ticket: The place, or the slot.
        turn: Set when it is a slot.
        promised: Somebody was told to come back for it now.
    """

    _slots: Slots
    ticket: Claim = attrs.field(factory=Claim)
    turn: trio.Event = attrs.field(factory=trio.Event)
    promised: bool = False

    @property
    def held(self) -> bool:
        """Whether it is a slot."""
        return self.ticket.holder is not None

    def join(self, principal: str) -> None:
        """Somebody else waits for the same: from now on, the turn of either will do."""
        if self.ticket.waiting:
            self._slots.enter(self, principal)

    async def wait(self, timeout: float) -> Lease | Refused:  # noqa: ASYNC109  # the refusal is a value
        """Wait at most ``timeout`` seconds for its turn; whoever does not get it holds nothing afterwards.

        Who was told to come back is first in the queue, and waits as long as several scans take at this
        pace, so that the next slot is theirs.
        """
        if self.promised:
            timeout = max(timeout, self._slots.several_turns())
        try:
            with trio.move_on_after(timeout):
                await self.turn.wait()
        except BaseException:
            self.release()
            raise
        if self.held:
            return self
        self.release()
        return self._slots.refusal(self.ticket.keys, timeout)

    def release(self) -> None:
        """Give the slot back, or the place in the queue."""
        self._slots.leave(self)


class Slots:
    """Slots of one tier of one tenant.

    Args:
        name: What the caller is told was exhausted, such as ``interactive_slots``.
        total: How many.
        per_principal: How many one principal may have; 0 for all of them.
    """

    def __init__(self, name: str, total: int, per_principal: int = 0) -> None:
        self.name = name
        self._turns = FairShares(total, most=per_principal)
        self._promises = Promises(PROMISED)
        self._kept = Kept()
        self._leases: dict[Claim, Lease] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.name} {self.used}/{self.total}, {self.waiting} waiting>"

    @property
    def total(self) -> int:
        """Slots there are."""
        return self._turns.total

    @property
    def used(self) -> int:
        """Slots in use; may exceed the total for a while after it was lowered."""
        return self._turns.used

    @property
    def waiting(self) -> int:
        """Builds that wait for a slot."""
        return self._turns.waiting

    def used_by(self, principal: str) -> int:
        """Return how many slots a principal has."""
        return self._turns.held(principal)

    def resize(self, total: int, per_principal: int = 0) -> None:
        """Change how many there are; leases in use are kept, and drain when there are too many."""
        self._wake(self._turns.resize(total, per_principal))

    def queue(self, principal: str, size: int = 1) -> Lease:
        """Return a place in the queue, to be waited with and released in any case."""
        lease = Lease(self, Claim(size), promised=self._kept.claim(principal, trio.current_time()))
        self.enter(lease, principal, first=lease.promised)
        return lease

    async def acquire(self, principal: str, timeout: float) -> Lease | Refused:  # noqa: ASYNC109  # a value
        """Queue, and wait at most ``timeout`` seconds."""
        return await self.queue(principal).wait(timeout)

    def several_turns(self) -> float:
        """Return how many seconds a few turns take, as far as they come at the present pace."""
        interval = self._turns.drain.interval(trio.current_time())
        return 0.0 if interval is None else min(SEVERAL_TURNS * interval, MOST_PATIENCE)

    def enter(self, lease: Lease, principal: str, *, first: bool = False) -> None:
        """Queue a lease on behalf of a principal, or of one more; before all others, if that was promised."""
        self._leases[lease.ticket] = lease
        self._wake(self._turns.enter(lease.ticket, principal, first=first))

    def leave(self, lease: Lease) -> None:
        """Take a lease back."""
        self._leases.pop(lease.ticket, None)
        self._wake(self._turns.leave(lease.ticket, trio.current_time()))

    def refusal(self, principals: list[str], waited: float) -> Refused:
        """Return what to tell those who waited in vain, with the wait that the queue's drain suggests."""
        now, principal = trio.current_time(), principals[0]
        need, interval = self._turns.wait_of(principal, now) or (waited, waited)
        seconds = self._promises.seconds(now, need, interval)
        self._kept.note(principal, now + seconds, now)
        if all(self._turns.capped(each) for each in principals):
            name, most = f"{self.name}_per_principal", self._turns.most
            whose = f"Your {most} slots ({name}) were"
        else:
            name, most = self.name, self.total
            whose = f"This tenant's {most} slots ({name}) were"
        detail = f"{whose} in use for {waited:g} seconds; ask again when scans have ended."
        return Refused(Reason.BUSY, detail, name, seconds, limit=Limit(name, most, seconds))

    def _wake(self, tickets: list[Claim]) -> None:
        for ticket in tickets:
            self._leases[ticket].turn.set()

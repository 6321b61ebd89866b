"""The slots of one tier: principals take turns, waits are bounded, and a slot is given back exactly once.

Builds take them in :mod:`strata.tenants.builds.runner`.
"""

from __future__ import annotations

import attrs
import trio

from strata.decisions import decided
from strata.outcomes import Limit, Reason, Refused
from strata.tenants.limits.fair_slots import Claim, FairShares
from strata.tenants.limits.retry_after import RetryAfterEstimator
from strata.tracing.spans import child

SEVERAL_TURNS = 5
"""Turns for which a lease with a promise waits: whatever scans take, one in 150 gets none within them."""

MOST_PATIENCE = 60.0
"""Most seconds that :data:`SEVERAL_TURNS` are taken to last."""


@attrs.define(eq=False)
class Lease:
    """A place in the queue, and then a slot. Release it in any case; releasing it twice is harmless.

    Attributes:
        claim: The place, or the slot.
        turn: Set when the lease is a slot.
        promised: The principal was told to return for a slot now.
    """

    _slots: Slots
    claim: Claim = attrs.field(factory=Claim)
    turn: trio.Event = attrs.field(factory=trio.Event)
    promised: bool = False

    @property
    def held(self) -> bool:
        """Tell whether the slot is held, not only waited for."""
        return self.claim.holder is not None

    @property
    def limit(self) -> str:
        """The limit that is waited for, such as ``interactive_slots``."""
        return self._slots.name

    def join(self, principal: str) -> None:
        """Wait on behalf of ``principal``, too: from now on, the turn of any of its principals will do."""
        if self.claim.waiting:
            self._slots.enter(self, principal)

    async def wait(self, timeout: float) -> Lease | Refused:  # noqa: ASYNC109  # the refusal is a value
        """Wait at most ``timeout`` seconds for the turn; without one, the place is given back.

        With a promise, the lease is first in the queue and waits as long as several turns take at the present
        pace, so that it gets the next slot.

        Returns:
            The lease itself; or the refusal, BUSY or what :meth:`Slots.refusal` makes it.
        """
        if self.promised:
            timeout = max(timeout, self._slots.several_turns())
        try:
            with trio.move_on_after(timeout), child("slot") as span:
                span.set("strata.limit", self._slots.name)
                await self.turn.wait()
        except BaseException:  # raised again: a place that is waited for no more is no place
            self.release()
            raise
        if self.held:
            decided("slot taken", limit=self._slots.name, size=self.claim.size)
            return self
        self.release()
        return self._slots.refusal(self.claim.keys, timeout)

    def release(self) -> None:
        """Give back the slot, or the place in the queue."""
        self._slots.leave(self)


class Slots:
    """Slots of one tier of one tenant.

    Args:
        name: The limit that a refusal names, such as ``interactive_slots``.
        total: Slots.
        per_principal: Most slots of one principal; 0 for no such bound.
        spare: As of :class:`~strata.tenants.limits.fair_slots.FairShares`.
    """

    def __init__(self, name: str, total: int, per_principal: int = 0, *, spare: float = 0.0) -> None:
        self.name = name
        self._estimator = RetryAfterEstimator()
        self._shares = FairShares(total, most=per_principal, spare=spare, estimator=self._estimator)
        self._leases: dict[Claim, Lease] = {}

    def __repr__(self) -> str:
        return f"<Slots {self.name} {self.used}/{self.total}, {self.waiting} waiting>"

    @property
    def total(self) -> int:
        """Slots there are."""
        return self._shares.total

    @property
    def used(self) -> int:
        """Slots in use; may exceed the total for a while after it was lowered."""
        return self._shares.used

    @property
    def waiting(self) -> int:
        """Builds that wait for a slot."""
        return self._shares.waiting

    def resize(self, total: int, per_principal: int = 0) -> None:
        """Change the number of slots; leases in use are kept, even if there are too many now."""
        self._wake(self._shares.resize(total, per_principal))

    def queue(self, principal: str, size: int = 1) -> Lease:
        """Return a place in the queue for ``size`` slots, to be waited with and released in any case."""
        promised = self._estimator.claim(principal, trio.current_time())
        lease = Lease(self, Claim(size), promised=promised)
        self.enter(lease, principal, first=lease.promised)
        return lease

    def several_turns(self) -> float:
        """Return the seconds that :data:`SEVERAL_TURNS` take at the present pace; 0 if that is unknown."""
        interval = self._estimator.interval(trio.current_time())
        return 0.0 if interval is None else min(SEVERAL_TURNS * interval, MOST_PATIENCE)

    def enter(self, lease: Lease, principal: str, *, first: bool = False) -> None:
        """Queue a lease on behalf of one principal, or of one more; ``first`` if the slot was promised."""
        self._leases[lease.claim] = lease
        self._wake(self._shares.enter(lease.claim, principal, first=first))

    def leave(self, lease: Lease) -> None:
        """Take back a lease's slot, or its place in the queue."""
        self._leases.pop(lease.claim, None)
        self._wake(self._shares.leave(lease.claim, trio.current_time()))

    def refusal(self, principals: list[str], waited: float) -> Refused:
        """Return the refusal of a lease that waited in vain, with a Retry-After from the queue's pace."""
        now, principal = trio.current_time(), principals[0]
        need, interval = self._shares.wait_of(principal, now) or (waited, waited)
        seconds = self._estimator.seconds(now, need, interval)
        self._estimator.promise(principal, now + seconds, now)
        if all(self._shares.capped(each) for each in principals):
            name, most = f"{self.name}_per_principal", self._shares.most
            whose = f"Your {most} slots ({name}) were"
        else:
            name, most = self.name, self.total
            whose = f"This tenant's {most} slots ({name}) were"
        detail = f"{whose} in use for {waited:g} seconds. Retry after {seconds} s."
        return Refused(Reason.BUSY, detail, name, seconds, limit=Limit(name, most, seconds))

    def _wake(self, claims: list[Claim]) -> None:
        for claim in claims:
            self._leases[claim].turn.set()

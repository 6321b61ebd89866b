"""A fair queue that counts the quanta before each waiting tenant, and records broken bounds.

The property tests of the policy and the simulator share it, and so check the same bounds.
"""

from __future__ import annotations

from collections import Counter

import attrs
from fair_bounds import most_before, within_share

from strata.work.fair import BULK_FLOOR, BULK_PATIENCE, FairQueue, QueueEntry
from strata.work.tier import Tier

INTERACTIVE = "an interactive quantum waited too long"
BULK = "a bulk quantum waited too long"
FLOOR = "a bulk turn came too early"


def most_before_bulk(tenants: int) -> int:
    """Return the maximum of quanta that start before a bulk one, while bulk may run."""
    return tenants - 1 + tenants * (BULK_PATIENCE - 1)


@attrs.define(eq=False)
class Wait:
    """A tenant within its share, with something queued.

    Attributes:
        tenants: Tenants with work of its tier queued when it began to wait, itself included.
        before: Quanta that started since.
    """

    tenants: int
    before: int = 0


class WatchedQueue(FairQueue):
    """A fair queue, and the waits of tenants with a bound.

    Attributes:
        broken: Broken bounds.
        kept: Number of waits within their bound, by tier; zero would mean that nothing was checked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[str] = []
        self.kept: Counter[Tier] = Counter()
        self._held: Counter[tuple[str, Tier]] = Counter()
        self._waits: dict[tuple[str, Tier], Wait] = {}
        self._since_bulk = BULK_FLOOR

    def push(self, ticket: QueueEntry) -> None:
        """See :class:`FairQueue`."""
        super().push(ticket)
        whose = ticket.flow, ticket.tier
        self._held[whose] += 1
        if self._held[whose] == 1:
            self._begin(whose)

    def pop(self, *, bulk: bool = True) -> QueueEntry | None:
        """See :class:`FairQueue`."""
        both = all(self.tenants(tier) for tier in Tier)
        ticket = super().pop(bulk=bulk)
        if ticket is None:
            return None
        whose = ticket.flow, ticket.tier
        self._held[whose] -= 1
        if both:
            self._check_floor(ticket)
        wait = self._waits.pop(whose, None)
        if wait is not None:
            self._check(ticket, wait)
        for (_, tier), waits in self._waits.items():
            if tier is Tier.INTERACTIVE or bulk:  # bulk work that may not run has no bound
                waits.before += 1
        if self._held[whose]:
            self._begin(whose)
        return ticket

    def remove(self, ticket: QueueEntry) -> bool:
        """See :class:`FairQueue`."""
        removed = super().remove(ticket)
        whose = ticket.flow, ticket.tier
        self._held[whose] -= removed
        if not self._held[whose]:
            self._waits.pop(whose, None)
        return removed

    def settle(self, ticket: QueueEntry, cost: int | None = None) -> None:
        """See :class:`FairQueue`; a tenant that has used more than its share has no bound."""
        super().settle(ticket, cost)
        self._waits = {whose: wait for whose, wait in self._waits.items() if within_share(self, *whose)}

    def _begin(self, whose: tuple[str, Tier]) -> None:
        if within_share(self, *whose):
            self._waits[whose] = Wait(self.tenants(whose[1]))

    def _check(self, ticket: QueueEntry, wait: Wait) -> None:
        interactive = ticket.tier is Tier.INTERACTIVE
        most = (most_before if interactive else most_before_bulk)(wait.tenants)
        self.kept[ticket.tier] += 1
        if wait.before > most:
            what = INTERACTIVE if interactive else BULK
            self.broken.append(f"{what}: {wait.before} before it, where {most} may be")

    def _check_floor(self, ticket: QueueEntry) -> None:
        if ticket.tier is Tier.INTERACTIVE:
            self._since_bulk += 1
            return
        if self._since_bulk < BULK_FLOOR - 1:
            self.broken.append(f"{FLOOR}: after {self._since_bulk} interactive ones")
        self._since_bulk = 0

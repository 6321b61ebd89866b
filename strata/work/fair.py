"""Who goes next: deficit round robin over tenants, by bytes, in two tiers.

A pure data structure without clock or I/O, after Shreedhar and Varghese, "Efficient Fair Queuing using
Deficit Round Robin" (1995). A tenant with a thousand queued row groups delays another by at most one
turn of the round, since each turn of a tenant is worth :data:`QUANTUM_BYTES` and no more.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import attrs

from strata.work.tier import Tier

QUANTUM_BYTES = 8 * 1024 * 1024
"""What one turn of a tenant is worth; about one row group of 60,000 rows by ten columns."""

BULK_FLOOR = 4
"""While both tiers wait, every fourth turn is a bulk one."""


@attrs.define(eq=False)
class Ticket:
    """A piece of work in the queue.

    Attributes:
        flow: Whose it is: the tenant.
        tier: Which class of work.
        cost: Expected bytes; capped at eight quanta, so that one odd estimate can't stall a flow.
        urgent: Goes before the flow's own other work, such as writing what has been read. It gains nothing
            over other flows.
    """

    flow: str
    tier: Tier
    cost: int
    urgent: bool = False


@attrs.define(eq=False)
class _Flow:
    tickets: deque[Ticket] = attrs.field(factory=deque)
    deficit: int = 0


class _Round:
    """One tier's flows in the order of their turns."""

    def __init__(self) -> None:
        self.flows: OrderedDict[str, _Flow] = OrderedDict()

    def push(self, ticket: Ticket) -> None:
        flow = self.flows.get(ticket.flow)
        if flow is None:
            # A new flow begins with one turn's credit and joins at the end of the round.
            flow = self.flows[ticket.flow] = _Flow(deficit=QUANTUM_BYTES)
        if ticket.urgent:
            flow.tickets.appendleft(ticket)
        else:
            flow.tickets.append(ticket)

    def pop(self) -> Ticket:
        while True:
            name, flow = next(iter(self.flows.items()))
            cost = min(flow.tickets[0].cost, 8 * QUANTUM_BYTES)
            if cost > flow.deficit:
                flow.deficit += QUANTUM_BYTES
                self.flows.move_to_end(name)
                continue
            flow.deficit -= cost
            ticket = flow.tickets.popleft()
            if not flow.tickets:
                # Credit is for those who wait; an empty flow takes none along.
                del self.flows[name]
            return ticket

    def remove(self, ticket: Ticket) -> bool:
        flow = self.flows.get(ticket.flow)
        if flow is None or ticket not in flow.tickets:
            return False
        flow.tickets.remove(ticket)
        if not flow.tickets:
            del self.flows[ticket.flow]
        return True


class FairQueue:
    """Tickets in, tickets out in fair order."""

    def __init__(self) -> None:
        self._rounds = {tier: _Round() for tier in Tier}
        self._since_bulk = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, ticket: Ticket) -> None:
        """Queue ``ticket`` behind its own flow's earlier ones, or before them if it is urgent."""
        self._rounds[ticket.tier].push(ticket)
        self._size += 1

    def pop(self) -> Ticket | None:
        """Take the ticket whose turn it is, or None when nothing waits."""
        if not self._size:
            return None
        self._size -= 1
        return self._rounds[self._next_tier()].pop()

    def remove(self, ticket: Ticket) -> bool:
        """Take back a ticket that no longer wants its turn; False if it was not queued."""
        removed = self._rounds[ticket.tier].remove(ticket)
        self._size -= removed
        return removed

    def _next_tier(self) -> Tier:
        interactive = bool(self._rounds[Tier.INTERACTIVE].flows)
        bulk = bool(self._rounds[Tier.BULK].flows)
        if interactive and bulk:
            self._since_bulk += 1
            if self._since_bulk < BULK_FLOOR:
                return Tier.INTERACTIVE
            self._since_bulk = 0
            return Tier.BULK
        return Tier.INTERACTIVE if interactive else Tier.BULK

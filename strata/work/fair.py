"""Order work: interactive before bulk with a floor for bulk, tenants by bytes, principals within a tenant.

A pure data structure without clock or I/O. Each tier is a round of tenants, each tenant a round of its
principals (:class:`~strata.work.deficit_round_robin.DeficitRoundRobin`), each principal a queue. The
guarantees, in starts of quanta (the *bound*; tested over arbitrary arrivals in
``tests/work/test_fair_bound.py``, watched in the simulator):

- An interactive quantum at the head of a tenant that is within its share starts after at most
  ``T + (T - 1) // (BULK_FLOOR - 1)`` others, where *T* tenants have interactive work queued: one of each
  other tenant, and the bulk turns of the floor. Sizes of quanta, weights and lengths of queues do not matter.
- While both tiers wait, at most one turn in :data:`BULK_FLOOR` is a bulk one; bulk gets it unless it has had
  that share of the bytes already, and at the latest every :data:`BULK_PATIENCE` turns. A floor in turns alone
  would hand the machine to large bulk quanta when interactive ones are small; one in bytes alone would let
  many small bulk quanta go first.
- Tenants that always have work queued are served bytes in the ratio of their weights, to within a round's
  credit and one quantum.

A tenant is within its share while it has credit left in the present round:
:data:`~strata.work.deficit_round_robin.QUANTUM_BYTES` times its weight. A step takes time logarithmic in the
number of tenants, a removal constant time; neither depends on the number of queued quanta.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import attrs

from strata.work.deficit_round_robin import QUANTUM_BYTES, DeficitRoundRobin
from strata.work.tier import Tier

LEAST_COST = 64 * 1024
"""Least bytes a quantum is charged: handing it to a thread and back takes as long as reading them."""

MOST_COST = 8 * QUANTUM_BYTES
"""Most bytes an estimate is charged, lest a wrong one stall its tenant; the bytes settled may be more."""

BULK_FLOOR = 4
"""While both tiers wait, bulk gets 1/BULK_FLOOR of the bytes, in at most every BULK_FLOOR-th turn."""

BULK_PATIENCE = 128
"""While both tiers wait, at least one turn in BULK_PATIENCE is a bulk one, even after a large quantum."""


@attrs.define(eq=False)
class QueueEntry:
    """A piece of work in the queue.

    Attributes:
        flow: Tenant.
        tier: Class of work.
        cost: Expected bytes, charged within :data:`LEAST_COST` and :data:`MOST_COST`.
        urgent: Goes before other work of its principal, such as writing what has been read; the order among
            principals and tenants is unchanged.
        principal: Principal of the tenant for whom the work is done.
        weight: Share of the tenant relative to others, above zero; the latest entry's weight holds.
        charged: Bytes charged when the entry's turn came; the bytes really taken, once settled.
        contended: Whether the other tier was waiting, too, when the entry's turn came.
    """

    flow: str
    tier: Tier
    cost: int
    urgent: bool = False
    principal: str = ""
    weight: float = 1.0
    charged: int = attrs.field(init=False, default=0)
    contended: bool = attrs.field(init=False, default=False)


@attrs.define(eq=False)
class Queued:
    """Work that one tenant has queued in one tier.

    Attributes:
        quanta: Number of quanta.
        nbytes: Expected bytes of the quanta.
    """

    quanta: int = 0
    nbytes: int = 0


@attrs.define(eq=False)
class _Line:
    """Queue of one principal; ordered dictionaries remove any entry in constant time."""

    urgent: OrderedDict[QueueEntry, None] = attrs.field(factory=OrderedDict)
    others: OrderedDict[QueueEntry, None] = attrs.field(factory=OrderedDict)

    def __len__(self) -> int:
        return len(self.urgent) + len(self.others)

    def of(self, ticket: QueueEntry) -> OrderedDict[QueueEntry, None]:
        return self.urgent if ticket.urgent else self.others

    def pop(self) -> QueueEntry:
        return (self.urgent or self.others).popitem(last=False)[0]


@attrs.define(eq=False)
class _Tenant:
    """Principals of one tenant, kept while work of theirs is queued or runs."""

    turns: DeficitRoundRobin[str] = attrs.field(factory=DeficitRoundRobin)
    lines: dict[str, _Line] = attrs.field(factory=dict)
    queued: Queued = attrs.field(factory=Queued)
    running: int = 0


class _Round:
    """Tenants of one tier."""

    def __init__(self) -> None:
        self.turns: DeficitRoundRobin[str] = DeficitRoundRobin()
        self.tenants: dict[str, _Tenant] = {}

    def __len__(self) -> int:
        return len(self.turns)

    def push(self, ticket: QueueEntry) -> None:
        if not self.tenants:
            self.turns.reset()  # nothing waits or runs: debts have no creditor
        self.turns.join(ticket.flow, ticket.weight)
        tenant = self.tenants.setdefault(ticket.flow, _Tenant())
        tenant.turns.join(ticket.principal)
        line = tenant.lines.setdefault(ticket.principal, _Line())
        line.of(ticket)[ticket] = None
        tenant.queued.quanta += 1
        tenant.queued.nbytes += ticket.cost

    def pop(self) -> QueueEntry:
        flow = self.turns.next()
        tenant = self.tenants[flow]
        principal = tenant.turns.next()
        ticket = tenant.lines[principal].pop()
        ticket.charged = min(max(ticket.cost, LEAST_COST), MOST_COST)
        self.turns.take(flow, ticket.charged)
        tenant.turns.take(principal, ticket.charged)
        tenant.running += 1
        self._taken(ticket, tenant)
        return ticket

    def remove(self, ticket: QueueEntry) -> bool:
        tenant = self.tenants.get(ticket.flow)
        line = None if tenant is None else tenant.lines.get(ticket.principal)
        if tenant is None or line is None or ticket not in line.of(ticket):
            return False
        del line.of(ticket)[ticket]
        self._taken(ticket, tenant)
        return True

    def charge(self, ticket: QueueEntry, correction: int) -> None:
        tenant = self.tenants[ticket.flow]
        if correction:
            self.turns.charge(ticket.flow, correction)
            tenant.turns.charge(ticket.principal, correction)
        tenant.running -= 1
        self._let_go(ticket.flow, tenant)

    def _taken(self, ticket: QueueEntry, tenant: _Tenant) -> None:
        """Note that a ticket has left its principal's queue."""
        tenant.queued.quanta -= 1
        tenant.queued.nbytes -= ticket.cost
        if not tenant.lines[ticket.principal]:
            del tenant.lines[ticket.principal]
            tenant.turns.leave(ticket.principal)
        if not tenant.lines:
            self.turns.leave(ticket.flow)
            self._let_go(ticket.flow, tenant)

    def _let_go(self, flow: str, tenant: _Tenant) -> None:
        if not tenant.lines and not tenant.running:
            del self.tenants[flow]


@attrs.define(eq=False)
class _Floor:
    """Decide when a bulk turn is due although interactive work waits.

    Attributes:
        turns: Interactive turns since the last bulk one, while bulk waited.
        ahead: Bytes of interactive work due in return for bulk bytes; never negative, so bulk saves up no
            credit.
    """

    turns: int = 0
    ahead: int = 0

    @property
    def due(self) -> bool:
        return self.turns >= BULK_FLOOR - 1 and (not self.ahead or self.turns >= BULK_PATIENCE - 1)

    def took(self, tier: Tier) -> None:
        self.turns = 0 if tier is Tier.BULK else self.turns + 1

    def charge(self, tier: Tier, cost: int) -> None:
        self.ahead = max(0, self.ahead + (cost * (BULK_FLOOR - 1) if tier is Tier.BULK else -cost))


class FairQueue:
    """Queue of tickets, taken out in fair order."""

    def __init__(self) -> None:
        self._rounds = {tier: _Round() for tier in Tier}
        self._floor = _Floor()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, ticket: QueueEntry) -> None:
        """Queue ``ticket`` behind earlier ones of its principal; an urgent one goes before those not urgent.

        Raises:
            ValueError: If the ticket's weight is not above zero.
        """
        self._rounds[ticket.tier].push(ticket)
        self._size += 1

    def pop(self, *, bulk: bool = True) -> QueueEntry | None:
        """Take the ticket whose turn it is; None if no ticket may go.

        The caller must call :meth:`settle` when the ticket's work is done.

        Args:
            bulk: Whether bulk work may go.
        """
        interactive = bool(self._rounds[Tier.INTERACTIVE])
        bulk = bulk and bool(self._rounds[Tier.BULK])
        if not interactive and not bulk:
            return None
        contended = interactive and bulk
        tier = Tier.BULK if bulk and (not interactive or self._floor.due) else Tier.INTERACTIVE
        ticket = self._rounds[tier].pop()
        self._size -= 1
        if contended:
            self._floor.took(tier)
            self._floor.charge(tier, ticket.charged)
            ticket.contended = True
        return ticket

    def remove(self, ticket: QueueEntry) -> bool:
        """Remove a queued ticket; returns False if the ticket is not queued."""
        removed = self._rounds[ticket.tier].remove(ticket)
        self._size -= removed
        return removed

    def settle(self, ticket: QueueEntry, cost: int | None = None) -> None:
        """Note that the work of a ticket is done; call it once for each ticket taken.

        Args:
            ticket: Ticket taken by :meth:`pop`.
            cost: Bytes the work really took; None if unknown, 0 if the work was not done.

        Raises:
            KeyError: If no ticket of the tenant is running.
        """
        correction = 0
        if cost is not None:
            correction = (max(cost, LEAST_COST) if cost else 0) - ticket.charged
        ticket.charged += correction
        if ticket.contended:
            self._floor.charge(ticket.tier, correction)
        self._rounds[ticket.tier].charge(ticket, correction)

    def tenants(self, tier: Tier) -> int:
        """Return the number of tenants with work of ``tier`` queued."""
        return len(self._rounds[tier])

    def queued(self, tier: Tier) -> Iterator[tuple[str, Queued]]:
        """Yield each tenant with work of ``tier`` queued, and its queued work."""
        for flow, tenant in self._rounds[tier].tenants.items():
            if tenant.queued.quanta:
                yield flow, tenant.queued

    def largest_deficit(self, tier: Tier) -> int:
        """Return the bytes between the waiting tenants served least and most, at weight 1."""
        return self._rounds[tier].turns.spread

"""Who has some of what there is, who waits for it, and whose turn it is. Pure: decisions, no waiting.

Used for the slots of a tier, in which principals take turns, and for the memory of the process, in which
tenants do.
"""

from __future__ import annotations

from collections import deque

import attrs

from strata.tenants.limits.retry_after import Drain


@attrs.define(eq=False)
class Claim:
    """One wish for a part of what there is.

    Attributes:
        size: How much.
        keys: Who wants it; any one's turn will do.
        holder: Whose turn it was, once it is held.
        waiting: It is in the queue.
        first: For whom it goes before those who were promised nothing.
    """

    size: int = 1
    keys: list[str] = attrs.field(factory=list)
    holder: str | None = None
    waiting: bool = False
    first: str | None = None


class FairShares:
    """Round robin over keys; within a key, first come, first served.

    A ticket that does not fit holds up those behind it until it does, so nothing is too large to have its
    turn; one whose key has as much as it may holds up only its own.

    Args:
        total: How much there is.
        most: How much one key may hold; 0 for no such bound.
        spare: A key that holds something may not hold more than ``spare`` times what it leaves; 0 for no such
            bound. However much one key wants, the others find a part: so do ``n`` of them together.
    """

    def __init__(self, total: int, *, most: int = 0, spare: float = 0.0) -> None:
        self.total = total
        self.most = most
        self.spare = spare
        self.used = 0
        self.waiting = 0
        self.drain = Drain()
        self._held: dict[str, int] = {}
        self._first: list[Claim] = []
        self._queues: dict[str, deque[Claim]] = {}

    def __repr__(self) -> str:
        return f"<FairShares {self.used}/{self.total}, {self.waiting} waiting>"

    @property
    def keys(self) -> int:
        """How many keys are remembered: those that hold something or wait."""
        return len(self._held.keys() | self._queues.keys() | {ticket.first for ticket in self._first})

    def held(self, key: str) -> int:
        """Return how much a key holds."""
        return self._held.get(key, 0)

    def capped(self, key: str, size: int = 1) -> bool:
        """Whether a key holds as much as it may, whatever is free."""
        own = self.held(key)
        if not own:
            return False
        if self.most and own + size > self.most:
            return True
        return bool(self.spare) and own + size > self.spare * (self.total - self.used - size)

    def enter(self, ticket: Claim, key: str, *, first: bool = False) -> list[Claim]:
        """Queue a ticket, for one key or for one more; returns those that are held from now on.

        Args:
            ticket: The ticket.
            key: Who wants it.
            first: Whether it goes before all that are not: it was promised.
        """
        if ticket.holder is not None or key in ticket.keys:
            return []
        if not ticket.waiting:
            ticket.waiting = True
            self.waiting += 1
        ticket.keys.append(key)
        if first:
            ticket.first = key
            self._first.append(ticket)
        else:
            self._queues.setdefault(key, deque()).append(ticket)
        return self._admit()

    def leave(self, ticket: Claim, now: float) -> list[Claim]:
        """Give back what a ticket holds, or its place in the queue; harmless when repeated.

        Returns those that are held from now on.
        """
        if ticket.holder is not None:
            self.drain.note(now, ticket.holder)
            self.used -= ticket.size
            self._held[ticket.holder] -= ticket.size
            if not self._held[ticket.holder]:
                del self._held[ticket.holder]
            ticket.holder = None
        elif ticket.waiting:
            self._dequeue(ticket)
        else:
            return []
        return self._admit()

    def resize(self, total: int, most: int = 0) -> list[Claim]:
        """Change how much there is; what is held stays so, and drains where it is too much."""
        self.total, self.most = total, most
        return self._admit()

    def wait_of(self, key: str, now: float) -> tuple[float, float] | None:
        """Return in how many seconds one more ticket of ``key`` would have its turn, at the present pace.

        The second number is how many seconds lie between two turns. None if nothing came free lately.
        """
        own = len(self._queues.get(key, ()))
        if self.capped(key):
            interval = self.drain.interval(now, key)
            ahead = own + 1
        else:
            interval = self.drain.interval(now)
            others = (len(queue) for other, queue in self._queues.items() if other != key)
            ahead = (
                own
                + 1
                + len(self._first)
                + sum(min(length, own + 1) for length in others)
                + self.used
                - self.total
            )
        return None if interval is None else (max(1, ahead) * interval, interval)

    def _admit(self) -> list[Claim]:
        admitted = []
        while (found := self._next()) is not None:
            ticket, key = found
            self._dequeue(ticket)
            ticket.holder = key
            self.used += ticket.size
            self._held[key] = self.held(key) + ticket.size
            if key in self._queues:
                self._queues[key] = self._queues.pop(key)
            admitted.append(ticket)
        return admitted

    def _next(self) -> tuple[Claim, str] | None:
        first = [(ticket.first, ticket) for ticket in self._first if ticket.first is not None]
        for key, ticket in (*first, *((key, queue[0]) for key, queue in self._queues.items())):
            if self.capped(key, ticket.size):
                continue
            fits = not self.used or self.used + ticket.size <= self.total
            return (ticket, key) if fits else None
        return None

    def _dequeue(self, ticket: Claim) -> None:
        ticket.waiting = False
        self.waiting -= 1
        if ticket.first is not None:
            self._first.remove(ticket)
        for key in ticket.keys:
            if key == ticket.first:
                continue
            queue = self._queues[key]
            queue.remove(ticket)
            if not queue:
                del self._queues[key]

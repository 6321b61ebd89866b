"""Fair shares of a bounded quantity: who holds what, who waits, and whose turn it is. Pure: no waiting here.

Used for the slots of a tier, shared by principals, and for the memory of the process, shared by tenants.
"""

from __future__ import annotations

from collections import deque

import attrs

from strata.tenants.limits.retry_after import RetryAfterEstimator


@attrs.define(eq=False)
class Claim:
    """One request for a part of the quantity.

    Attributes:
        size: How much.
        keys: On whose behalf; the claim is granted when it is any one key's turn.
        holder: The key whose turn it was, while the claim is held.
        waiting: The claim is in the queue.
        first: The key to which the place was promised: the claim goes before those without a promise.
    """

    size: int = 1
    keys: list[str] = attrs.field(factory=list)
    holder: str | None = None
    waiting: bool = False
    first: str | None = None


class FairShares:
    """Round robin over keys; within a key, first come, first served.

    A claim that does not fit holds up those behind it until it does, so the largest gets its turn; a claim
    whose key holds as much as it may holds up only that key's own.

    Args:
        total: The quantity.
        most: Most that one key may hold; 0 for no such bound.
        spare: A key that holds something may not hold more than ``spare`` times what is left, so that ``n``
            keys together leave a part to the others, however much each wants; 0 for no such bound.
        estimator: Is told of what is given back.
    """

    def __init__(
        self, total: int, *, most: int = 0, spare: float = 0.0, estimator: RetryAfterEstimator | None = None
    ) -> None:
        self.total = total
        self.most = most
        self.spare = spare
        self.used = 0
        self.waiting = 0
        self.estimator = RetryAfterEstimator() if estimator is None else estimator
        self._held: dict[str, int] = {}
        self._first: list[Claim] = []
        self._queues: dict[str, deque[Claim]] = {}

    def __repr__(self) -> str:
        return f"<FairShares {self.used}/{self.total}, {self.waiting} waiting>"

    @property
    def keys(self) -> int:
        """The number of keys that hold something or wait."""
        return len(self._held.keys() | self._queues.keys() | {claim.first for claim in self._first})

    def held(self, key: str) -> int:
        """Return how much a key holds."""
        return self._held.get(key, 0)

    def capped(self, key: str, size: int = 1) -> bool:
        """Whether a key may hold no ``size`` more, even if that is free."""
        own = self.held(key)
        if not own:
            return False
        if self.most and own + size > self.most:
            return True
        return bool(self.spare) and own + size > self.spare * (self.total - self.used - size)

    def enter(self, claim: Claim, key: str, *, first: bool = False) -> list[Claim]:
        """Queue a claim on behalf of one key, or of one more; harmless when it is held.

        Args:
            claim: The claim.
            key: On whose behalf.
            first: Whether the place was promised: the claim goes before all those without a promise.

        Returns:
            The claims that are held from now on.
        """
        if claim.holder is not None or key in claim.keys:
            return []
        if not claim.waiting:
            claim.waiting = True
            self.waiting += 1
        claim.keys.append(key)
        if first:
            claim.first = key
            self._first.append(claim)
        else:
            self._queues.setdefault(key, deque()).append(claim)
        return self._admit()

    def leave(self, claim: Claim, now: float) -> list[Claim]:
        """Give back what a claim holds, or its place in the queue; harmless when repeated.

        Returns:
            The claims that are held from now on.
        """
        if claim.holder is not None:
            self.estimator.released(now, claim.holder)
            self.used -= claim.size
            self._held[claim.holder] -= claim.size
            if not self._held[claim.holder]:
                del self._held[claim.holder]
            claim.holder = None
        elif claim.waiting:
            self._dequeue(claim)
        else:
            return []
        return self._admit()

    def resize(self, total: int, most: int = 0) -> list[Claim]:
        """Change the quantity; claims keep what they hold, even if that is too much now.

        Returns:
            The claims that are held from now on.
        """
        self.total, self.most = total, most
        return self._admit()

    def wait_of(self, key: str, now: float) -> tuple[float, float] | None:
        """Estimate the wait of one more claim of ``key`` from the pace of the last minute.

        Returns:
            Seconds until its turn, and seconds between two turns; None if nothing was given back lately.
        """
        own = len(self._queues.get(key, ()))
        if self.capped(key):
            interval = self.estimator.interval(now, key)
            ahead = own + 1
        else:
            interval = self.estimator.interval(now)
            others = (len(queue) for other, queue in self._queues.items() if other != key)
            turns = own + 1 + len(self._first) + sum(min(length, own + 1) for length in others)
            ahead = turns + self.used - self.total
        return None if interval is None else (max(1, ahead) * interval, interval)

    def _admit(self) -> list[Claim]:
        admitted = []
        while (found := self._next()) is not None:
            claim, key = found
            self._dequeue(claim)
            claim.holder = key
            self.used += claim.size
            self._held[key] = self.held(key) + claim.size
            if key in self._queues:
                self._queues[key] = self._queues.pop(key)
            admitted.append(claim)
        return admitted

    def _next(self) -> tuple[Claim, str] | None:
        first = [(claim.first, claim) for claim in self._first if claim.first is not None]
        for key, claim in (*first, *((key, queue[0]) for key, queue in self._queues.items())):
            if self.capped(key, claim.size):
                continue
            fits = not self.used or self.used + claim.size <= self.total
            return (claim, key) if fits else None
        return None

    def _dequeue(self, claim: Claim) -> None:
        claim.waiting = False
        self.waiting -= 1
        if claim.first is not None:
            self._first.remove(claim)
        for key in claim.keys:
            if key == claim.first:
                continue
            queue = self._queues[key]
            queue.remove(claim)
            if not queue:
                del self._queues[key]

"""Measure how fairly the pool was shared. Pure: the caller gives the time."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable

WINDOW_SECONDS = 60.0
"""Seconds of the past that the figures cover; older work does not count."""

BUCKETS = 12
"""Parts of the window; the oldest is dropped as a whole."""


def jain_index(values: Iterable[float]) -> float:
    """Return Jain's fairness index of shares: 1 if all are equal, 1/n if one of n has everything.

    After Jain, Chiu and Hawe (DEC-TR-301, 1984). Without any share, or with zeros only, the index is 1. An
    index below 1 is no fault in itself: a tenant may have wanted less.
    """
    found = list(values)
    squares = math.fsum(value * value for value in found)
    if not squares:
        return 1.0
    return math.fsum(found) ** 2 / (len(found) * squares)


class Served:
    """Sum amounts by key over a sliding window of :data:`WINDOW_SECONDS`, exact to one of :data:`BUCKETS`."""

    def __init__(self) -> None:
        self._width = WINDOW_SECONDS / BUCKETS
        self._buckets: deque[tuple[int, Counter[str]]] = deque()

    def add(self, key: str, amount: int, now: float) -> None:
        """Add ``amount`` to ``key``; ``now`` is in seconds and must not go back between calls."""
        number = math.floor(now / self._width)
        if not self._buckets or self._buckets[-1][0] != number:
            self._forget(number)
            self._buckets.append((number, Counter()))
        self._buckets[-1][1][key] += amount

    def totals(self, now: float) -> Counter[str]:
        """Return the sum of each key within the window."""
        self._forget(math.floor(now / self._width))
        total: Counter[str] = Counter()
        for _, bucket in self._buckets:
            total.update(bucket)
        return total

    def _forget(self, number: int) -> None:
        while self._buckets and self._buckets[0][0] <= number - BUCKETS:
            self._buckets.popleft()

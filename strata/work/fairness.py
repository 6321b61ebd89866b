"""Figures that say how fairly the pool was shared. Pure: whoever asks says what time it is."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable

WINDOW_SECONDS = 60.0
"""How far back the figures look."""

BUCKETS = 12
"""Pieces of the window; one is forgotten at a time."""


def jain_index(values: Iterable[float]) -> float:
    """Return Jain's fairness index of what each got: 1 when all got the same, 1/n when one of n got all.

    After Jain, Chiu and Hawe (DEC-TR-301, 1984). Nothing at all is shared fairly: 1. An index below 1 is no
    fault in itself: somebody may have wanted less.
    """
    found = list(values)
    squares = math.fsum(value * value for value in found)
    if not squares:
        return 1.0
    return math.fsum(found) ** 2 / (len(found) * squares)


class Served:
    """What each of many got in the last :data:`WINDOW_SECONDS`, to within one of :data:`BUCKETS`."""

    def __init__(self) -> None:
        self._width = WINDOW_SECONDS / BUCKETS
        self._buckets: deque[tuple[int, Counter[str]]] = deque()

    def add(self, key: str, amount: int, now: float) -> None:
        """Note that ``key`` got ``amount``; ``now`` in seconds, never before an earlier call's."""
        number = math.floor(now / self._width)
        if not self._buckets or self._buckets[-1][0] != number:
            self._forget(number)
            self._buckets.append((number, Counter()))
        self._buckets[-1][1][key] += amount

    def totals(self, now: float) -> Counter[str]:
        """Return what each got within the window."""
        self._forget(math.floor(now / self._width))
        total: Counter[str] = Counter()
        for _, bucket in self._buckets:
            total.update(bucket)
        return total

    def _forget(self, number: int) -> None:
        while self._buckets and self._buckets[0][0] <= number - BUCKETS:
            self._buckets.popleft()

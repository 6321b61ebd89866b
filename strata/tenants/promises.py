"""When to come back: how long the refused are asked to wait, so that coming back is worth it. Pure."""

from __future__ import annotations

import math
from collections import deque

MOST_SECONDS = 300
"""Longest wait anybody is asked for, but for budgets of a day."""

THINNEST = 20
"""Of the places that come free while many were refused, one in so many is promised to one of them.

Whoever was not refused goes on asking, too. If the refused come back at a twentieth of the rate at which
places come free, then no more than one in twenty of all who ask can be refused in the long run.
"""

DRAIN_RELEASES = 32
DRAIN_SECONDS = 60.0


class Promises:
    """Spreads those who were refused over the time to come."""

    def __init__(self) -> None:
        self._last = 0.0

    def seconds(self, now: float, need: float, interval: float) -> int:
        """Return how many seconds to ask for; at least 1, at most :data:`MOST_SECONDS` or ``need``.

        Args:
            now: Seconds of a monotonic clock.
            need: Seconds until there is a place for one more.
            interval: Seconds from one place to the next.
        """
        due = now + need
        if self._last > now:
            due = max(due, self._last + interval * THINNEST)
        self._last = due = min(due, now + max(need, MOST_SECONDS))
        return max(1, math.ceil(due - now))


class Drain:
    """How fast something came free lately."""

    def __init__(self) -> None:
        self._releases: deque[tuple[float, str]] = deque(maxlen=DRAIN_RELEASES)

    def note(self, now: float, key: str) -> None:
        """Note that ``key`` gave something back."""
        self._releases.append((now, key))

    def interval(self, now: float, key: str | None = None) -> float | None:
        """Return the seconds between two releases, of everybody or of ``key``; None if there were none."""
        times = [then for then, whose in self._releases if key is None or whose == key]
        times = [then for then in times if then >= now - DRAIN_SECONDS]
        return (now - times[0]) / len(times) if times else None

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
    """Spreads those who were refused over the time to come.

    Args:
        thinnest: One in so many places is promised.
    """

    def __init__(self, thinnest: int = THINNEST) -> None:
        self._thinnest = thinnest
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
            due = max(due, self._last + interval * self._thinnest)
        self._last = due = min(due, now + max(need, MOST_SECONDS))
        return max(1, math.ceil(due - now))


KEPT_SECONDS = 30.0
"""How long after its time a promise is kept."""

KEPT_EACH = 64
"""Promises to one principal that are remembered, and the principals to whom there are any."""

KEPT_KEYS = 1024


class Kept:
    """Who was told to come back and when: whoever does so goes before those who were told nothing.

    Since no more than one place in :data:`THINNEST` is promised, those others hardly notice; and asking
    before the time is no use.
    """

    def __init__(self) -> None:
        self._due: dict[str, deque[float]] = {}  # in the order of their latest promises

    def __len__(self) -> int:
        return len(self._due)

    def note(self, key: str, due: float, now: float) -> None:
        """Note that ``key`` was told to come back at ``due``."""
        while self._due and (
            len(self._due) >= KEPT_KEYS or next(iter(self._due.values()))[-1] < now - KEPT_SECONDS
        ):
            del self._due[next(iter(self._due))]
        mine = self._due.pop(key) if key in self._due else deque(maxlen=KEPT_EACH)
        mine.append(due)
        self._due[key] = mine

    def claim(self, key: str, now: float) -> bool:
        """Whether ``key`` was told to come back by now; once for each time it was."""
        due = self._due.get(key)
        while due and due[0] < now - KEPT_SECONDS:
            due.popleft()
        found = bool(due) and due is not None and due[0] <= now
        if found and due is not None:
            due.popleft()
        if due is not None and not due:
            del self._due[key]
        return found


class Drain:
    """How fast something came free lately."""

    def __init__(self) -> None:
        self._releases: deque[tuple[float, str]] | None = None  # an idle tenant's costs nothing

    def note(self, now: float, key: str) -> None:
        """Note that ``key`` gave something back."""
        if self._releases is None:
            self._releases = deque(maxlen=DRAIN_RELEASES)
        self._releases.append((now, key))

    def interval(self, now: float, key: str | None = None) -> float | None:
        """Return the seconds between two releases, of everybody or of ``key``; None if there were none."""
        times = [then for then, whose in self._releases or [] if key is None or whose == key]
        times = [then for then in times if then >= now - DRAIN_SECONDS]
        return (now - times[0]) / len(times) if times else None

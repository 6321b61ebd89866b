"""Refusals that are held up for a moment, so that whoever repeats them without end does so slowly. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 4
"""One connection in so many may be held up: the others are for those who are answered."""


class Tarpit:
    """How many refusals are held up, of whom.

    A tenant may have as many as it leaves room for others: half of them when it is alone. A held refusal is a
    request under way, whose connection makes no room for another; hence the bounds.

    Args:
        most: Refusals at a time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._of: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """How many are held up now."""
        return self._of.total()

    @contextmanager
    def place(self, tenant: str) -> Iterator[bool]:
        """Take a place, if there is one for the tenant; it comes back on the way out."""
        free = self._of[tenant] < self.most - self.held
        if not free:
            yield False
            return
        self._of[tenant] += 1
        try:
            yield True
        finally:
            self._of[tenant] -= 1
            if not self._of[tenant]:
                del self._of[tenant]

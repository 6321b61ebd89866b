"""Refusals that are delayed, so that a client that repeats them without end does so slowly. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 4
"""At most 1/``SHARE`` of the connections may be delayed."""


class Tarpit:
    """The refusals being delayed, by tenant.

    One tenant may hold as many places as are free: half of all when it is alone. A delayed refusal keeps its
    connection; hence the bounds.

    Args:
        most: Most refusals delayed at a time; 0: none is.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._of: Counter[str] = Counter()

    @property
    def held(self) -> int:
        """Refusals being delayed."""
        return self._of.total()

    @contextmanager
    def place(self, tenant: str) -> Iterator[bool]:
        """Take a place for the length of the block; yields whether there was one for the tenant."""
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

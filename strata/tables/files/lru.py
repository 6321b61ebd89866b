"""A cache of parsed files, bounded by their bytes, for all threads of the process."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class WeightedLru(Generic[K, V]):
    """An LRU cache whose caller states each entry's weight. Thread-safe.

    Two threads that miss at once both read the file; entries are immutable, so either one may stay.

    Args:
        budget: Most weight of all entries together.

    Attributes:
        changed: Called with the weight of all entries after each :meth:`put`; None for no call.
        gone: Called under the cache's lock with each value that leaves or is too heavy; None for no call.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self.changed: Callable[[int], None] | None = None
        self.gone: Callable[[V], None] | None = None
        self._entries: LRUCache[K, tuple[V, int]] = LRUCache(math.inf, getsizeof=itemgetter(1))
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<WeightedLru {len(self._entries)} entries, {self.weight} of {self._budget}>"

    @property
    def budget(self) -> int:
        """Most weight of all entries together."""
        return self._budget

    @property
    def weight(self) -> int:
        """Weight of all entries together."""
        return int(self._entries.currsize)

    def get(self, key: K) -> V | None:
        """Return the entry and mark it as used, or None."""
        with self._lock:
            entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep ``value`` in place of the least recently used entries beyond the budget.

        A value heavier than the whole budget is not kept, and no other entry leaves for it.
        """
        with self._lock:
            self._put(key, value, weight)
        if self.changed is not None:
            self.changed(self.weight)

    def reweigh(self, key: K, weight: int) -> None:
        """Change the weight of an entry, which may make it or others leave; an absent one is ignored."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._put(key, entry[0], weight)

    def resize(self, budget: int) -> None:
        """Change the budget; the least recently used entries beyond it leave."""
        with self._lock:
            self._budget = budget
            self._fit(budget)

    def _put(self, key: K, value: V, weight: int) -> None:
        before = self._entries.pop(key, None)
        if weight <= self._budget:
            self._fit(self._budget - weight)
            self._entries[key] = (value, weight)
        elif self.gone is not None:
            self.gone(value)
        if before is not None and before[0] is not value and self.gone is not None:
            self.gone(before[0])

    def _fit(self, budget: int) -> None:
        while self._entries.currsize > budget:
            _, (value, _weight) = self._entries.popitem()
            if self.gone is not None:
                self.gone(value)

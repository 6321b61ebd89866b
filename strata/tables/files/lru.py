"""A cache of parsed files, bounded by their bytes, for all threads of the process."""

from __future__ import annotations

import threading
from collections.abc import Hashable
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
    """

    def __init__(self, budget: int) -> None:
        self._entries: LRUCache[K, tuple[V, int]] = LRUCache(budget, getsizeof=itemgetter(1))
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        entries = self._entries
        return f"<WeightedLru {len(entries)} entries, {entries.currsize:g} of {entries.maxsize:g}>"

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
            self._entries.pop(key, None)
            if weight <= self._entries.maxsize:
                self._entries[key] = (value, weight)

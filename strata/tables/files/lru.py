"""A bounded cache of immutable things that are cheaper to keep than to read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class WeightedLru(Generic[K, V]):
    """Least recently used entries leave when the weights pass the budget. Thread-safe.

    An entry heavier than the whole budget is not kept. Two threads that miss at once both read; entries are
    immutable, so whichever stays is right.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<WeightedLru {len(self._entries)} entries, {self._weight} of {self._budget}>"

    @property
    def weight(self) -> int:
        """The weight of all entries; at most the budget."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return the entry and mark it as used."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep ``value``, dropping the least recently used entries beyond the budget."""
        with self._lock:
            _, old = self._entries.pop(key, (None, 0))
            self._weight -= old
            if weight > self._budget:
                return
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._budget:
                _, (_, dropped) = self._entries.popitem(last=False)
                self._weight -= dropped

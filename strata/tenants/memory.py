"""A small least-recently-used map: what an actor remembers so as not to ask again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most ``bound`` values; the one unused for longest goes first."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value and mark it as used, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: K, value: V) -> None:
        """Remember ``value``."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._bound:
            self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget ``key``, if it is there."""
        self._values.pop(key, None)

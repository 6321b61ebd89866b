"""A small least-recently-used map: what an actor remembers so as not to ask again."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most ``bound`` values; the one unused for longest goes first."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._values: dict[K, V] = {}  # in the order of use; an ordered one is five times as large when empty

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value and mark it as used, or None."""
        if key not in self._values:
            return None
        value = self._values[key] = self._values.pop(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Remember ``value``."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._bound:
            del self._values[next(iter(self._values))]

    def drop(self, key: K) -> None:
        """Forget ``key``, if it is there."""
        self._values.pop(key, None)

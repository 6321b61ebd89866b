"""Bound the bytes that tenants' actors keep in memory for later requests, of each cache and of all."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SLACK = 16
"""Once all caches together are full, 1/``SLACK`` of their bytes is freed, so that the next entries fit."""


class RememberedBudget:
    """The bytes of the caches of all tenants.

    When they take too much, the tenant that holds the most loses its least recently used entries: however
    much one tenant asks for, others keep what they have.

    Args:
        total: Bytes of all caches together.

    Attributes:
        total: As above; a smaller one takes effect with the next entry of any cache.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._caches: weakref.WeakSet[TenantCache[Any, Any]] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<RememberedBudget {self.used}/{self.total}>"

    @property
    def used(self) -> int:
        """Bytes of all caches; an actor's go with it."""
        return sum(cache.weight for cache in self._caches)

    def enter(self, cache: TenantCache[Any, Any]) -> None:
        """Count a cache from now on."""
        self._caches.add(cache)

    def added(self, nbytes: int) -> None:
        """Note that a cache grew, and free memory if all together take too much."""
        self._used += nbytes  # an upper bound, for caches that are gone are still in it
        if self._used > self.total:
            self._used = self.used
            if self._used > self.total:
                self._free(self._used - self.total + self.total // SLACK)
                self._used = self.used

    def _free(self, nbytes: int) -> None:
        """Free ``nbytes``, of the tenant that holds the most at each time."""
        while nbytes > 0:
            held: dict[str, int] = {}
            for cache in self._caches:
                held[cache.tenant] = held.get(cache.tenant, 0) + cache.weight
            most = max(held, key=held.__getitem__, default=None)
            if most is None or not held[most]:
                return
            second = max((size for tenant, size in held.items() if tenant != most), default=0)
            enough = min(nbytes, held[most] - second + 1)
            nbytes -= self._free_of(most, max(enough, held[most] // SLACK))

    def _free_of(self, tenant: str, nbytes: int) -> int:
        own = [cache for cache in self._caches if cache.tenant == tenant]
        freed = 0
        while freed < nbytes:
            largest = max(own, key=lambda cache: cache.weight)
            if not len(largest):
                break
            freed += largest.drop_oldest()
        return freed


class TenantCache(Generic[K, V]):
    """One cache of a tenant's actor, bounded by the weight of its entries. An unused one holds no container.

    Args:
        budget: Bounds all tenants' caches together.
        tenant: The tenant.
        nbytes: Most bytes of this cache; the least recently used entry goes, and a heavier entry is not kept.
        weigh: Returns an entry's bytes of memory, from its value.
    """

    __slots__ = ("__weakref__", "_budget", "_entries", "_nbytes", "_weigh", "tenant")

    def __init__(self, budget: RememberedBudget, tenant: str, nbytes: int, weigh: Callable[[V], int]) -> None:
        self.tenant = tenant
        self._budget = budget
        self._nbytes = nbytes
        self._weigh = weigh
        self._entries: LRUCache[K, V] | None = None

    def __repr__(self) -> str:
        return f"<TenantCache of {self.tenant}, {len(self)} entries, {self.weight} of {self._nbytes} bytes>"

    def __len__(self) -> int:
        return 0 if self._entries is None else len(self._entries)

    def __iter__(self) -> Iterator[K]:
        return iter(()) if self._entries is None else iter(self._entries)

    @property
    def weight(self) -> int:
        """Bytes of all entries."""
        return 0 if self._entries is None else int(self._entries.currsize)

    def get(self, key: K) -> V | None:
        """Return the value and mark it as used, or None."""
        return None if self._entries is None else self._entries.get(key)

    def __setitem__(self, key: K, value: V) -> None:
        if self._weigh(value) > self._nbytes:
            self.pop(key)
            return
        if self._entries is None:
            self._entries = LRUCache(self._nbytes, getsizeof=self._weigh)
            self._budget.enter(self)
        before = self.weight
        self._entries[key] = value
        if self.weight > before:
            self._budget.added(self.weight - before)

    def __delitem__(self, key: K) -> None:
        if self._entries is None:
            raise KeyError(key)
        del self._entries[key]

    def pop(self, key: K) -> V | None:
        """Remove an entry and return its value, or None."""
        return None if self._entries is None else self._entries.pop(key, None)

    def drop_oldest(self) -> int:
        """Remove the least recently used entry; returns its bytes, 0 if there is none."""
        before = self.weight
        if self._entries:
            self._entries.popitem()
        return before - self.weight

    def clear(self) -> None:
        """Remove all entries."""
        self._entries = None

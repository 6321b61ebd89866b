"""Divide one total of cache bytes between tenants by need, with a guaranteed part for active tenants.

Pure state without I/O. A tenant is granted all it claims while there are free bytes. Then other tenants are
cut in this order:

1. tenants that are not live (their shard is not open, their bytes remain on disk), least recently used first;
2. live tenants beyond the number that the guarantee covers (total / guarantee), least recently used first;
3. the live tenant with most bytes, down to the largest of: half of its and the claimant's bytes together, an
   equal share, and the guarantee.

So a tenant over its share is cut before one within it, and a tenant that claims more than the total gets no
further than an equal share, where its new bytes replace its own. Bytes granted to live tenants plus bytes of
the others never exceed the total; bytes on disk may, by files that are being removed.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

import attrs


@attrs.frozen
class Cuts:
    """Tenants that must shrink, and the bytes each may keep.

    Attributes:
        live: Bytes granted by live tenant.
        gone: Bytes left on disk by tenant that is not live.
    """

    live: dict[str, int] = attrs.field(factory=dict)
    gone: dict[str, int] = attrs.field(factory=dict)


class _SizeQueue:
    """Priority queue of keys by size, smallest first; all operations in logarithmic time.

    Outdated heap entries are skipped, and removed when they are the majority.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def put(self, key: str, size: int) -> None:
        if self.sizes.get(key) != size:
            self.sizes[key] = size
            heapq.heappush(self._heap, (size, key))
        if len(self._heap) > 2 * len(self.sizes) + 16:
            self._heap = [(size, key) for key, size in self.sizes.items()]
            heapq.heapify(self._heap)

    def drop(self, key: str) -> None:
        self.sizes.pop(key, None)

    def least(self) -> str | None:
        while self._heap:
            size, key = self._heap[0]
            if self.sizes.get(key) == size:
                return key
            heapq.heappop(self._heap)
        return None


class CacheBudget:
    """Bytes of cache by tenant; the key of a tenant is the name of its directory.

    Args:
        total: Bytes for all tenants.
        guarantee: Bytes that an active tenant never loses to others; at most ``total``.
    """

    def __init__(self, total: int, guarantee: int) -> None:
        self.total = total
        self.guarantee = min(guarantee, total)
        self._live: set[str] = set()
        self._granted: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._largest = _SizeQueue()  # negated sizes of _granted
        self._gone: dict[str, int] = {}
        self._oldest = _SizeQueue()  # times of last use of _gone
        self._held = 0

    def __repr__(self) -> str:
        live, gone = len(self._live), len(self._gone)
        return f"<CacheBudget {self._held}/{self.total} bytes, {live} live, {gone} gone>"

    @property
    def held(self) -> int:
        """Bytes granted to live tenants plus bytes of tenants that are not live."""
        return self._held

    @property
    def guaranteed(self) -> int:
        """Number of tenants to which the guarantee can be given at once."""
        return max(1, self.total // self.guarantee) if self.guarantee else len(self._live)

    def granted(self, key: str) -> int:
        """Return the bytes granted to a tenant; 0 if it is not live."""
        return self._granted.get(key, 0)

    def share(self, key: str) -> int:
        """Return what a live tenant can count on: the most of its grant, an equal share and the guarantee."""
        others = len(self._granted) - (key in self._granted)
        return max(self.granted(key), self.total // (others + 1), self.guarantee)

    def enter(self, key: str) -> None:
        """Mark a tenant as live; its bytes on disk become its grant."""
        if key not in self._live:
            self._live.add(key)
            nbytes = self._gone.pop(key, 0)
            self._oldest.drop(key)
            self._held -= nbytes
            self._set(key, nbytes)

    def touch(self, key: str) -> None:
        """Mark a live tenant as the most recently used."""
        if key in self._granted:
            self._granted.move_to_end(key)

    def claim(self, key: str, wanted: int) -> Cuts:
        """Grant a live tenant up to ``wanted`` bytes; returns the tenants that must shrink for it.

        :meth:`granted` tells the result, which is never less than before.
        """
        cuts = Cuts()
        wanted = min(wanted, self.total)
        if key not in self._live or wanted <= self.granted(key):
            return cuts
        self.touch(key)
        self._take_gone(wanted - self.granted(key), cuts)
        self._take_idle(key, wanted, cuts)
        self._take_largest(key, wanted, cuts)
        self._set(key, min(wanted, self.granted(key) + self.total - self._held))
        return cuts

    def release(self, key: str, to: int) -> None:
        """Reduce a live tenant's grant to ``to`` bytes; a larger ``to`` has no effect."""
        if to < self.granted(key):
            self._set(key, to)

    def leave(self, key: str, nbytes: int, moment: int) -> Cuts:
        """Mark a tenant as no longer live, with ``nbytes`` on disk; returns the tenants that must shrink.

        Args:
            key: The tenant.
            nbytes: Bytes on disk.
            moment: Time of its last use, in nanoseconds since the epoch.
        """
        self._set(key, 0)
        self._live.discard(key)
        return self.found(key, nbytes, moment)

    def found(self, key: str, nbytes: int, moment: int) -> Cuts:
        """Note ``nbytes`` on disk of a tenant that is not live; returns the tenants that must shrink.

        Args:
            key: The tenant; ignored if it is live.
            nbytes: Bytes on disk.
            moment: Time of its last use, in nanoseconds since the epoch.
        """
        cuts = Cuts()
        if key in self._live:
            return cuts  # live again meanwhile: the grant counts
        self._held += nbytes - self._gone.pop(key, 0)
        self._oldest.drop(key)
        if nbytes:
            self._gone[key] = nbytes
            self._oldest.put(key, moment)
        self._take_gone(0, cuts)
        return cuts

    def shrunk(self, key: str, nbytes: int) -> None:
        """Reduce the bytes of a tenant that is not live to ``nbytes``, the bytes left after a cut."""
        if nbytes < self._gone.get(key, 0):
            self._held += nbytes - self._gone[key]
            self._gone[key] = nbytes
            if not nbytes:
                del self._gone[key]
                self._oldest.drop(key)

    def _shortfall(self, more: int) -> int:
        """Return the bytes to free before ``more`` can be granted; not positive if there are enough."""
        return self._held + more - self.total

    def _take_gone(self, more: int, cuts: Cuts) -> None:
        while (short := self._shortfall(more)) > 0 and (oldest := self._oldest.least()) is not None:
            left = max(0, self._gone[oldest] - short)
            self._held -= self._gone[oldest] - left
            cuts.gone[oldest] = left
            if left:
                self._gone[oldest] = left
            else:
                del self._gone[oldest]
                self._oldest.drop(oldest)

    def _take_idle(self, key: str, wanted: int, cuts: Cuts) -> None:
        while len(self._granted) + (key not in self._granted) > self.guaranteed:
            short, idle = self._shortfall(wanted - self.granted(key)), next(iter(self._granted))
            if short <= 0 or idle == key:
                return
            self._cut(idle, max(0, self._granted[idle] - short), cuts)

    def _take_largest(self, key: str, wanted: int, cuts: Cuts) -> None:
        while (short := self._shortfall(wanted - self.granted(key))) > 0:
            largest = self._largest.least()
            if largest is None or largest == key:
                return
            have = self._granted[largest]
            most = self.granted(key) + self.total - self._held  # including the free bytes
            equal = self.total // (len(self._granted) + (key not in self._granted))
            floor = max(self.guarantee, equal, (have + most + 1) // 2)
            nearly_equal = most >= self.guarantee and have - floor < min(short, self.total >> 10)
            if have <= floor or nearly_equal:
                return
            self._cut(largest, max(floor, have - short), cuts)

    def _cut(self, key: str, to: int, cuts: Cuts) -> None:
        self._set(key, to)
        cuts.live[key] = to

    def _set(self, key: str, nbytes: int) -> None:
        self._held += nbytes - self.granted(key)
        if nbytes:
            self._granted[key] = nbytes
            self._largest.put(key, -nbytes)
        else:
            self._granted.pop(key, None)
            self._largest.drop(key)

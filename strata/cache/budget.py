"""Whose bytes of cache stay: one total shared by need, with a guaranteed part for whoever is active.

Pure state without I/O. A tenant may have as much as it needs while there is room. When there is none, room is
made for it in this order:

1. by tenants that are not live: their bytes are on disk from earlier, the longest unused go first;
2. by live tenants beyond those the guarantee can be given to (the total divided by the guarantee), the
   longest unused first: who is idle makes room for who is not;
3. by the tenant that has most, as long as that is more than whoever asks would then have, more than an equal
   share and more than the guarantee.

So a tenant over its share gives before one within it, and one that scans more than there is gets no further
than to an equal share: from there on its new bytes replace its own. What live tenants may have and the others
do have is never more than the total; on disk it may be more by what is just being removed.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

import attrs


@attrs.frozen
class Cuts:
    """Who has to make room, and the bytes each may keep.

    Attributes:
        live: Live tenants.
        gone: Tenants that are not live.
    """

    live: dict[str, int] = attrs.field(factory=dict)
    gone: dict[str, int] = attrs.field(factory=dict)


class _Sizes:
    """Keys by size, the largest or the smallest at hand; in logarithmic time.

    Entries of the heap that are no longer true are skipped, and swept out when they are the majority.
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
    """Bytes of cache by key, a key being a tenant's directory.

    Args:
        total: Bytes for all.
        guarantee: Bytes that an active tenant never loses to others.
    """

    def __init__(self, total: int, guarantee: int) -> None:
        self.total = total
        self.guarantee = min(guarantee, total)
        self._live: set[str] = set()
        self._granted: OrderedDict[str, int] = OrderedDict()  # those that may have any, oldest first
        self._largest = _Sizes()  # of those, by how much is granted, negated
        self._gone: dict[str, int] = {}
        self._oldest = _Sizes()  # of those, by when they were last used
        self._held = 0

    def __repr__(self) -> str:
        live, gone = len(self._live), len(self._gone)
        return f"<CacheBudget {self._held}/{self.total} bytes, {live} live, {gone} gone>"

    @property
    def held(self) -> int:
        """Bytes that live tenants may have, and the others do have."""
        return self._held

    @property
    def guaranteed(self) -> int:
        """To how many tenants the guarantee can be given."""
        return max(1, self.total // self.guarantee) if self.guarantee else len(self._live)

    def granted(self, key: str) -> int:
        """Return the bytes a live tenant may have."""
        return self._granted.get(key, 0)

    def share(self, key: str) -> int:
        """Return the bytes a live tenant can count on: an equal share, or what it has if that is more."""
        others = len(self._granted) - (key in self._granted)
        return max(self.granted(key), self.total // (others + 1), self.guarantee)

    def enter(self, key: str) -> None:
        """A tenant becomes live; what it had on disk, it may keep."""
        if key not in self._live:
            self._live.add(key)
            nbytes = self._gone.pop(key, 0)
            self._oldest.drop(key)
            self._held -= nbytes
            self._set(key, nbytes)

    def touch(self, key: str) -> None:
        """A live tenant is asked something."""
        if key in self._granted:
            self._granted.move_to_end(key)

    def claim(self, key: str, wanted: int) -> Cuts:
        """Let a live tenant have ``wanted`` bytes if that can be; returns who makes room for it.

        :meth:`granted` tells what came of it: never less than before.
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
        """A live tenant has only ``to`` bytes and needs no more."""
        if to < self.granted(key):
            self._set(key, to)

    def leave(self, key: str, nbytes: int, moment: int) -> Cuts:
        """A live tenant goes and leaves ``nbytes`` on disk; returns who makes room if that is too much.

        Args:
            key: Whose.
            nbytes: Bytes on disk.
            moment: When it was last used, in nanoseconds since the epoch.
        """
        self._set(key, 0)
        self._live.discard(key)
        return self.found(key, nbytes, moment)

    def found(self, key: str, nbytes: int, moment: int) -> Cuts:
        """A tenant that is not live has ``nbytes`` on disk; returns who makes room if that is too much."""
        cuts = Cuts()
        if key in self._live:
            return cuts  # it has come back meanwhile, and knows better
        self._held += nbytes - self._gone.pop(key, 0)
        self._oldest.drop(key)
        if nbytes:
            self._gone[key] = nbytes
            self._oldest.put(key, moment)
        self._take_gone(0, cuts)
        return cuts

    def shrunk(self, key: str, nbytes: int) -> None:
        """A tenant that is not live has only ``nbytes`` left: packs go whole."""
        if nbytes < self._gone.get(key, 0):
            self._held += nbytes - self._gone[key]
            self._gone[key] = nbytes
            if not nbytes:
                del self._gone[key]
                self._oldest.drop(key)

    def _short(self, more: int) -> int:
        """Bytes to be freed before ``more`` can be granted."""
        return self._held + more - self.total

    def _take_gone(self, more: int, cuts: Cuts) -> None:
        while (short := self._short(more)) > 0 and (oldest := self._oldest.least()) is not None:
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
            short, idle = self._short(wanted - self.granted(key)), next(iter(self._granted))
            if short <= 0 or idle == key:
                return
            self._cut(idle, max(0, self._granted[idle] - short), cuts)

    def _take_largest(self, key: str, wanted: int, cuts: Cuts) -> None:
        while (short := self._short(wanted - self.granted(key))) > 0:
            largest = self._largest.least()
            if largest is None or largest == key:
                return
            have = self._granted[largest]
            most = self.granted(key) + self.total - self._held  # with the room there is already
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

"""One holder at a time of a tenant's bytes of one hash: their commit, or their removal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.define(eq=False)
class _Held:
    lock: trio.Lock = attrs.field(factory=trio.Lock)
    users: int = 0


@attrs.define(eq=False)
class BlobLocks:
    """Locks by prefix and hash, each for as long as it is used.

    Two results with equal bytes share one blob. Without a lock, the removal of one result could find that no
    other has its bytes, and remove them after the other was committed.
    """

    _locks: dict[tuple[str, str], _Held] = attrs.field(factory=dict, init=False)

    @asynccontextmanager
    async def holding(self, prefix: str, sha256: str) -> AsyncIterator[None]:
        """Hold the blob until the end of the block; waits for another holder."""
        key = (prefix, sha256)
        held = self._locks.setdefault(key, _Held())
        held.users += 1
        try:
            async with held.lock:
                yield
        finally:
            held.users -= 1
            if not held.users:
                del self._locks[key]

    def __len__(self) -> int:
        """Return how many blobs are held or waited for."""
        return len(self._locks)

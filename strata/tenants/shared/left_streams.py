"""Streams that an evicted tenant has promised and that were not read: its next actor takes them over."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from cachetools import LRUCache

LEFT_OF_A_TENANT = 100
"""Most streams that one tenant leaves; of more, the newest. The result of a forgotten stream stays ready: the
next request for it is a hit."""

LEFT_OF_ALL = 20_000
"""Most streams left by all tenants, about 10 MB; beyond, those of the tenant that left first go."""


@attrs.frozen
class LeftStream:
    """A promised stream of a finished result.

    Attributes:
        owner: Id of the principal that may read it.
        artifact_id: Id of the result.
        version: Its version.
        expires: When it is forgotten, on Trio's clock.
    """

    owner: str
    artifact_id: str
    version: int
    expires: float

    def left(self) -> LeftStream:
        """Return itself: it is remembered as it is."""
        return self


class LeftStreams:
    """The streams that tenants without an actor have left, by stream id."""

    def __init__(self) -> None:
        self._left: LRUCache[str, dict[str, LeftStream]] = LRUCache(LEFT_OF_ALL, getsizeof=len)

    def __len__(self) -> int:
        return int(self._left.currsize)

    def leave(self, tenant: str, streams: Mapping[str, LeftStream]) -> None:
        """Keep a tenant's streams, in the order they expire; those it left before are forgotten."""
        self._left.pop(tenant, None)
        if streams:
            self._left[tenant] = dict([*streams.items()][-LEFT_OF_A_TENANT:])

    def take(self, tenant: str) -> dict[str, LeftStream]:
        """Return a tenant's streams and forget them."""
        return self._left.pop(tenant, {})

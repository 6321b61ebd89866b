"""The lease of a session: which server owns it, and until when.

A lease is a row of the metadata store, changed by a conditional write. Another server judges it by what it
has seen (:class:`Sightings`): it is over when it was not renewed for its time, by that server's own monotonic
clock, so no clock that is set ends a lease or extends one. Each change of the owner raises its epoch. Two
things keep a session from having two owners that both accept edits:

1. An owner stops by itself before its lease ends: it counts from the moment in which it *sent* the request
   for the lease, on its own monotonic clock, and stops :data:`MARGIN` of the lease's time early. A late grant
   never revives an epoch that it gave up, or in which it was refused.
2. Every event is written with the epoch, and the store refuses an epoch that is not the latest: a server that
   was paused for longer than its lease, or whose clock runs slowly, is refused when it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Final

import attrs
from cachetools import LRUCache

LEASE_SECONDS: Final = 10.0
"""Seconds a lease lasts without renewal; another server may take the session over then."""

LEASES_SEEN: Final = 10_000
"""Leases of others that a server remembers; of one that it forgets, the time begins anew."""

MARGIN: Final = 0.25
"""Part of a lease's time for which its owner does not rely on it: clocks may differ in speed by as much."""


@attrs.frozen
class Lease:
    """A lease.

    Attributes:
        owner: Id of the server that holds it.
        epoch: Number of the owner, from 1; it never falls.
        until: When it ends, on the clock of the one who judges it.
    """

    owner: str
    epoch: int
    until: float


@attrs.frozen
class HeldByOther:
    """The lease is another server's for the next ``seconds``."""

    seconds: float


def take_lease(
    found: Lease | None, server: str, now: float, seconds: float = LEASE_SECONDS
) -> Lease | HeldByOther:
    """Return the lease that a server gets when it asks for one: a renewed one, one taken over, or none.

    Args:
        found: The lease in the store.
        server: The server that asks.
        now: The time on the clock of ``found``.
        seconds: Seconds that a lease lasts.
    """
    until = now + seconds
    if found is None:
        return Lease(server, 1, until)
    if found.owner == server and now < found.until:
        return attrs.evolve(found, until=max(found.until, until))
    if now < found.until:
        return HeldByOther(found.until - now)
    return Lease(server, found.epoch + 1, until)


def give_up_lease(found: Lease | None, server: str, epoch: int, now: float) -> Lease | None:
    """Return the lease after its owner gave it up: it ends now; another server's is left as it is."""
    if found is None or (found.owner, found.epoch) != (server, epoch):
        return found
    return attrs.evolve(found, until=min(found.until, now))


def may_write(found: Lease | None, epoch: int) -> bool:
    """Whether the store takes an event of an epoch: only of the latest one."""
    return found is not None and found.epoch == epoch


class Sightings:
    """What a server has seen of the leases of others, by its own monotonic clock; used by any thread.

    Args:
        seconds: Seconds that a lease lasts.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: LRUCache[tuple[str, str], tuple[Hashable, float]] = LRUCache(LEASES_SEEN)
        self._lock = threading.Lock()

    def until(self, tenant: str, name: str, mark: Hashable, looked: float) -> float:
        """Return when a lease is over that has a mark now: its time after the mark was first seen.

        Args:
            tenant: The tenant.
            name: The notebook.
            mark: What is another one after each renewal.
            looked: When the look at the store began.
        """
        key = tenant, name
        with self._lock:
            known = self._seen.get(key)
            if known is None or known[0] != mark:
                known = self._seen[key] = (mark, looked)
        return known[1] + self._seconds


@attrs.frozen
class Tenure:
    """What a server knows of its lease, on its own clock.

    Attributes:
        epoch: The latest epoch that it has owned; 0: none.
        asked: When the last request that was granted was sent; ``None``: it does not own that epoch any more.
    """

    epoch: int = 0
    asked: float | None = None

    def accepts(self, now: float, seconds: float = LEASE_SECONDS) -> bool:
        """Whether the owner of a lease of some seconds may still accept edits at a time on its own clock."""
        return self.asked is not None and now < self.asked + seconds * (1 - MARGIN)

    def granted(self, epoch: int, asked: float) -> Tenure:
        """Return what is known after a grant of a request sent at ``asked``; a late one changes nothing."""
        if epoch > self.epoch:
            return Tenure(epoch, asked)
        if epoch == self.epoch and self.asked is not None:
            return Tenure(epoch, max(self.asked, asked))
        return self

    def ended(self) -> Tenure:
        """Return what is known after the server gave up, or was refused: it accepts nothing in this epoch."""
        return Tenure(self.epoch)

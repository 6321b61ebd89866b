"""Bound the number of open connections, and choose which one is closed for a new one.

When the table is full, the oldest idle connection whose client never had an identity (a stranger) is closed,
then the known one that has been idle for longest; a connection with a request under way is never closed. So
clients that only connect, or only begin requests, push out connections like their own, and clients with
requests get in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

import attrs
import structlog
import trio

M = TypeVar("M", bound=Hashable)


@attrs.define
class _Spare(Generic[M]):
    """Connections that may be closed; of strangers and of known ones the first to enter goes first."""

    strangers: dict[M, None] = attrs.field(factory=dict)
    known: dict[M, None] = attrs.field(factory=dict)

    def __iter__(self) -> Iterator[M]:
        return chain(self.strangers, self.known)

    def take(self, member: M) -> None:
        self.strangers.pop(member, None)
        self.known.pop(member, None)

    def put(self, member: M, *, known: bool) -> None:
        self.take(member)
        (self.known if known else self.strangers)[member] = None


class ConnectionTable(Generic[M]):
    """Table of open connections; pure bookkeeping, without I/O.

    Args:
        most: Most connections at a time.
        most_per_peer: Most connections of one peer address; 0: unlimited.
    """

    def __init__(self, most: int, most_per_peer: int = 0) -> None:
        self.most = most
        self.most_per_peer = most_per_peer
        self._peers: dict[M, str] = {}
        self._spare: _Spare[M] = _Spare()
        self._of_peer: dict[str, int] = {}
        self._spare_of_peer: dict[str, _Spare[M]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __repr__(self) -> str:
        return f"<ConnectionTable {len(self)}/{self.most}, {self.idle} to spare>"

    @property
    def idle(self) -> int:
        """Number of connections that may be closed."""
        return len(self._spare.strangers) + len(self._spare.known)

    def enter(self, member: M, peer: str) -> tuple[bool, M | None]:
        """Add a connection, as an idle stranger.

        Returns whether the connection is accepted, and the connection to close for it, if any: that one is no
        longer in the table.
        """
        leaver: M | None = None
        if self.most_per_peer and self._of_peer.get(peer, 0) >= self.most_per_peer:
            leaver = next(iter(self._spare_of_peer[peer]), None)
            if leaver is None:
                return False, None
        elif len(self._peers) >= self.most:
            leaver = next(iter(self._spare), None)
            if leaver is None:
                return False, None
        if leaver is not None:
            self.leave(leaver)
        self._peers[member] = peer
        self._of_peer[peer] = self._of_peer.get(peer, 0) + 1
        self._spare_of_peer.setdefault(peer, _Spare())
        self.note(member, idle=True, known=False)
        return True, leaver

    def make_room(self) -> M | None:
        """Remove and return the connection to close when the system lacks resources; None if all are busy."""
        leaver = next(iter(self._spare), None)
        if leaver is not None:
            self.leave(leaver)
        return leaver

    def note(self, member: M, *, idle: bool, known: bool = True) -> None:
        """Note whether a connection may be closed, and whether its client has an identity.

        A connection that is no longer in the table is ignored.
        """
        peer = self._peers.get(member)
        if peer is None:
            return
        for spare in (self._spare, self._spare_of_peer[peer]):
            if idle:
                spare.put(member, known=known)
            else:
                spare.take(member)

    def leave(self, member: M) -> None:
        """Remove a connection; one that is not in the table is ignored."""
        peer = self._peers.pop(member, None)
        if peer is None:
            return
        self._spare.take(member)
        self._spare_of_peer[peer].take(member)
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer], self._spare_of_peer[peer]


PAUSE_SECONDS = 60.0
"""Least seconds between two log lines of closed connections; counts in between go into the next line."""

log = structlog.get_logger(__name__)


class ConnectionCounters:
    """Count closed connections by reason since the server started, and log the counts.

    Attributes:
        counts: Number of connections by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._last = -PAUSE_SECONDS

    def note(self, what: str) -> None:
        """Count a connection closed for ``what``; log all new counts at most every :data:`PAUSE_SECONDS`."""
        self.counts[what] += 1
        if trio.current_time() - self._last >= PAUSE_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Log the counts since the last log line, if there are any."""
        new = self.counts - self._told
        if new:
            log.warning("connections cut", **dict(sorted(new.items())))
            self._told = Counter(self.counts)
            self._last = trio.current_time()

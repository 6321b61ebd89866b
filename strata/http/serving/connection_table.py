"""How many connections there may be, and which one makes room for the next.

A connection without a request costs little and is worth little, and one whose client has never had an
identity is worth least. When there are too many, such a stranger goes first, then the one that has been idle
for longest; one with a request under way never does. So clients that only connect, or only begin requests,
crowd out their own kind, and those which ask come in.
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
    """Members that could go; of each kind, the one to enter first goes first."""

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
    """The connections there are; pure bookkeeping.

    Args:
        most: Connections at a time.
        most_per_peer: The same for one peer address; 0 for no bound of its own.
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
        """Connections that could go."""
        return len(self._spare.strangers) + len(self._spare.known)

    def enter(self, member: M, peer: str) -> tuple[bool, M | None]:
        """Let a connection in, as an idle stranger.

        Returns whether it may stay, and who has to go for it: that one has left already, as far as the crowd
        is concerned.
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
        """Return who has to go when the system has no room for one more, and has left by that; or None."""
        leaver = next(iter(self._spare), None)
        if leaver is not None:
            self.leave(leaver)
        return leaver

    def note(self, member: M, *, idle: bool, known: bool = True) -> None:
        """Note whether a connection could go, and whether its client is known.

        One that has left is not asked back.
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
        """Forget a connection; harmless when repeated."""
        peer = self._peers.pop(member, None)
        if peer is None:
            return
        self._spare.take(member)
        self._spare_of_peer[peer].take(member)
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer], self._spare_of_peer[peer]


PAUSE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class ConnectionCounters:
    """Counts by reason since the server started, and says so now and then.

    Attributes:
        counts: How often each thing happened.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._last = -PAUSE_SECONDS

    def note(self, what: str) -> None:
        """Count ``what``; the first of a minute is logged together with all that was not yet."""
        self.counts[what] += 1
        if trio.current_time() - self._last >= PAUSE_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Log what was counted since the last time, if anything was."""
        new = self.counts - self._told
        if new:
            log.warning("connections cut", **dict(sorted(new.items())))
            self._told = Counter(self.counts)
            self._last = trio.current_time()

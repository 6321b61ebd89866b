"""How many connections there may be, and which one makes room for the next.

A connection without a request costs little and is worth little: when there are too many, the one that has
been idle for longest goes, so that clients which only connect cannot keep out those which ask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

M = TypeVar("M", bound=Hashable)


class Crowd(Generic[M]):
    """The connections there are; pure bookkeeping.

    Args:
        most: Connections at a time.
        most_per_peer: The same for one peer address; 0 for no bound of its own.
    """

    def __init__(self, most: int, most_per_peer: int = 0) -> None:
        self.most = most
        self.most_per_peer = most_per_peer
        self._peers: dict[M, str] = {}
        self._idle: OrderedDict[M, None] = OrderedDict()
        self._of_peer: dict[str, OrderedDict[M, None]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def idle(self) -> int:
        """Connections without a request."""
        return len(self._idle)

    def enter(self, member: M, peer: str) -> tuple[bool, M | None]:
        """Let a connection in, idle.

        Returns whether it may stay, and who has to go for it: that one has left already, as far as the crowd
        is concerned.
        """
        leaver: M | None = None
        own: OrderedDict[M, None] = self._of_peer.get(peer, OrderedDict())
        if self.most_per_peer and len(own) >= self.most_per_peer:
            leaver = next((one for one in own if one in self._idle), None)
            if leaver is None:
                return False, None
        elif len(self._peers) >= self.most:
            leaver = next(iter(self._idle), None)
            if leaver is None:
                return False, None
        if leaver is not None:
            self.leave(leaver)
        self._peers[member] = peer
        self._idle[member] = None
        self._of_peer.setdefault(peer, OrderedDict())[member] = None
        return True, leaver

    def note(self, member: M, *, idle: bool) -> None:
        """Note that a connection got a request, or has answered it. One that has left is not asked back."""
        peer = self._peers.get(member)
        if peer is None:
            return
        if not idle:
            self._idle.pop(member, None)
            return
        self._idle[member] = None
        self._idle.move_to_end(member)
        self._of_peer[peer].move_to_end(member)

    def leave(self, member: M) -> None:
        """Forget a connection; harmless when repeated."""
        peer = self._peers.pop(member, None)
        if peer is None:
            return
        self._idle.pop(member, None)
        own = self._of_peer[peer]
        del own[member]
        if not own:
            del self._of_peer[peer]

"""Failed authentication is limited by peer address: a token bucket each.

Whoever guesses tokens pays in time, and his noise is cheap to answer. It never touches a request that has
proved itself: behind a proxy everybody has the proxy's address, and nobody may be locked out by others'
failures.
"""

from __future__ import annotations

from collections import OrderedDict

PEERS = 10_000
"""Addresses that are remembered. The one not heard of for longest makes room and leaves its bucket to the new
one: whoever commands many addresses gains nothing by their number."""


class FailureLimit:
    """Counts failures; pure, on whatever clock its caller has.

    Args:
        rate: Failures a second that are answered as what they are, in the long run.
        burst: Failures at once.
        peers: Addresses remembered.
    """

    def __init__(self, rate: float, burst: int, peers: int = PEERS) -> None:
        self.rate = rate
        self.burst = burst
        self._most = peers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def fail(self, peer: str, now: float) -> float | None:
        """Note a failure of ``peer`` at ``now`` (seconds of a monotonic clock).

        Returns how many seconds it should wait before it tries again, or ``None`` if it has not failed too
        often.
        """
        found = self._buckets.pop(peer, None)
        if found is None and len(self._buckets) >= self._most:
            _, found = self._buckets.popitem(last=False)
        tokens, then = found or (float(self.burst), now)
        tokens = min(float(self.burst), tokens + (now - then) * self.rate)
        allowed = tokens >= 1.0
        self._buckets[peer] = (tokens - 1.0 if allowed else tokens, now)
        return None if allowed else (1.0 - tokens) / self.rate

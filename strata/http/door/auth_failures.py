"""Failed authentication is limited by peer address: a token bucket each.

Guessing tokens costs time, and refusing a guess is cheap. An authenticated request is never limited here:
behind a proxy all clients have the proxy's address, and one client's failures must not lock out another.
"""

from __future__ import annotations

from cachetools import LRUCache

from strata.auth import IdentityRefused
from strata.http.problems import Problem
from strata.tenants.limits.token_bucket import Rate, TokenBucket

PEERS = 10_000
"""Addresses remembered. A new address takes over the bucket of the least recently seen one: a client with
many addresses gains nothing by their number."""


class FailureLimit:
    """Counts failed authentications. Pure.

    Args:
        rate: Failures a second, and at once, that are answered with 401.
        peers: Addresses remembered.
    """

    def __init__(self, rate: Rate, peers: int = PEERS) -> None:
        self.rate = rate
        self._buckets: LRUCache[str, TokenBucket] = LRUCache(peers)

    def fail(self, peer: str, now: float) -> float | None:
        """Note a failure of ``peer`` at ``now`` (seconds of a monotonic clock).

        Returns:
            Seconds to wait before the next attempt; None if there were not too many failures.
        """
        found = self._buckets.get(peer)
        if found is None:
            full = len(self._buckets) >= self._buckets.maxsize
            found = self._buckets.popitem()[1] if full else TokenBucket()
            self._buckets[peer] = found
        wait = found.wait(self.rate, now, 1.0)
        if wait:
            return wait
        found.take(self.rate, now, 1.0)
        return None


def unknown(identity: IdentityRefused) -> Problem:
    """Return the problem of a request without a valid identity."""
    # RFC 9110, section 11.6.1: a 401 names a scheme. Authentication is the proxy's, so the name is our own.
    headers = (("WWW-Authenticate", "StrataProxy"),) if identity.status == 401 else ()  # noqa: PLR2004  # Unauthorized
    return Problem(identity.status, identity.detail, identity.code, headers=headers)

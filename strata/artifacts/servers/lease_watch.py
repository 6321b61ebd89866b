"""Which servers are dead, by this server's own clock: it has seen no renewal for as long as a lease lasts.

No clock of the database or of another machine is compared with another, so none of them can end a lease, or
extend one, by being set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import attrs


@attrs.define(eq=False)
class LeaseWatch:
    """Watches the renewals of leases; read by any thread, told by one.

    A server that could not look for half a lease begins anew to count: while the database is away the others
    cannot renew theirs either.

    Attributes:
        lease_seconds: Seconds for which a lease lasts.
        monotonic: This server's monotonic clock.
    """

    lease_seconds: float
    monotonic: Callable[[], float] = time.monotonic
    _since: Mapping[str, tuple[float, float]] = attrs.field(factory=dict)
    _looked: float = float("-inf")

    def see(self, renewals: Mapping[str, float], looked: float) -> None:
        """Note the mark of each server's latest renewal.

        Args:
            renewals: By server; a mark differs from that of the renewal before.
            looked: When the look at the database began, by the clock.
        """
        known = self._since if looked - self._looked <= self.lease_seconds / 2 else {}
        since = {}
        for server, mark in renewals.items():
            before = known.get(server)
            since[server] = before if before is not None and before[0] == mark else (mark, looked)
        self._since, self._looked = since, looked

    def dead(self, seconds: float | None = None) -> Mapping[str, float]:
        """Return the servers without a renewal for ``seconds``; by default, for as long as a lease lasts.

        Each with the mark of its latest renewal: one that has another mark by now is alive again.
        """
        since, looked = self._since, self._looked
        longest = self.lease_seconds if seconds is None else seconds
        return {server: mark for server, (mark, first) in since.items() if looked - first >= longest}

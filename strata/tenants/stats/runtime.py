"""Measure the process: loop lag, admitted requests, connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import attrs
import trio

from strata.tenants.stats.histogram import Histogram

LAG_EVERY_SECONDS = 0.25
"""Seconds between two samples of the loop's lag."""


@attrs.define(eq=False)
class RuntimeStats:
    """Figures of the process that belong to no tenant.

    Attributes:
        lag: Seconds by which a task runs later than due.
        requests: Returns the number of requests in the admission queue, by state.
        connections: Returns the number of open connections, by state.
        cut: Number of connections that the server closed or did not accept, by reason.
    """

    lag: Histogram = attrs.field(factory=Histogram)
    requests: Callable[[], Mapping[str, int]] = dict
    connections: Callable[[], Mapping[str, int]] = dict
    cut: Mapping[str, int] = attrs.field(factory=Counter)

    async def watch(self) -> None:
        """Sample the loop's lag every :data:`LAG_EVERY_SECONDS`, until cancelled."""
        while True:
            due = trio.current_time() + LAG_EVERY_SECONDS
            await trio.sleep_until(due)
            self.lag.observe(max(0.0, trio.current_time() - due))

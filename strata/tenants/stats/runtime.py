"""How the process itself is: what belongs to no tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import attrs
import trio

from strata.tenants.stats.histogram import Histogram

LAG_EVERY_SECONDS = 0.25


@attrs.define(eq=False)
class RuntimeStats:
    """What the serving loop knows of itself.

    Attributes:
        lag: How much later than due a task runs.
        requests: Tells the requests at the desk, by state.
        connections: Tells the connections there are, by state.
        cut: Connections that were cut, by reason.
    """

    lag: Histogram = attrs.field(factory=Histogram)
    requests: Callable[[], Mapping[str, int]] = dict
    connections: Callable[[], Mapping[str, int]] = dict
    cut: Mapping[str, int] = attrs.field(factory=Counter)

    async def watch(self) -> None:
        """Measure the loop's lag for ever."""
        while True:
            due = trio.current_time() + LAG_EVERY_SECONDS
            await trio.sleep_until(due)
            self.lag.observe(max(0.0, trio.current_time() - due))

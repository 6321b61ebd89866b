"""Measure the process: loop lag, long steps of tasks, admitted requests, connections."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import attrs
import structlog
import trio

from strata.tenants.stats.histogram import Histogram

log = structlog.get_logger(__name__)

BUDGET_SECONDS = 0.05
"""Seconds that a task may run between two checkpoints: a longer step is counted, and delays every request."""

LINE_EVERY_SECONDS = 10.0
"""Seconds between two log lines of long steps; of those between them, the next line has the number."""

LAG_EVERY_SECONDS = 0.25
"""Seconds between two samples of the loop's lag."""


class LongSteps(trio.abc.Instrument):
    """Count the steps of tasks that hold the event loop for longer than :data:`BUDGET_SECONDS`, by the clock.

    Measured on every step, as only that tells which task it was: 0.8 microseconds, of the 50 and more that
    a step takes.

    Attributes:
        count: Number of long steps.
        longest: Seconds of the longest one; 0 if there was none.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.count = 0
        self.longest = 0.0
        self._clock = clock
        self._began = 0.0
        self._line_at = float("-inf")
        self._unlogged = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002  # Trio's own way
        """Note the beginning of a step."""
        self._began = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a long step, and log its task's name."""
        seconds = self._clock() - self._began
        if seconds <= BUDGET_SECONDS:
            return
        self.count += 1
        self.longest = max(self.longest, seconds)
        now = self._clock()
        if now - self._line_at < LINE_EVERY_SECONDS:
            self._unlogged += 1
            return
        log.warning("event loop held", task=task.name, seconds=round(seconds, 3), more=self._unlogged)
        self._line_at, self._unlogged = now, 0


@attrs.define(eq=False)
class RuntimeStats:
    """Figures of the process that belong to no tenant.

    Attributes:
        lag: Seconds by which a task runs later than due.
        long_steps: Steps of tasks that held the event loop.
        requests: Returns the number of requests in the admission queue, by state.
        connections: Returns the number of open connections, by state.
        cut: Number of connections that the server closed or did not accept, by reason.
        certificate_expires: Returns the end of the TLS certificate, in seconds since the epoch, or None.
        unidentified: Number of requests without a valid identity, by error code.
        failures: Number of failures of the server's background tasks, by task.
        spans: Returns the number of spans by what became of them; empty with tracing off.
    """

    lag: Histogram = attrs.field(factory=Histogram)
    long_steps: LongSteps = attrs.field(factory=LongSteps)
    requests: Callable[[], Mapping[str, int]] = dict
    connections: Callable[[], Mapping[str, int]] = dict
    cut: Mapping[str, int] = attrs.field(factory=Counter)
    certificate_expires: Callable[[], float | None] = lambda: None
    unidentified: Counter[str] = attrs.field(factory=Counter)
    failures: Counter[str] = attrs.field(factory=Counter)
    spans: Callable[[], Mapping[str, int]] = dict

    async def watch(self) -> None:
        """Measure steps, and sample the loop's lag every :data:`LAG_EVERY_SECONDS`, until cancelled."""
        # The instrument will see the end of this step.
        self.long_steps.before_task_step(trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(self.long_steps)
        try:
            while True:
                due = trio.current_time() + LAG_EVERY_SECONDS
                await trio.sleep_until(due)
                self.lag.observe(max(0.0, trio.current_time() - due))
        finally:
            trio.lowlevel.remove_instrument(self.long_steps)

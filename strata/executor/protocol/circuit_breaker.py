"""Stop calling an executor that keeps failing, and try it again after a pause."""

from __future__ import annotations

import math
from typing import Final

import attrs
import trio

MOST_FAILURES: Final = 5
"""Failures one after the other after which the circuit opens."""

FIRST_PAUSE_SECONDS: Final = 5.0
"""Seconds until the first try after that; doubled after each try that fails."""

LONGEST_PAUSE_SECONDS: Final = 60.0
"""Most seconds between two tries."""


@attrs.define(eq=False)
class CircuitBreaker:
    """The state of the way to one executor.

    Attributes:
        failures: Failures since the last success.
        pause: Seconds until the next try, once it is open.
        opens_at: When the next try may be made, on Trio's clock.
    """

    failures: int = 0
    pause: float = FIRST_PAUSE_SECONDS
    opens_at: float = -math.inf

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, or only tried one at a time."""
        return self.failures >= MOST_FAILURES

    @property
    def seconds(self) -> int:
        """Seconds until the next try, at least 1."""
        return max(1, math.ceil(self.opens_at - trio.current_time()))

    def may_try(self) -> bool:
        """Return whether this call may try an open circuit; the next one may only after a further pause."""
        if trio.current_time() < self.opens_at:
            return False
        self.opens_at = trio.current_time() + self.pause
        return True

    def failed(self) -> None:
        """Note a failure."""
        self.failures += 1
        if self.failures == MOST_FAILURES:
            self.pause = FIRST_PAUSE_SECONDS
        elif self.failures > MOST_FAILURES:
            self.pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
        if self.is_open:
            self.opens_at = trio.current_time() + self.pause

    def succeeded(self) -> None:
        """Note a success: the circuit is closed."""
        self.failures, self.pause, self.opens_at = 0, FIRST_PAUSE_SECONDS, -math.inf

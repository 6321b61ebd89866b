"""A limit that follows measured latency: up while it is what it usually is, down when it rises.

The gradient is that of Netflix' concurrency-limits ("Gradient2"): usual latency over present latency, where
"usual" is a slow average, so that a lasting change becomes usual after a while.
"""

from __future__ import annotations

HEADROOM = 1.0
"""By how much the limit would like to grow at each step while latency is as usual."""

SMOOTHING = 0.2
"""How much of each step is taken at once."""

USUAL_SAMPLES = 600
"""Over how many samples the usual latency is the average of; at first over those there are."""

STEEPEST = 0.5
"""The smallest gradient: no sample, however bad, asks for less than half of the limit."""

RELIEF = 0.95
"""How fast the usual latency comes down when it is more than twice what it is now."""


class Gradient:
    """The limit, from samples. Pure, and deterministic.

    Args:
        least: The limit is never below.
        most: It is never above, and begins there.
        tolerance: How many times the usual latency is still as usual.

    Raises:
        ValueError: If the bounds are not in order, or the tolerance is below 1.
    """

    def __init__(self, least: int, most: int, *, tolerance: float) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"a limit is between 1 and something at least as large, not {least} and {most}")
        if not tolerance >= 1:
            raise ValueError(f"a tolerance is at least 1, not {tolerance}")
        self._least = least
        self._most = most
        self._tolerance = tolerance
        self._limit = float(most)
        self._samples = 0
        self._usual = 0.0

    def __repr__(self) -> str:
        return f"<Gradient {self._limit:.2f} of {self._least} to {self._most}, usually {self._usual:.4f} s>"

    @property
    def limit(self) -> int:
        """The present limit."""
        return round(self._limit)

    @property
    def usual(self) -> float:
        """The usual latency in seconds; 0 before the first sample."""
        return self._usual

    def sample(self, latency: float, in_flight: int) -> None:
        """Take a measurement.

        Args:
            latency: In seconds, above zero.
            in_flight: How much of the limit was in use; less than half of it says nothing about the limit.
        """
        self._samples = min(self._samples + 1, USUAL_SAMPLES)
        self._usual += (latency - self._usual) / self._samples
        if self._usual > 2 * latency:
            self._usual *= RELIEF
        if in_flight < self._limit / 2:
            return
        gradient = max(STEEPEST, min(1.0, self._tolerance * self._usual / latency))
        wanted = self._limit * gradient + HEADROOM * (gradient == 1.0)
        stepped = (1 - SMOOTHING) * self._limit + SMOOTHING * wanted
        self._limit = min(float(self._most), max(float(self._least), stepped))

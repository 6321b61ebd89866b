"""Adapt a concurrency limit to measured latency: raise it at usual latency, lower it when latency rises.

The gradient is that of Netflix' concurrency-limits ("Gradient2"): usual latency over present latency, where
"usual" is a slow average, so that a lasting change becomes usual after a while.

Measured against a fixed limit (``bench/neighbours.py``, scene ``fifty``, two runs each): the 99th percentile
of quiet tenants rose 58 and 9 times over that of their own alone instead of 131 and 29 times, the median 2.7
instead of 3.3 times.
"""

from __future__ import annotations

HEADROOM = 1.0
"""Growth of the limit at each step while latency is as usual, before smoothing."""

SMOOTHING = 0.2
"""Fraction of each step that is applied."""

USUAL_SAMPLES = 600
"""Samples averaged into the usual latency; fewer while there are not as many."""

STEEPEST = 0.5
"""Smallest gradient: no sample lowers the wanted limit by more than half."""

RELIEF = 0.95
"""Factor on the usual latency for each sample while it is more than twice the present latency."""


class Gradient:
    """A limit computed from latency samples. Pure and deterministic.

    Args:
        least: Lower bound of the limit, at least 1.
        most: Upper bound of the limit, and its first value.
        tolerance: Ratio of present to usual latency up to which latency counts as usual, at least 1.

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
        """Present limit, rounded."""
        return round(self._limit)

    @property
    def usual(self) -> float:
        """Usual latency in seconds; 0 before the first sample."""
        return self._usual

    def sample(self, latency: float, in_flight: int) -> None:
        """Update the limit with a measurement.

        Args:
            latency: Measured latency in seconds, above zero.
            in_flight: Slots of the limit in use; with less than half of them the limit stays.
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

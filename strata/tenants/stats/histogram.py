"""Count durations in fixed buckets."""

from __future__ import annotations

from bisect import bisect_left

import attrs

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets, in seconds, inclusive; one more bucket counts longer durations."""


@attrs.define(eq=False)
class Histogram:
    """A histogram of durations.

    Attributes:
        counts: Observations of each bucket, not cumulated; the last counts durations above all bounds.
        sum: Sum of the durations, in seconds.
    """

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def add(self, other: Histogram) -> None:
        """Add the observations of ``other``."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

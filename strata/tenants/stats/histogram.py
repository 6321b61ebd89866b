"""Durations in buckets."""

from __future__ import annotations

from bisect import bisect_left

import attrs

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histograms' buckets, in seconds; one more holds what is above."""


@attrs.define(eq=False)
class Histogram:
    """Durations in fixed buckets.

    Attributes:
        counts: Observations by bucket, not cumulated; the last is of those above all bounds.
        sum: Of the durations, in seconds.
    """

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def add(self, other: Histogram) -> None:
        """Count all of another's, too."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

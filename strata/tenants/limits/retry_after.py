"""Retry-After of queues (slots, memory), from their pace: a retry after it is admitted.

That of rates is in ``rates``.
"""

from __future__ import annotations

import math
from collections import deque

import attrs

MOST_SECONDS = 300
"""Longest Retry-After in seconds, but for a quota of a day."""

ONE_IN = 2
"""One in this many places that come free while requests are refused is promised to a refused request; the
others are for the requests in the queue, and for new ones."""

PROMISE_SECONDS = 30.0
"""Seconds after its time for which a promise can be claimed."""

PROMISES_PER_KEY = 64
"""Promises to one key that are kept; the oldest goes."""

PROMISED_KEYS = 1024
"""Keys with promises; the one whose latest promise is oldest goes."""

RELEASES = 32
"""Releases from which the pace is computed; the oldest goes."""

RELEASE_SECONDS = 60.0
"""Seconds after which a release says nothing of the pace any more."""


@attrs.define(eq=False)
class RetryAfterEstimator:
    """Computes Retry-After for one queue or bucket, and knows which keys return because of it.

    Times are seconds of a monotonic clock. An estimator that was never used holds no containers, for there is
    one in every idle tenant.

    Attributes:
        one_in: One in this many places is promised, while requests are refused.
    """

    one_in: int = ONE_IN
    _last_due: float = 0.0
    _promises: dict[str, deque[float]] | None = None  # by key, in the order of each key's latest promise
    _releases: deque[tuple[float, str]] | None = None

    def released(self, now: float, key: str) -> None:
        """Note that ``key`` gave a place back."""
        if self._releases is None:
            self._releases = deque(maxlen=RELEASES)
        self._releases.append((now, key))

    def interval(self, now: float, key: str | None = None) -> float | None:
        """Return the seconds between two releases, of all keys or of ``key``; None if none was lately."""
        times = [then for then, whose in self._releases or () if key is None or whose == key]
        times = [then for then in times if then >= now - RELEASE_SECONDS]
        return (now - times[0]) / len(times) if times else None

    def seconds(self, now: float, need: float, interval: float) -> int:
        """Return the Retry-After of one more refusal, after those of the refusals before it.

        Args:
            now: The present time.
            need: Seconds until there is a place for one more.
            interval: Seconds from one free place to the next.

        Returns:
            Whole seconds: at least 1, at most :data:`MOST_SECONDS` or ``need``, whichever is more.
        """
        due = now + need
        if self._last_due > now:
            due = max(due, self._last_due + interval * self.one_in)
        self._last_due = due = min(due, now + max(need, MOST_SECONDS))
        return max(1, math.ceil(due - now))

    def promise(self, key: str, due: float, now: float) -> None:
        """Note that ``key`` was told to return at ``due``."""
        promises = self._promises = self._promises if self._promises is not None else {}
        while promises and (
            len(promises) >= PROMISED_KEYS or next(iter(promises.values()))[-1] < now - PROMISE_SECONDS
        ):
            del promises[next(iter(promises))]
        own = promises.pop(key) if key in promises else deque(maxlen=PROMISES_PER_KEY)
        own.append(due)
        promises[key] = own

    def claim(self, key: str, now: float) -> bool:
        """Use up one promise to ``key`` whose time has come; returns whether there was one.

        A request with a promise goes before those without. No more than one place in :data:`ONE_IN` is
        promised; a request before its time claims nothing.
        """
        due = (self._promises or {}).get(key)
        if self._promises is None or due is None:
            return False
        while due and due[0] < now - PROMISE_SECONDS:
            due.popleft()
        found = bool(due) and due[0] <= now
        if found:
            due.popleft()
        if not due:
            del self._promises[key]
        return found

"""Token buckets, on the caller's monotonic clock. Pure."""

from __future__ import annotations

import attrs

BURST_SECONDS = 2
"""Seconds' worth of a rate that may be taken at once."""

DAY = 86_400
"""Seconds of a day."""

_ROUNDING = 1e-9
"""Share of a burst that may be missing from a bucket: sums of floats are off by less."""


@attrs.frozen
class Rate:
    """How a bucket refills.

    Attributes:
        per_second: Tokens that come back a second; over 0.
        burst: Tokens of a full bucket: what may be taken at once; over 0.
    """

    per_second: float
    burst: float


@attrs.frozen
class RateRule(Rate):
    """A rate that a setting limits.

    Attributes:
        name: The setting.
        value: Its value.
        window: Seconds in which an empty bucket fills.
        what: What is counted, for messages, such as ``requests a second``.
    """

    name: str
    value: float
    window: int
    what: str

    @classmethod
    def each_second(cls, name: str, value: float, what: str) -> RateRule | None:
        """Return the rule of ``value`` a second; None for no limit (0)."""
        if not value:
            return None
        burst = max(1.0, value * BURST_SECONDS)
        return cls(value, burst, name, value, max(BURST_SECONDS, round(burst / value)), f"{what} a second")

    @classmethod
    def each_day(cls, name: str, value: int, what: str) -> RateRule | None:
        """Return the rule of ``value`` a day, refilled evenly over the day; None for no limit (0)."""
        return cls(value / DAY, value, name, value, DAY, f"{what} a day") if value else None


@attrs.define(eq=False)
class TokenBucket:
    """The tokens that were taken and have not come back; a new bucket is full.

    The rate is the caller's and may change between two calls. Tokens missing beyond the present burst were
    taken under an earlier rate, before the limit was lowered, and come back at that rate: a lower limit of a
    day must not bar a tenant for years.

    What other servers took for the same tenant counts as well, as soon as they tell of it.

    ``now`` is the present time in seconds of a monotonic clock.
    """

    _spent: float = 0.0
    _untold: float = 0.0
    _elsewhere: float = 0.0  # what others took and did not give back, as far as it can be missing still
    _per_second: float = 0.0
    _then: float = 0.0

    def spent(self, rate: Rate, now: float) -> float:
        """Return the tokens missing from a full bucket; more than ``rate.burst`` is a debt."""
        seconds, self._then = now - self._then, now
        beyond = self._seconds_of_debt(rate)
        if beyond > 0:
            fast = min(seconds, beyond)
            self._spent -= fast * max(self._per_second, rate.per_second)
            seconds -= fast
        self._spent = max(0.0, self._spent - seconds * rate.per_second)
        if self._spent <= rate.burst:
            self._per_second = rate.per_second
        return self._spent

    def wait(self, rate: Rate, now: float, amount: float) -> float:
        """Return the seconds until ``amount`` can be taken, or until the bucket is full if that is less."""
        spent = self.spent(rate, now)
        if spent + min(amount, rate.burst) - rate.burst <= _ROUNDING * rate.burst:
            return 0.0
        missing = min(spent, rate.burst) + min(amount, rate.burst) - rate.burst
        return self._seconds_of_debt(rate) + missing / rate.per_second

    def take(self, rate: Rate, now: float, amount: float) -> None:
        """Take ``amount``, into debt where the bucket has less."""
        self._spent = self.spent(rate, now) + amount
        self._untold += amount

    def give_back(self, amount: float) -> None:
        """Return tokens that were taken and not used."""
        self._spent = max(0.0, self._spent - amount)
        self._untold -= amount

    def tell(self) -> float:
        """Return the tokens that were taken here since the last call, less those given back."""
        told, self._untold = self._untold, 0.0
        return told

    def taken_elsewhere(self, rate: Rate, now: float, amount: float) -> None:
        """Count ``amount`` as taken by another server, which told of it; negative: given back there.

        No more is given back than the others took: what was taken here is not theirs to return.
        """
        spent = self.spent(rate, now)
        self._elsewhere = min(self._elsewhere, spent)
        amount = max(amount, -self._elsewhere)
        self._elsewhere += amount
        self._spent = spent + amount

    def _seconds_of_debt(self, rate: Rate) -> float:
        """Return the seconds until no more is missing than a full bucket has."""
        return max(0.0, self._spent - rate.burst) / max(self._per_second, rate.per_second)

"""Token buckets, on whatever monotonic clock their caller has. Pure."""

from __future__ import annotations

import attrs

from strata.tenants.limits.retry_after import Promises

BURST_SECONDS = 2
"""Seconds' worth of a rate that may come at once."""

DAY = 86_400


@attrs.frozen
class Rule:
    """A rate that is kept.

    Attributes:
        name: Its setting.
        value: Its value, as it is set.
        rate: How much a second gives back.
        burst: How much may be taken at once.
        window: Seconds after which an empty bucket is full again.
        what: What is counted, for people, such as ``requests a second``.
    """

    name: str
    value: float
    rate: float
    burst: float
    window: int
    what: str

    @classmethod
    def each_second(cls, name: str, value: float, what: str) -> Rule | None:
        """Return the rule of so much a second; None for no limit (0)."""
        burst = max(1.0, value * BURST_SECONDS)
        window = max(BURST_SECONDS, round(burst / value)) if value else 0
        return cls(name, value, value, burst, window, f"{what} a second") if value else None

    @classmethod
    def each_day(cls, name: str, value: int, what: str) -> Rule | None:
        """Return the rule of so much a day, refilled evenly over it; None for no limit."""
        return cls(name, value, value / DAY, value, DAY, f"{what} a day") if value else None


@attrs.define(eq=False)
class Bucket:
    """What was taken and has not come back.

    What is more than the rule of this moment lets anybody take was taken under another one, before the limit
    was lowered. It comes back at that one's pace: a lower limit of a day must not bar a tenant for years.
    """

    _spent: float = 0.0
    _rate: float = 0.0
    _then: float = 0.0
    _promises: Promises | None = None

    def spent(self, rule: Rule, now: float) -> float:
        """Return how much is missing from a full bucket; beyond ``burst``, it is in debt."""
        seconds, self._then = now - self._then, now
        beyond = self._beyond(rule)
        if beyond > 0:
            fast = min(seconds, beyond)
            self._spent -= fast * max(self._rate, rule.rate)
            seconds -= fast
        self._spent = max(0.0, self._spent - seconds * rule.rate)
        if self._spent <= rule.burst:
            self._rate = rule.rate
        return self._spent

    def wait(self, rule: Rule, now: float, amount: float) -> float:
        """Return in how many seconds there will be ``amount``, or a full bucket for what is larger."""
        # A billionth of a token is not worth a refusal: floats do not add up to whole ones.
        spent = self.spent(rule, now)
        if spent + min(amount, rule.burst) - rule.burst <= 1e-9 * rule.burst:
            return 0.0
        missing = min(spent, rule.burst) + min(amount, rule.burst) - rule.burst
        return self._beyond(rule) + missing / rule.rate

    def take(self, rule: Rule, now: float, amount: float) -> None:
        """Take ``amount``, into debt if need be."""
        self._spent = self.spent(rule, now) + amount

    def _beyond(self, rule: Rule) -> float:
        """Return in how many seconds no more is missing than ``rule`` lets anybody take."""
        return max(0.0, self._spent - rule.burst) / max(self._rate, rule.rate)

    def promise(self, rule: Rule, now: float, wait: float) -> int:
        """Return in how many seconds somebody who was refused should come back."""
        self._promises = self._promises or Promises()
        return self._promises.seconds(now, wait, 1 / rule.rate)

"""Sent bytes, delayed where a tenant or a principal would exceed its bytes a second."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import attrs
import trio

from strata.tenants.limits.rates import TenantRates
from strata.tenants.limits.token_bucket import RateRule, TokenBucket
from strata.work import AdmissionToken

LONGEST_NAP = 1.0
"""Seconds after which a waiting stream reads its limit again: it may have been raised meanwhile."""

_GATES: WeakKeyDictionary[TokenBucket, trio.Lock] = WeakKeyDictionary()


@attrs.frozen
class BandwidthLimiter:
    """Counts the bytes sent to one principal, and delays them.

    The streams of a principal take turns, and so do the principals of a tenant, for each has at most one
    stream that waits for the tenant's turn. Only a piece larger than its bucket
    leaves the bucket in debt.

    Attributes:
        rates: The tenant's rates.
        principal: The receiving principal.
    """

    rates: TenantRates
    principal: str

    @property
    def limited(self) -> bool:
        """Whether there is a limit of bytes a second."""
        return self.rates.rules.own_bytes is not None or self.rates.rules.bytes is not None

    async def pace(self, amount: int, admission: AdmissionToken | None = None) -> None:
        """Wait until ``amount`` bytes may be sent, and count them as sent."""
        if self.limited:
            if admission is not None:
                admission.release()  # the wait is for the caller's own rate alone
            own, every = self.rates.of(self.principal).bytes, self.rates.all.bytes
            async with _gate(own):
                await self._room(own, amount, own=True)
                async with _gate(every):
                    await self._room(every, amount, own=False)
                    self.rates.sent(self.principal, amount, trio.current_time())
            return
        self.rates.sent(self.principal, amount, trio.current_time())

    async def _room(self, bucket: TokenBucket, amount: int, *, own: bool) -> None:
        while wait := self._wait(bucket, self._rule(own=own), amount):  # noqa: ASYNC110  # a bucket fills by itself
            await trio.sleep(min(wait, LONGEST_NAP))

    def _rule(self, *, own: bool) -> RateRule | None:
        return self.rates.rules.own_bytes if own else self.rates.rules.bytes

    @staticmethod
    def _wait(bucket: TokenBucket, rule: RateRule | None, amount: int) -> float:
        return 0.0 if rule is None else bucket.wait(rule, trio.current_time(), amount)


def _gate(bucket: TokenBucket) -> trio.Lock:
    found = _GATES.get(bucket)
    if found is None:
        found = _GATES[bucket] = trio.Lock()
    return found

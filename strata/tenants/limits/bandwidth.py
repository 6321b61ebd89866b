"""Bytes on their way out, held back where they would be more than a tenant or a principal may be sent."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import attrs
import trio

from strata.tenants.limits.rates import TenantRates
from strata.tenants.limits.token_bucket import Bucket, Rule
from strata.work import AdmissionToken

LONGEST_NAP = 1.0
"""Seconds after which a limit is read again: it may have been raised meanwhile."""

_GATES: WeakKeyDictionary[Bucket, trio.Lock] = WeakKeyDictionary()


@attrs.frozen
class BandwidthLimiter:
    """Counts what one principal is sent, and makes it wait.

    The streams of a principal take turns, and so do the principals of a tenant, for each has but one stream
    that waits for the tenant's turn. A bucket is in debt only after a piece that is larger than it.

    Attributes:
        rates: The tenant's.
        principal: Who is sent it.
    """

    rates: TenantRates
    principal: str

    async def pace(self, amount: int, admission: AdmissionToken | None = None) -> None:
        """Return when ``amount`` bytes may be sent; they count as sent then."""
        rules = self.rates.rules
        if rules.own_bytes is not None or rules.bytes is not None:
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

    async def _room(self, bucket: Bucket, amount: int, *, own: bool) -> None:
        while wait := self._wait(bucket, self._rule(own=own), amount):  # noqa: ASYNC110  # a bucket fills by itself
            await trio.sleep(min(wait, LONGEST_NAP))

    def _rule(self, *, own: bool) -> Rule | None:
        return self.rates.rules.own_bytes if own else self.rates.rules.bytes

    @staticmethod
    def _wait(bucket: Bucket, rule: Rule | None, amount: int) -> float:
        return 0.0 if rule is None else bucket.wait(rule, trio.current_time(), amount)


def _gate(bucket: Bucket) -> trio.Lock:
    found = _GATES.get(bucket)
    if found is None:
        found = _GATES[bucket] = trio.Lock()
    return found

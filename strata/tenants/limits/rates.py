"""Rates of requests and bytes, by tenant and by principal. Pure: decisions, no waiting.

They are kept outside the actors: a tenant that is evicted and starts again finds its buckets as it left them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

import attrs
from cachetools import Cache, LRUCache

from strata.outcomes import Limit, Reason, Refused
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.retry_after import RetryAfterEstimator
from strata.tenants.limits.token_bucket import Rate, RateRule, TokenBucket

PRINCIPALS = 1024
"""Principals of one tenant that are remembered. A new one takes over the buckets of the least recently seen
one: inventing principals gains nothing."""

TENANTS = 10_000
"""Tenants that are remembered. Beyond that, one whose buckets are full is forgotten, or else the least
recently seen one."""

LOOKED_AT = 16
"""Least recently seen tenants that are searched for one whose buckets are full."""

REFUSALS = Rate(per_second=5.0, burst=200)
"""Refusals a second that are forgiven, and the most that are remembered of one principal."""

SECONDS_EACH = 0.01
"""Seconds by which each refusal not yet forgiven delays the next one."""

MOST_HELD_UP = 1.0
"""Most seconds by which a refusal is delayed."""


@attrs.frozen
class Rules:
    """The rate rules of a tenant's limits; None where there is no limit.

    Attributes:
        requests: Requests a second of the tenant.
        bytes: Bytes a second sent to the tenant.
        day: Bytes a day sent to the tenant.
        own_requests: Requests a second of one principal.
        own_scans: Materializations a second of one principal.
        own_bytes: Bytes a second sent to one principal.
        own_day: Bytes a day sent to one principal.
    """

    requests: RateRule | None = None
    bytes: RateRule | None = None
    day: RateRule | None = None
    own_requests: RateRule | None = None
    own_scans: RateRule | None = None
    own_bytes: RateRule | None = None
    own_day: RateRule | None = None

    @classmethod
    def of(cls, limits: TenantLimits) -> Rules:
        """Return the rules of ``limits``."""
        if not limits.rate_limited:
            return cls()
        second, day = RateRule.each_second, RateRule.each_day
        return cls(
            second("rate_limit_global_rps", limits.requests_per_second, "requests"),
            second("rate_limit_bytes_per_second", limits.bytes_per_second, "bytes"),
            day("rate_limit_bytes_per_day", limits.bytes_per_day, "bytes"),
            second("rate_limit_client_rps", limits.principal_requests_per_second, "requests"),
            second("rate_limit_scan_rps", limits.principal_scans_per_second, "materializations"),
            second("rate_limit_client_bytes_per_second", limits.principal_bytes_per_second, "bytes"),
            day("rate_limit_client_bytes_per_day", limits.principal_bytes_per_day, "bytes"),
        )


@attrs.define(eq=False)
class Buckets:
    """The buckets of a principal, or of a whole tenant."""

    requests: TokenBucket = attrs.field(factory=TokenBucket)
    scans: TokenBucket = attrs.field(factory=TokenBucket)
    bytes: TokenBucket = attrs.field(factory=TokenBucket)
    day: TokenBucket = attrs.field(factory=TokenBucket)
    _refusals: TokenBucket | None = None

    def hold_up(self, now: float) -> float:
        """Note a refusal; returns the seconds by which to delay it."""
        if self._refusals is None:
            self._refusals = TokenBucket()
        unforgiven = self._refusals.spent(REFUSALS, now)
        self._refusals.take(REFUSALS, now, min(1.0, REFUSALS.burst - unforgiven))
        return min(MOST_HELD_UP, unforgiven * SECONDS_EACH)


class TenantRates:
    """The buckets of one tenant and of its principals.

    Args:
        limits: The tenant's.
        most: Principals that are remembered.
    """

    def __init__(self, limits: TenantLimits, most: int = PRINCIPALS) -> None:
        self.rules = Rules.of(limits)
        self.all = Buckets()
        self._principals: LRUCache[str, Buckets] = LRUCache(most)
        self._estimator = RetryAfterEstimator()

    def __len__(self) -> int:
        return len(self._principals)

    def of(self, principal: str) -> Buckets:
        """Return a principal's buckets; a new principal may find them as the forgotten one left them."""
        found = self._principals.get(principal)
        if found is None:
            full = len(self._principals) >= self._principals.maxsize
            found = self._principals.popitem()[1] if full else Buckets()
            self._principals[principal] = found
        return found

    def admit(self, principal: str, *, scan: bool, now: float) -> Refused | None:
        """Take a request from all buckets; or from none, and return the refusal of one that has too little.

        Args:
            principal: The requesting principal.
            scan: Whether it is a request to materialize.
            now: Seconds of a monotonic clock.
        """
        rules, own, every = self.rules, self.of(principal), self.all
        asked = [
            (own.requests, rules.own_requests, 1.0, "this principal"),
            (own.bytes, rules.own_bytes, 0.0, "this principal"),
            (own.day, rules.own_day, 0.0, "this principal"),
            (every.requests, rules.requests, 1.0, "this tenant"),
            (every.bytes, rules.bytes, 0.0, "this tenant"),
            (every.day, rules.day, 0.0, "this tenant"),
        ]
        if scan:
            asked.append((own.scans, rules.own_scans, 1.0, "this principal"))
        longest, promised = 0.0, True
        for bucket, rule, amount, whose in asked:
            wait = 0.0 if rule is None else bucket.wait(rule, now, amount)
            if rule is not None and wait:
                promised &= amount > 0  # a bucket of bytes is in debt: there is nothing to promise
                if wait > longest:
                    longest, found = wait, (bucket, rule, whose)
        if longest and not (promised and self._estimator.claim(principal, now)):
            refused = _refused(*found, longest, now)
            if promised and refused.retry_after is not None:
                self._estimator.promise(principal, now + refused.retry_after, now)
            return refused
        for bucket, rule, amount, _ in asked:
            if rule is not None and amount:
                bucket.take(rule, now, amount)
        return None

    def hold_up(self, principal: str, now: float) -> float:
        """Note a refusal of a principal; returns the seconds by which to delay it."""
        return self.of(principal).hold_up(now)

    def sent(self, principal: str, amount: int, now: float) -> None:
        """Count ``amount`` bytes as sent to ``principal``."""
        rules, own = self.rules, self.of(principal)
        for bucket, rule in (
            (own.bytes, rules.own_bytes),
            (own.day, rules.own_day),
            (self.all.bytes, rules.bytes),
            (self.all.day, rules.day),
        ):
            if rule is not None:
                bucket.take(rule, now, amount)

    def at_rest(self, now: float) -> bool:
        """Whether all buckets are full; if the tenant's own are, forget the principals whose buckets are."""
        rules, every = self.rules, self.all
        shared = ((every.requests, rules.requests), (every.bytes, rules.bytes), (every.day, rules.day))
        if any(rule is not None and bucket.spent(rule, now) for bucket, rule in shared):
            return False
        for principal in list(self._principals):
            if self._full(Cache.__getitem__(self._principals, principal), now):  # without counting as use
                del self._principals[principal]
        return not self._principals

    def _full(self, own: Buckets, now: float) -> bool:
        rules = self.rules
        each = (
            (own.requests, rules.own_requests),
            (own.scans, rules.own_scans),
            (own.bytes, rules.own_bytes),
            (own.day, rules.own_day),
        )
        return not any(rule is not None and bucket.spent(rule, now) for bucket, rule in each)


class RateBook:
    """The rates of all tenants, running or not; bounded.

    Args:
        limits: Returns the limits of a tenant.
        most: Tenants that are remembered.
    """

    def __init__(self, limits: Callable[[str], TenantLimits], most: int = TENANTS) -> None:
        self._limits = limits
        self._most = most
        self._tenants: OrderedDict[str, TenantRates] = OrderedDict()  # least recently seen first

    def __len__(self) -> int:
        return len(self._tenants)

    def __iter__(self) -> Iterator[TenantRates]:
        return iter(self._tenants.values())

    def of(self, tenant: str, now: float) -> TenantRates:
        """Return a tenant's rates, with ``now`` in seconds of a monotonic clock."""
        found = self._tenants.get(tenant)
        if found is not None:
            self._tenants.move_to_end(tenant)
            return found
        if len(self._tenants) >= self._most:
            self._make_room(now)
        found = self._tenants[tenant] = TenantRates(self._limits(tenant))
        return found

    def update(self, tenants: Collection[str] | None = None) -> None:
        """Take over the present limits of ``tenants``, or of all; tokens taken stay taken."""
        changed = self._tenants if tenants is None else self._tenants.keys() & set(tenants)
        for tenant in changed:
            self._tenants[tenant].rules = Rules.of(self._limits(tenant))

    def _make_room(self, now: float) -> None:
        oldest = []
        for tenant, found in self._tenants.items():
            oldest.append(tenant)
            if found.at_rest(now):
                del self._tenants[tenant]
                return
            if len(oldest) == LOOKED_AT:
                break
        del self._tenants[oldest[0]]


def _refused(bucket: TokenBucket, rule: RateRule, whose: str, wait: float, now: float) -> Refused:
    seconds = bucket.retry_after(rule, now, wait)
    detail = (
        f"Rate limit {rule.name} ({rule.value:.15g} {rule.what}) exceeded for {whose}. "
        f"Retry after {seconds} s."
    )
    limit = Limit(rule.name, int(rule.burst), seconds, rule.value, rule.window)
    return Refused(Reason.BUSY, detail, rule.name, seconds, limit=limit)

"""How often a tenant and its principals may ask, and how much they are sent. Pure: decisions, no waiting.

It is kept beside the actors: a tenant that is evicted and comes back finds its buckets as it left them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator

import attrs

from strata.outcomes import Limit, Reason, Refused
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.retry_after import Kept
from strata.tenants.limits.token_bucket import Bucket, Rule

PRINCIPALS = 1024
"""Principals of one tenant that are remembered. The one not heard of for longest makes room and leaves what
it has taken to the new one: whoever invents principals gains nothing by their number."""

TENANTS = 10_000
"""Tenants that are remembered. One that has taken nothing lately makes room, or else the one not heard of for
longest."""

LOOKED_AT = 16
"""How many of those not heard of for longest are looked at for one that has taken nothing lately."""

REFUSALS_FORGIVEN = 5.0
"""Refusals a second that are forgotten."""

MOST_REFUSALS = 200

SECONDS_EACH = 0.01
"""Seconds that each refusal not yet forgotten holds up the next one."""

MOST_HELD_UP = 1.0


@attrs.frozen
class Rules:
    """The rules of a tenant's limits; None where there is none.

    Attributes:
        requests: Of the tenant; likewise ``bytes`` and ``day``.
        own_requests: Of one principal; likewise the rest.
    """

    requests: Rule | None = None
    bytes: Rule | None = None
    day: Rule | None = None
    own_requests: Rule | None = None
    own_scans: Rule | None = None
    own_bytes: Rule | None = None
    own_day: Rule | None = None

    @classmethod
    def of(cls, limits: TenantLimits) -> Rules:
        """Return the rules of these limits."""
        if not limits.rate_limited:
            return cls()
        second, day = Rule.each_second, Rule.each_day
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
    """What a principal, or a whole tenant, has taken."""

    requests: Bucket = attrs.field(factory=Bucket)
    scans: Bucket = attrs.field(factory=Bucket)
    bytes: Bucket = attrs.field(factory=Bucket)
    day: Bucket = attrs.field(factory=Bucket)
    _refusals: float = 0.0
    _refused: float = 0.0

    def hold_up(self, now: float) -> float:
        """Note a refusal; returns how many seconds it should be held up."""
        left = max(0.0, self._refusals - (now - self._refused) * REFUSALS_FORGIVEN)
        self._refusals, self._refused = min(left + 1, MOST_REFUSALS), now
        return min(MOST_HELD_UP, left * SECONDS_EACH)


class TenantRates:
    """The buckets of one tenant and of its principals.

    Args:
        limits: The tenant's.
        most: Principals that are remembered.
    """

    def __init__(self, limits: TenantLimits, most: int = PRINCIPALS) -> None:
        self.rules = Rules.of(limits)
        self.all = Buckets()
        self._most = most
        self._principals: OrderedDict[str, Buckets] = OrderedDict()
        self._kept = Kept()

    def __len__(self) -> int:
        return len(self._principals)

    def of(self, principal: str) -> Buckets:
        """Return a principal's buckets."""
        found = self._principals.pop(principal, None)
        if found is None:
            if len(self._principals) >= self._most:
                _, found = self._principals.popitem(last=False)  # empty buckets go to the new one as they are
            else:
                found = Buckets()
        self._principals[principal] = found
        return found

    def admit(self, principal: str, *, scan: bool, now: float) -> Refused | None:
        """Take a request's worth of all buckets, or of none and say which one has too little.

        Args:
            principal: Who asks.
            scan: Whether it asks for a result to be built or found.
            now: Seconds of a monotonic clock.
        """
        rules, own, every = self.rules, self.of(principal), self.all
        asked = [
            (own.requests, rules.own_requests, 1.0, "You"),
            (own.bytes, rules.own_bytes, 0.0, "You"),
            (own.day, rules.own_day, 0.0, "You"),
            (every.requests, rules.requests, 1.0, "This tenant"),
            (every.bytes, rules.bytes, 0.0, "This tenant"),
            (every.day, rules.day, 0.0, "This tenant"),
        ]
        if scan:
            asked.append((own.scans, rules.own_scans, 1.0, "You"))
        longest, promised = 0.0, True
        for bucket, rule, amount, whose in asked:
            wait = 0.0 if rule is None else bucket.wait(rule, now, amount)
            if rule is not None and wait:
                promised &= amount > 0  # of bytes there is nothing to be promised: they are in debt
                if wait > longest:
                    longest, found = wait, (bucket, rule, whose)
        if longest and not (promised and self._kept.claim(principal, now)):
            refused = _refused(*found, longest, now)
            if promised and refused.retry_after is not None:
                self._kept.note(principal, now + refused.retry_after, now)
            return refused
        for bucket, rule, amount, _ in asked:
            if rule is not None and amount:
                bucket.take(rule, now, amount)
        return None

    def hold_up(self, principal: str, now: float) -> float:
        """Note that a principal was refused; returns how many seconds its answer should be held up."""
        return self.of(principal).hold_up(now)

    def sent(self, principal: str, amount: int, now: float) -> None:
        """Note bytes that are sent."""
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
        """Whether all buckets are full; principals whose are have been forgotten then."""
        rules, every = self.rules, self.all
        shared = ((every.requests, rules.requests), (every.bytes, rules.bytes), (every.day, rules.day))
        if any(rule is not None and bucket.spent(rule, now) for bucket, rule in shared):
            return False
        for principal in [who for who, own in self._principals.items() if self._full(own, now)]:
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
    """The rates of all tenants, live or not; bounded.

    Args:
        limits: Limits by tenant.
        most: Tenants that are remembered.
    """

    def __init__(self, limits: Callable[[str], TenantLimits], most: int = TENANTS) -> None:
        self._limits = limits
        self._most = most
        self._tenants: OrderedDict[str, TenantRates] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tenants)

    def __iter__(self) -> Iterator[TenantRates]:
        return iter(self._tenants.values())

    def of(self, tenant: str, now: float) -> TenantRates:
        """Return a tenant's rates."""
        found = self._tenants.get(tenant)
        if found is not None:
            self._tenants.move_to_end(tenant)
            return found
        if len(self._tenants) >= self._most:
            self._make_room(now)
        found = self._tenants[tenant] = TenantRates(self._limits(tenant))
        return found

    def update(self, tenants: Collection[str] | None = None) -> None:
        """Take the limits of this moment, of all or of ``tenants``; what was taken stays taken."""
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


def _refused(bucket: Bucket, rule: Rule, whose: str, wait: float, now: float) -> Refused:
    seconds = bucket.promise(rule, now, wait)
    have, ask = ("has", "they ask") if whose == "This tenant" else ("have", "you ask")
    detail = (
        f"{whose} {have} used up {rule.value:.15g} {rule.what} ({rule.name}); "
        f"wait {seconds} seconds, and see that {ask} for less."
    )
    limit = Limit(rule.name, int(rule.burst), seconds, rule.value, rule.window)
    return Refused(Reason.BUSY, detail, rule.name, seconds, limit=limit)

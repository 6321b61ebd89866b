"""Rates of requests and bytes, by tenant and by principal. Pure: decisions, no waiting.

They are kept outside the actors: a tenant that is evicted and starts again finds its buckets as it left them.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import attrs
from cachetools import Cache, LRUCache

from strata.outcomes import Limit, Reason, Refused
from strata.tenants.limits.model import TenantLimits
from strata.tenants.limits.retry_after import MOST_SECONDS, PROMISE_SECONDS
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


MOST_USED = 2 * PRINCIPALS
"""Principals of one tenant whose use waits to be told to other servers; of further ones, only sums are."""

OWN_PLACES = 32
"""Most places that one principal has in the queue; also the refusals not yet forgiven from which a principal
gets no further one. Its requests then compete for what those in the queue leave."""

FEW_PLACES = 2
"""Places of one principal up to which a request without an attempt's number counts as a return from the exact
time on, not from the whole second."""

PLACES = 4096
"""Most places in the queue of one tenant; further refusals get none."""


@attrs.define(eq=False)
class Place:
    """A place in the queue for a rate: what its request waits for is paid, and the request returns for it.

    Attributes:
        scan: Whether it is for a request to materialize.
        due: When its request can be admitted.
        told: When its request is told to return, in whole seconds after its refusal.
        paid: The buckets that a token was taken from; empty once the place is used or has lapsed.
    """

    scan: bool
    due: float
    told: float
    paid: list[TokenBucket] = attrs.field(factory=list)

    def lapse(self) -> None:
        """Give back what was paid, unless the place was used."""
        for bucket in self.paid:
            bucket.give_back(1.0)
        self.paid.clear()


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


_Lapsing: TypeAlias = "tuple[float, int, Place]"


class _Asked(NamedTuple):
    """What a request needs of one bucket."""

    bucket: TokenBucket
    rule: RateRule
    amount: float
    whose: str


@attrs.define(eq=False)
class Buckets:
    """The buckets of a principal, or of a whole tenant."""

    requests: TokenBucket = attrs.field(factory=TokenBucket)
    scans: TokenBucket = attrs.field(factory=TokenBucket)
    bytes: TokenBucket = attrs.field(factory=TokenBucket)
    day: TokenBucket = attrs.field(factory=TokenBucket)
    _refusals: TokenBucket | None = None
    _places: list[Place] | None = None

    def place(self, now: float, *, scan: bool, attempt: int | None) -> Place | None:
        """Return the first place whose request may be this one; None if there is none.

        A client that numbers its attempts claims a place when it returns, from the exact time on. A request
        without a number may be a return or a new one, so it claims a place when a return is due: before
        that, new requests would use up the places of the waiting ones, unless these are few.
        """
        if not self._places or attempt == 1:
            return None
        self._places = [place for place in self._places if place.paid]
        exact = attempt is not None or len(self._places) <= FEW_PLACES
        for place in self._places:
            if place.scan == scan and (place.due if exact else place.told) <= now:
                return place
        return None

    def may_queue(self, now: float) -> bool:
        """Whether the principal may have one more place."""
        unforgiven = 0.0 if self._refusals is None else self._refusals.spent(REFUSALS, now)
        return max(unforgiven, len(self._places or ())) < OWN_PLACES

    def queue(self, place: Place) -> None:
        """Add a place."""
        self._places = [*(self._places or ()), place]

    def use(self, place: Place) -> None:
        """Note that the request of a place was admitted; forgives its refusal."""
        place.paid.clear()
        if self._refusals is not None:
            self._refusals.give_back(1.0)

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
        used: Called with a principal whenever something is taken from its buckets.
    """

    def __init__(
        self,
        limits: TenantLimits,
        most: int = PRINCIPALS,
        used: Callable[[str], object] = lambda _principal: None,
    ) -> None:
        self.rules = Rules.of(limits)
        self.all = Buckets()
        self._used = used
        self._principals: LRUCache[str, Buckets] = LRUCache(most)
        self._waiting = 0  # places that are neither used nor lapsed
        self._lapsing: list[_Lapsing] = []  # a heap of places by when they lapse; also used ones
        self._order = itertools.count()  # of places that lapse at one moment

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

    def known(self, principal: str) -> Buckets | None:
        """Return a principal's buckets, without counting as a use; None for one that is not remembered."""
        return Cache.get(self._principals, principal)

    def admit(self, principal: str, *, scan: bool, now: float, attempt: int | None = None) -> Refused | None:
        """Admit a request and take it from all buckets; or return the refusal of one that has too little.

        The request is taken at once from the buckets that refuse it. So each refusal waits for the tokens
        after those of earlier refusals, and a request that returns as told finds them. If it does not return
        within :data:`~strata.tenants.limits.retry_after.PROMISE_SECONDS`, others get them.

        Args:
            principal: The requesting principal.
            scan: Whether it is a request to materialize.
            now: Seconds of a monotonic clock.
            attempt: Number of this attempt at the request, from 1 on; None if the client does not tell.
        """
        self._lapse(now)
        self._used(principal)
        own = self.of(principal)
        place = own.place(now, scan=scan, attempt=attempt)
        asked = self._asked(own, scan=scan)
        if place is not None:
            asked = [one for one in asked if one.bucket not in place.paid]
        blocking = [(wait, one) for one in asked if (wait := one.bucket.wait(one.rule, now, one.amount))]
        if not blocking:
            for one in asked:
                one.bucket.take(one.rule, now, one.amount)
            if place is not None:
                own.use(place)
                self._waiting -= 1
            return None
        longest, found = max(blocking, key=lambda pair: pair[0])
        in_debt = any(not one.amount for _, one in blocking)  # of bytes, which cannot be paid in advance
        if not in_debt and longest <= MOST_SECONDS:
            place = place or Place(scan, now, now)
            self._queue_up(own, place, [one for _, one in blocking], now, longest)
        return _refused(found.rule, found.whose, longest)

    def _asked(self, own: Buckets, *, scan: bool) -> list[_Asked]:
        """Return what a request needs of each bucket; a bucket of bytes must only be free of debt."""
        rules, every = self.rules, self.all
        asked = [
            (own.requests, rules.own_requests, 1.0, "this principal"),
            (own.bytes, rules.own_bytes, 0.0, "this principal"),
            (own.day, rules.own_day, 0.0, "this principal"),
            (every.requests, rules.requests, 1.0, "this tenant"),
            (every.bytes, rules.bytes, 0.0, "this tenant"),
            (every.day, rules.day, 0.0, "this tenant"),
            (own.scans, rules.own_scans if scan else None, 1.0, "this principal"),
        ]
        return [
            _Asked(bucket, rule, amount, whose) for bucket, rule, amount, whose in asked if rule is not None
        ]

    def _queue_up(self, own: Buckets, place: Place, blocking: list[_Asked], now: float, wait: float) -> None:
        if not place.paid:
            if self._waiting >= PLACES or not own.may_queue(now):
                return
            own.queue(place)
            self._waiting += 1
        for one in blocking:
            one.bucket.take(one.rule, now, one.amount)
            place.paid.append(one.bucket)
        place.due, place.told = now + wait, now + _whole(wait)
        heapq.heappush(self._lapsing, (place.told + PROMISE_SECONDS, next(self._order), place))
        if len(self._lapsing) > 2 * PLACES:  # mostly places that were used
            self._lapsing = [entry for entry in self._lapsing if _is_current(entry)]
            heapq.heapify(self._lapsing)

    def _lapse(self, now: float) -> None:
        while self._lapsing and self._lapsing[0][0] < now:
            entry = heapq.heappop(self._lapsing)
            if _is_current(entry):
                entry[2].lapse()
                self._waiting -= 1

    def hold_up(self, principal: str, now: float) -> float:
        """Note a refusal of a principal; returns the seconds by which to delay it."""
        return self.of(principal).hold_up(now)

    def sent(self, principal: str, amount: int, now: float) -> None:
        """Count ``amount`` bytes as sent to ``principal``."""
        self._used(principal)
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
        self._lapse(now)
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

    Attributes:
        used: By tenant, the principals whose buckets were used since other servers were told of it; None: no
            other server is told.
    """

    def __init__(self, limits: Callable[[str], TenantLimits], most: int = TENANTS) -> None:
        self.used: dict[str, dict[str, None]] | None = None
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
        used = partial(self._note_use, tenant)
        found = self._tenants[tenant] = TenantRates(self._limits(tenant), used=used)
        return found

    def known(self, tenant: str) -> TenantRates | None:
        """Return a tenant's rates, without counting as a use; None for one that is not remembered."""
        return self._tenants.get(tenant)

    def update(self, tenants: Collection[str] | None = None) -> None:
        """Take over the present limits of ``tenants``, or of all; tokens taken stay taken."""
        changed = self._tenants if tenants is None else self._tenants.keys() & set(tenants)
        for tenant in changed:
            self._tenants[tenant].rules = Rules.of(self._limits(tenant))

    def _note_use(self, tenant: str, principal: str) -> None:
        if self.used is not None:
            principals = self.used.setdefault(tenant, {})
            if len(principals) < MOST_USED:
                principals[principal] = None

    def _make_room(self, now: float) -> None:
        looked_at = list(itertools.islice(self._tenants, LOOKED_AT))
        gone = next((one for one in looked_at if self._tenants[one].at_rest(now)), looked_at[0])
        del self._tenants[gone]
        if self.used is not None:
            self.used.pop(gone, None)


def _is_current(entry: _Lapsing) -> bool:
    """Whether a place is still waiting, and was not told to return later meanwhile."""
    when, _, place = entry
    return bool(place.paid) and when == place.told + PROMISE_SECONDS


def _whole(wait: float) -> int:
    return max(1, math.ceil(wait))


def _refused(rule: RateRule, whose: str, wait: float) -> Refused:
    seconds = _whole(wait)
    detail = (
        f"Rate limit {rule.name} ({rule.value:.15g} {rule.what}) exceeded for {whose}. "
        f"Retry after {seconds} s."
    )
    limit = Limit(rule.name, int(rule.burst), seconds, rule.value, rule.window, wait)
    return Refused(Reason.BUSY, detail, rule.name, seconds, limit=limit)

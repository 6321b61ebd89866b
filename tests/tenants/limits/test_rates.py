"""Rate limits are reached exactly, by the tenant or principal concerned and by no other."""

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from strata.outcomes import Reason, Refused
from strata.tenants import TenantLimits
from strata.tenants.limits.bandwidth import BandwidthLimiter
from strata.tenants.limits.rates import MOST_HELD_UP, RateBook, TenantRates
from strata.tenants.limits.token_bucket import BURST_SECONDS, DAY, RateRule, TokenBucket

NONE = TenantLimits(requests_per_second=0, principal_requests_per_second=0, principal_scans_per_second=0)


def rates(**limits: float) -> TenantRates:
    return TenantRates(attrs.evolve(NONE, **limits))


def admitted(found: TenantRates, principal: str = "ana", *, scan: bool = False, now: float = 0.0) -> bool:
    return found.admit(principal, scan=scan, now=now) is None


REQUESTS = [
    ("requests_per_second", "rate_limit_global_rps", False),
    ("principal_requests_per_second", "rate_limit_client_rps", False),
    ("principal_scans_per_second", "rate_limit_scan_rps", True),
]


@pytest.mark.parametrize(("field", "name", "scan"), REQUESTS)
def test_a_rate_of_requests_is_reached_exactly(field: str, name: str, scan: bool) -> None:  # noqa: FBT001  # a case
    """A burst of two seconds' worth is admitted, then one request per interval."""
    found = rates(**{field: 10})
    assert all(admitted(found, scan=scan) for _ in range(10 * BURST_SECONDS))

    refused = found.admit("ana", scan=scan, now=0.0)
    assert isinstance(refused, Refused)
    assert (Reason.BUSY, name, 10, 1) == (
        refused.reason,
        refused.code,
        refused.limit.value,
        refused.retry_after,
    )
    assert (20, 2) == (refused.limit.quota, refused.limit.window)
    assert not admitted(found, scan=scan, now=0.0999)
    assert admitted(found, scan=scan, now=0.1)
    assert not admitted(found, scan=scan, now=0.1)


BYTES = [
    ("bytes_per_second", "rate_limit_bytes_per_second", 1),
    ("principal_bytes_per_second", "rate_limit_client_bytes_per_second", 1),
    ("bytes_per_day", "rate_limit_bytes_per_day", DAY),
    ("principal_bytes_per_day", "rate_limit_client_bytes_per_day", DAY),
]


@pytest.mark.parametrize(("field", "name", "seconds"), BYTES)
def test_a_request_is_refused_while_its_bytes_are_in_debt(field: str, name: str, seconds: int) -> None:
    """Requests are refused from the first byte above the bucket until that byte has been refilled."""
    found = rates(**{field: 1000})
    burst = 1000 if seconds == DAY else 1000 * BURST_SECONDS
    found.sent("ana", burst, 0.0)
    assert admitted(found)

    found.sent("ana", 1, 0.0)
    refused = found.admit("ana", scan=False, now=0.0)
    assert isinstance(refused, Refused)
    assert (name, burst) == (refused.code, refused.limit.quota)
    assert 1 <= refused.retry_after <= seconds / 1000 + 1
    assert admitted(found, now=seconds / 1000)


def test_a_principal_that_floods_takes_nothing_of_its_tenant() -> None:
    """A refused request takes no token from any bucket."""
    found = rates(requests_per_second=10, principal_requests_per_second=1)
    seen = [admitted(found) for _ in range(1000)]

    assert 2 == sum(seen)
    assert 18 == sum(admitted(found, f"p{number}") for number in range(1000))


def test_nothing_is_limited_where_no_limit_is_set() -> None:
    """A rate of 0 is no limit, and rate_limit_enabled = false turns off all of them."""
    for limits in (NONE, TenantLimits(rate_limited=False, bytes_per_day=1)):
        found = TenantRates(limits)
        found.sent("ana", 10**12, 0.0)
        assert all(admitted(found, scan=True) for _ in range(5000))


def test_a_rate_below_one_a_second_lets_one_through() -> None:
    """A burst is at least one request."""
    found = rates(principal_requests_per_second=0.1)
    assert [True, False, True] == [admitted(found, now=now) for now in (0.0, 9.9, 10.1)]


def test_inventing_principals_makes_no_fresh_buckets() -> None:
    """A new principal takes over the bucket of the forgotten one, as empty as it is."""
    found = TenantRates(attrs.evolve(NONE, principal_requests_per_second=1), most=10)
    total = sum(admitted(found, f"p{number}") for number in range(1000))

    assert 10 * BURST_SECONDS == total
    assert 10 == len(found)


def test_a_new_limit_holds_at_once_for_what_was_taken() -> None:
    """A changed limit applies at once to tokens already taken."""
    limits = attrs.evolve(NONE, principal_requests_per_second=10)
    current = [limits]
    book = RateBook(lambda _tenant: current[0])
    assert all(admitted(book.of("a", 0.0)) for _ in range(15))

    current[0] = attrs.evolve(limits, principal_requests_per_second=5)
    book.update()
    assert not admitted(book.of("a", 0.0))
    current[0] = attrs.evolve(limits, principal_requests_per_second=10)
    book.update()
    assert admitted(book.of("a", 0.0))


def test_a_lowered_limit_bars_nobody_for_longer_than_what_was_taken_takes() -> None:
    """Debt above a lowered limit is refilled at the rate it was taken at, then the new rate holds."""
    current = [attrs.evolve(NONE, bytes_per_day=10**12)]
    book = RateBook(lambda _tenant: current[0])
    book.of("a", 0.0).sent("ana", 10**11, 0.0)
    assert admitted(book.of("a", 0.0))

    current[0] = attrs.evolve(NONE, bytes_per_day=10**6)
    book.update()
    refused = book.of("a", 0.0).admit("ana", scan=False, now=0.0)
    assert isinstance(refused, Refused)
    assert DAY // 10 == refused.retry_after  # not 99,999 days
    assert not admitted(book.of("a", 0.0), now=DAY // 10 - 1)
    assert admitted(book.of("a", 0.0), now=DAY // 10)

    book.of("a", 0.0).sent("ana", 10**6, DAY // 10)  # as much again as a day's
    assert not admitted(book.of("a", 0.0), now=DAY)
    assert admitted(book.of("a", 0.0), now=DAY // 10 + DAY)


def test_lowering_a_limit_and_raising_it_again_forgives_nothing() -> None:
    """A tenant that may change its own limits cannot clear its debt with them."""
    high = RateRule.each_day("high", 10**12, "bytes")
    low = RateRule.each_day("low", 10**6, "bytes")
    changed, kept = TokenBucket(), TokenBucket()
    for bucket in (changed, kept):
        bucket.take(high, 0.0, 10**11)
    changed.wait(low, 1.0, 0.0)
    assert pytest.approx(kept.spent(high, 2.0)) == changed.spent(high, 2.0)


def test_a_change_of_one_tenants_limits_costs_the_others_nothing() -> None:
    """A change of limits touches the buckets of that tenant alone."""
    limits = {"a": NONE, "b": NONE}
    book = RateBook(limits.__getitem__)
    rules = {tenant: book.of(tenant, 0.0).rules for tenant in limits}
    limits["a"] = attrs.evolve(NONE, bytes_per_day=5)
    book.update({"a", "nobody"})
    assert 5 == book.of("a", 0.0).rules.day.value
    assert rules["b"] is book.of("b", 0.0).rules
    assert 2 == len(book)


def test_tenants_are_forgotten_only_when_they_owe_nothing() -> None:
    """A tenant in debt keeps its bucket over an eviction, and the number of buckets is bounded."""
    book = RateBook(lambda _tenant: attrs.evolve(NONE, requests_per_second=1), most=3)
    assert [True, True, False] == [admitted(book.of("debtor", 0.0)) for _ in range(3)]
    for number in range(50):
        book.of(f"visitor-{number}", 0.0)

    assert 3 == len(book)
    assert not admitted(book.of("debtor", 0.0))
    assert admitted(book.of("debtor", 1.0), now=1.0)


def test_one_tenants_flood_is_nothing_to_another() -> None:
    """Tenants share no bucket: with one, a flood got 21 of 22 of another tenant's requests refused."""
    book = RateBook(lambda _tenant: TenantLimits())
    flood = [admitted(book.of("a", 0.0), f"p{number % 100}") for number in range(20_000)]

    assert 2000 == sum(flood)
    assert all(admitted(book.of("b", 0.0), f"p{number % 100}") for number in range(2000))


def test_buckets_rest_when_all_has_come_back() -> None:
    """Full buckets, and principals with them, are forgotten."""
    found = rates(principal_requests_per_second=1, bytes_per_second=10)
    admitted(found)
    found.sent("ana", 10, 0.0)
    assert not found.at_rest(0.5)
    assert (True, 0) == (found.at_rest(2.0), len(found))


def test_each_refusal_is_held_up_longer_and_never_beyond_a_second() -> None:
    """The delay of refusals grows to at most a second and is reset after a while."""
    found = rates()
    pauses = [found.hold_up("ana", 0.0) for _ in range(500)]

    assert (0.0, MOST_HELD_UP) == (pauses[0], pauses[-1])
    assert pauses == sorted(pauses)
    assert 0.0 == found.hold_up("bob", 0.0)
    assert 0.0 == found.hold_up("ana", 100.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 30)), max_size=50), st.floats(0.1, 50))
def test_a_bucket_never_gives_more_than_its_rate(steps: list[tuple[float, float]], rate: float) -> None:
    """Over any period a bucket gives at most its burst and the rate times the period."""
    rule = RateRule.each_second("r", rate, "requests")
    bucket, now, given_ = TokenBucket(), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        wanted = min(amount, rule.burst)
        if not bucket.wait(rule, now, wanted):
            bucket.take(rule, now, wanted)
            given_ += wanted
        assert given_ <= (rule.burst + rate * now) * (1 + 1e-6)


async def test_streams_are_paced_and_share_by_principal(autojump_clock: MockClock) -> None:
    """The tenant's bytes per second hold, and a principal with nine streams gets no more than with one."""
    found = rates(bytes_per_second=1000)
    sent = {"ana": 0, "bob": 0}

    async def stream(principal: str) -> None:
        while True:
            await BandwidthLimiter(found, principal).pace(100)
            sent[principal] += 100

    with trio.move_on_after(30):
        async with trio.open_nursery() as nursery:
            for principal in ("ana",) * 9 + ("bob",):
                nursery.start_soon(stream, principal)

    assert 1000 * (30 + BURST_SECONDS) - 200 <= sum(sent.values()) <= 1000 * (30 + BURST_SECONDS)
    assert sent["bob"] >= 14_000
    assert admitted(found, now=trio.current_time()), "pacing makes no debt"


async def test_a_piece_larger_than_the_bucket_is_sent_and_paid_for(autojump_clock: MockClock) -> None:
    """A piece above the bucket's size is sent, and later ones wait for it to be refilled."""
    found = rates(principal_bytes_per_second=100)
    began = trio.current_time()
    for _ in range(3):
        await BandwidthLimiter(found, "ana").pace(1000)

    assert trio.current_time() - began == pytest.approx(20)
    assert not admitted(found, now=trio.current_time())


async def test_a_paced_stream_sees_a_raised_limit_within_a_second(autojump_clock: MockClock) -> None:
    """A waiting stream applies a raised limit within a second."""
    found = rates(principal_bytes_per_second=1)
    await BandwidthLimiter(found, "ana").pace(1000)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(BandwidthLimiter(found, "ana").pace, 1000)
        await trio.sleep(5)
        found.rules = TenantRates(NONE).rules
    assert trio.current_time() - began <= 6


async def test_a_reader_that_leaves_while_it_waits_holds_up_nobody(autojump_clock: MockClock) -> None:
    """After a thousand cancelled waits other readers proceed, and no unsent byte was counted."""
    found = rates(bytes_per_second=100)
    await BandwidthLimiter(found, "ana").pace(200)

    async def leave(after: float, principal: str) -> None:
        with trio.move_on_after(after):
            await BandwidthLimiter(found, principal).pace(10**9)

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(leave, (number % 97 + 1) / 100, f"p{number % 7}")
    began = trio.current_time()
    await BandwidthLimiter(found, "bob").pace(100)
    assert trio.current_time() - began <= 1

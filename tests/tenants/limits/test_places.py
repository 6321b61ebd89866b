"""Who is refused by a rate has a place in its queue: Retry-After is the place's time, and a return is served."""

import datetime as dt
import random
from collections import Counter
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock

from strata.client.retry import RetryPolicy, next_wait
from strata.outcomes import Refused
from strata.tenants import TenantLimits
from strata.tenants.limits.rates import OWN_PLACES, PLACES, TenantRates
from strata.tenants.limits.retry_after import PROMISE_SECONDS

NONE = TenantLimits(requests_per_second=0, principal_requests_per_second=0, principal_scans_per_second=0)
LIMITS = ("requests_per_second", "principal_requests_per_second", "principal_scans_per_second")
NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def rates(**limits: float) -> TenantRates:
    return TenantRates(attrs.evolve(NONE, **limits))


def refused(found: TenantRates, now: float, principal: str = "ana", *, scan: bool = False) -> Refused:
    answer = found.admit(principal, scan=scan, now=now)
    assert isinstance(answer, Refused)
    assert answer.limit is not None
    return answer


def drained(**limits: float) -> TenantRates:
    """Return rates whose burst was taken at second 0."""
    found = rates(**limits)
    while found.admit("ana", scan=True, now=0.0) is None:
        pass
    return found


@pytest.mark.parametrize("limit", LIMITS)
def test_what_is_said_follows_from_the_rate(limit: str) -> None:
    """With a token every 0.2 s, each refusal waits 0.2 s longer than the one before, and no more."""
    found = drained(**{limit: 5})
    answers = [refused(found, 0.0, scan=True) for _ in range(20)]
    assert [pytest.approx(0.2 * (number + 2)) for number in range(20)] == [one.limit.wait for one in answers]
    assert [1] * 4 + [2] * 5 + [3] * 5 + [4] * 5 + [5] == [one.retry_after for one in answers]


def test_a_return_is_served_before_those_who_were_not_refused() -> None:
    """A new request does not get the token that was promised, and waits behind it."""
    found = drained(requests_per_second=5)
    first = refused(found, 0.0, "bob")
    for now in (0.2, 0.39):
        assert refused(found, now, "eve").limit.wait > 0.2
    assert first.limit.wait == pytest.approx(0.4)
    assert found.admit("bob", scan=False, now=0.4, attempt=2) is None


def test_a_return_before_its_time_waits_on() -> None:
    """It gets another place, as any request; the first one stays."""
    found = drained(principal_requests_per_second=5)
    due = refused(found, 0.0).limit.wait
    assert isinstance(found.admit("ana", scan=False, now=due - 0.01, attempt=2), Refused)
    assert found.admit("ana", scan=False, now=due, attempt=2) is None


def test_only_a_return_uses_a_place() -> None:
    """A first attempt never does; one without a number does when the whole seconds are over that it was told."""
    found = drained(principal_requests_per_second=5)
    due, told = refused(found, 0.0).limit.wait, 1
    refused(found, 0.0)
    assert isinstance(found.admit("ana", scan=False, now=due, attempt=1), Refused)
    assert isinstance(found.admit("ana", scan=False, now=due), Refused)
    assert isinstance(found.admit("ana", scan=False, now=told - 0.01), Refused)
    assert found.admit("ana", scan=False, now=told) is None


def test_a_place_is_for_the_kind_of_request_that_was_refused() -> None:
    """A place for a scan is not used up by another request of the principal."""
    found = drained(principal_scans_per_second=1)
    due = refused(found, 0.0, scan=True).limit.wait
    assert found.admit("ana", scan=False, now=due) is None
    assert found.admit("ana", scan=True, now=due) is None


def test_who_does_not_return_leaves_its_place_to_others() -> None:
    """After a while the tokens that were kept for it are given back."""
    found = rates(requests_per_second=0.1)
    assert found.admit("ana", scan=False, now=0.0) is None
    due = [refused(found, 0.0, name).limit.wait for name in ("bob", "eve", "zoe")][-1]
    late = due + PROMISE_SECONDS + 1
    assert found.admit("ana", scan=False, now=late) is None
    assert 10 == pytest.approx(refused(found, late).limit.wait)
    assert 3 >= len(found._lapsing)


def test_a_principal_over_its_own_rate_takes_nothing_of_its_tenant() -> None:
    """Its places are paid from its own bucket; the tenant's is paid when it returns."""
    found = rates(requests_per_second=100, principal_requests_per_second=1)
    for _ in range(1000):
        found.admit("ana", scan=False, now=0.0)
    assert 2 == found.all.requests.spent(found.rules.requests, 0.0)


def test_a_return_that_meets_another_limit_keeps_what_it_paid() -> None:
    """A request that waited for its principal's rate, and then for the tenant's, is served after both."""
    found = rates(requests_per_second=1, principal_requests_per_second=1)
    assert [None, None] == [found.admit("ana", scan=False, now=0.0) for _ in range(2)]
    found.rules = attrs.evolve(found.rules, requests=None)
    due = refused(found, 0.0).limit.wait
    found.rules = rates(requests_per_second=1, principal_requests_per_second=1).rules
    for _ in range(3):
        found.admit("bob", scan=False, now=due)
    later = due + refused(found, due).limit.wait
    assert found.admit("ana", scan=False, now=later) is None


def test_places_are_bounded() -> None:
    """One principal, all principals together, and used places have bounds; beyond, requests compete."""
    found = drained(requests_per_second=10, principal_requests_per_second=10)
    for _ in range(1000):
        refused(found, 0.0)
    assert OWN_PLACES == len(found.of("ana")._places)
    for number in range(200):
        for _ in range(100):
            found.admit(f"p{number}", scan=False, now=0.0)
    assert PLACES >= found._waiting == len(found._lapsing)
    assert refused(found, 0.0, "new").retry_after <= PLACES / 10 + 1

    quick = drained(principal_requests_per_second=1000)
    for number in range(3 * PLACES):
        now = number / 1000
        due = now + refused(quick, now).limit.wait
        assert quick.admit("ana", scan=False, now=due, attempt=2) is None
    assert len(quick._lapsing) <= 2 * PLACES + 1
    assert 1 == quick._waiting  # of drained()


def test_who_goes_on_regardless_gets_no_more_places() -> None:
    """Many refusals that are not forgiven yet show that; a return as told is forgiven."""
    found = drained(principal_requests_per_second=10)
    for _ in range(OWN_PLACES):
        found.hold_up("ana", 0.0)
    wait = refused(found, 0.0).limit.wait
    assert wait == refused(found, 0.0).limit.wait
    assert found.of("ana")._places in (None, [*found.of("ana")._places][:1])


@attrs.define
class Server:
    """Rates, and who was served by them."""

    rates: TenantRates
    served: Counter[str] = attrs.field(factory=Counter)
    given_up: int = 0

    def ask(self, principal: str, *, scan: bool, attempt: int | None = None) -> Refused | None:
        now = trio.current_time()
        found = self.rates.admit(principal, scan=scan, now=now, attempt=attempt)
        if found is None:
            self.served[principal] += 1
        else:
            self.rates.hold_up(principal, now)
        return found

    async def obey(self, principal: str, chance: random.Random, *, exact: bool, scan: bool) -> None:
        """Send one request after the other, each repeated as Strata's client does.

        A client that does not read the exact wait does not number its attempts either.
        """
        while True:
            begun, attempt = trio.current_time(), 1
            while (found := self.ask(principal, scan=scan, attempt=attempt if exact else None)) is not None:
                wait = next_wait(
                    RetryPolicy(),
                    status=429,
                    retry_after=str(found.retry_after),
                    exact=found.limit.wait if exact else None,
                    attempt=attempt,
                    elapsed=trio.current_time() - begun,
                    now=NOW,
                    chance=chance.random(),
                )
                if wait is None:
                    self.given_up += 1
                    break
                attempt += 1
                await trio.sleep(wait)
            await trio.sleep(0.002)

    async def flood(self, principal: str) -> None:
        """Send requests without regard to the answers."""
        while True:
            self.ask(principal, scan=False)
            await trio.sleep(0.01)


@pytest.mark.parametrize(("rate", "seconds"), [(0.2, 300), (5, 60), (50, 30)])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("exact", [True, False])
async def test_eight_obedient_threads_get_the_rate(
    limit: str, rate: float, seconds: int, *, exact: bool, autojump_clock: MockClock
) -> None:
    """At least 0.9 of the rate is served to threads that obey Retry-After, and Strata's client never gives up."""
    server = Server(drained(**{limit: rate}))
    chance = random.Random(7)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                principal = f"p{number}" if limit == "requests_per_second" else "ana"
                asking = {"exact": exact, "scan": limit == "principal_scans_per_second"}
                nursery.start_soon(partial(server.obey, principal, chance, **asking))
    assert 0.9 * rate * seconds <= server.served.total() <= rate * (seconds + 2) + 8
    assert server.given_up <= (0 if exact else 0.03 * server.served.total())


@pytest.mark.parametrize("rate", [5, 50])
async def test_who_obeys_is_served_beside_a_flood(rate: float, autojump_clock: MockClock) -> None:
    """A principal that ignores Retry-After leaves at least 0.9 of its tenant's rate to those who obey."""
    server, seconds = Server(drained(requests_per_second=rate)), 120
    chance = random.Random(7)
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.flood, "eve")
            for number in range(8):
                nursery.start_soon(partial(server.obey, f"p{number}", chance, exact=True, scan=False))
    flooded = server.served.pop("eve")
    assert 0.9 * rate * seconds <= server.served.total(), flooded
    assert 0 == server.given_up

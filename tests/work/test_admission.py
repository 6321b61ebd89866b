"""The admission queue admits one request at a time, tenants and principals in turn."""

import math
import random

import pytest
import trio
from fair_bounds import most_before
from trio.testing import MockClock

from strata.work import AdmissionQueue, AdmissionToken
from strata.work.admission import INTERACTIVE_REQUESTS, PATIENCE_SECONDS, TOKENS
from strata.work.fair import BULK_FLOOR


class Counter:
    """Requests of ten passes of the loop each, and the order in which they began."""

    def __init__(self, admission: AdmissionQueue) -> None:
        self.admission = admission
        self.began: list[str] = []
        self.admitted = self.most = 0

    async def request(self, tenant: str, principal: str = "ana", seconds: float = 0.0) -> None:
        token = await self.admission.take(tenant, principal)
        self.began.append(f"{tenant}/{principal}")
        self.admitted += 1
        self.most = max(self.most, self.admitted)
        try:
            if seconds:
                await trio.sleep(seconds)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
        finally:
            self.admitted -= 1
            token.release()


async def _later(counter: Counter, tenant: str, principal: str = "ana") -> None:
    for _ in range(50):
        await trio.lowlevel.checkpoint()
    counter.began.append("asked")
    await counter.request(tenant, principal)


def _between(began: list[str], who: str) -> int:
    return began.index(who) - began.index("asked") - 1


async def test_few_requests_are_admitted_whatever_their_tenants(autojump_clock: MockClock) -> None:
    """At most as many requests are admitted as there are places."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(counter.request, f"t{number % 7}")
    assert TOKENS == counter.most
    assert 100 == len(counter.began)
    assert (0, 0) == (counter.admission.taken, counter.admission.waiting)


@pytest.mark.parametrize("crowds", [1, 5])
async def test_a_crowd_delays_a_request_by_one_of_each_crowd(autojump_clock: MockClock, crowds: int) -> None:
    """A request waits for one request of each backlogged tenant, and for those already admitted."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for number in range(64 * crowds):
            nursery.start_soon(counter.request, f"crowd{number % crowds}")
        nursery.start_soon(_later, counter, "quiet")
    assert _between(counter.began, "quiet/ana") <= most_before(crowds + 1)


async def test_a_principals_crowd_delays_another_of_its_tenant_by_one(autojump_clock: MockClock) -> None:
    """Principals of a tenant take turns as tenants do."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(counter.request, "team", "loud")
        nursery.start_soon(_later, counter, "team", "quiet")
    assert _between(counter.began, "team/quiet") <= 1


async def test_a_tenant_of_twice_the_weight_has_two_turns_a_round(autojump_clock: MockClock) -> None:
    """Weights count as they do in the work pool."""
    counter = Counter(AdmissionQueue(tokens=1))
    counter.admission.weight_of = {"heavy": 2.0, "light": 1.0}.__getitem__
    async with trio.open_nursery() as nursery:
        for tenant in ("heavy", "light"):
            for _ in range(64):
                nursery.start_soon(counter.request, tenant)
    both = counter.began[:60]
    assert pytest.approx(40, abs=2) == both.count("heavy/ana")


async def test_a_request_that_waits_elsewhere_loses_its_token(autojump_clock: MockClock) -> None:
    """With every place held by a wait for a slow catalog, the next request is admitted when they are due."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for _ in range(TOKENS):
            nursery.start_soon(counter.request, "slow", "ana", 60.0)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for _ in range(3 * TOKENS):
            nursery.start_soon(counter.request, "slow", "ana", 60.0)
        await counter.request("quick")
        assert pytest.approx(PATIENCE_SECONDS) == trio.current_time() - began
    assert (0, 0) == (counter.admission.taken, counter.admission.waiting)


async def test_the_loop_never_idles_while_requests_wait(autojump_clock: MockClock) -> None:
    """When the loop idles, the next request is admitted with no time passing."""
    counter = Counter(AdmissionQueue())
    with counter.admission.watching():
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(counter.request, f"t{number % 3}", "ana", 60.0)
            began = trio.current_time()
            await counter.request("quick")
            assert began == trio.current_time()
    assert (0, 0) == (counter.admission.taken, counter.admission.waiting)


async def test_a_backlog_goes_after_tenants_without_one_with_a_floor(autojump_clock: MockClock) -> None:
    """Ten tenants that ask for one thing after another wait for the crowd in every fourth turn only."""
    counter = Counter(AdmissionQueue())

    async def ask_twice(tenant: str) -> None:
        await counter.request(tenant)
        await counter.request(tenant)

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(counter.request, "crowd")
        await trio.lowlevel.checkpoint()
        before = len(counter.began)
        for number in range(10):
            nursery.start_soon(ask_twice, f"quiet{number}")
    until = max(place for place, who in enumerate(counter.began) if who.startswith("quiet"))
    crowd = [who.startswith("crowd") for who in counter.began[before : until + 1]]
    assert 20 // BULK_FLOOR <= sum(crowd) <= INTERACTIVE_REQUESTS + 1 + len(crowd) // BULK_FLOOR


async def test_an_overdue_token_is_not_taken_back_twice(autojump_clock: MockClock) -> None:
    """Leaving a token whose place was taken over frees no other place."""
    admission = AdmissionQueue(tokens=1)
    slow = await admission.take("slow", "ana")
    quick = await admission.take("quick", "ana")
    assert pytest.approx(PATIENCE_SECONDS) == trio.current_time() - (quick.due - 2 * PATIENCE_SECONDS)
    slow.release()
    assert 1 == admission.taken
    quick.release()
    quick.release()
    assert 0 == admission.taken


@pytest.mark.parametrize("seed", range(20))
async def test_no_token_is_lost_by_a_cancellation(autojump_clock: MockClock, seed: int) -> None:
    """After a thousand cancels at any await all places are free, and no waiter is remembered."""
    counter, draw = Counter(AdmissionQueue(tokens=3)), random.Random(seed)

    async def passing(scope: trio.CancelScope) -> None:
        with scope:
            await counter.request(
                f"t{draw.randrange(4)}", f"p{draw.randrange(3)}", draw.choice([0, 0, 0.005, 0.03])
            )

    async with trio.open_nursery() as nursery:
        scopes = []
        for _ in range(50):
            scopes.append(trio.CancelScope())
            nursery.start_soon(passing, scopes[-1])
            for _ in range(draw.randrange(4)):
                await trio.lowlevel.checkpoint()
            draw.choice(scopes).cancel()
    assert (0, 0) == (counter.admission.taken, counter.admission.waiting)
    with trio.fail_after(1):
        await counter.request("after")


def test_an_admission_queue_has_a_token() -> None:
    """Without one no request would ever be admitted."""
    with pytest.raises(ValueError, match="at least one token, not 0"):
        AdmissionQueue(tokens=0)


async def test_a_released_token_admits_another_request_at_once(autojump_clock: MockClock) -> None:
    """Also on a loop that never idles: a request that waits for a thread delays no other."""
    admission, began = AdmissionQueue(), []

    async def waits() -> None:
        token = await admission.take("a", "ana")
        began.append("waits")
        token.release()
        token.release()  # once is enough, and twice is harmless
        await trio.sleep_forever()

    async def follows() -> None:
        (await admission.take("b", "bob")).release()
        began.append("follows")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(follows)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert ["waits", "follows"] == began
        nursery.cancel_scope.cancel()
    assert (0, 0) == (admission.taken, admission.waiting)


def test_a_token_of_no_queue_is_released_already() -> None:
    """A probe is never admitted, and releases what it has like any request."""
    token = AdmissionToken()
    token.release()
    assert AdmissionToken().due == token.due == math.inf

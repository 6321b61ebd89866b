"""A few requests are in hand at a time, and who has more of them waits behind itself."""

import math
import random

import pytest
import trio
from trio.testing import MockClock

from strata.work import AdmissionQueue, AdmissionToken
from strata.work.admission import INTERACTIVE_REQUESTS, PATIENCE_SECONDS, TOKENS
from strata.work.fair import BULK_FLOOR, most_before


class Counter:
    """Requests that take ten passes of the loop each, and the order in which they began."""

    def __init__(self, desk: AdmissionQueue) -> None:
        self.admission = desk
        self.began: list[str] = []
        self.in_hand = self.most = 0

    async def request(self, tenant: str, principal: str = "ana", seconds: float = 0.0) -> None:
        place = await self.admission.take(tenant, principal)
        self.began.append(f"{tenant}/{principal}")
        self.in_hand += 1
        self.most = max(self.most, self.in_hand)
        try:
            if seconds:
                await trio.sleep(seconds)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
        finally:
            self.in_hand -= 1
            place.release()


async def _later(counter: Counter, tenant: str, principal: str = "ana") -> None:
    for _ in range(50):
        await trio.lowlevel.checkpoint()
    counter.began.append("asked")
    await counter.request(tenant, principal)


def _between(began: list[str], who: str) -> int:
    return began.index(who) - began.index("asked") - 1


async def test_few_requests_are_in_hand_whoever_sent_them(autojump_clock: MockClock) -> None:
    """A place is taken when one is left, and never one too many."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(counter.request, f"t{number % 7}")
    assert TOKENS == counter.most
    assert 100 == len(counter.began)
    assert (0, 0) == (counter.admission.taken, counter.admission.waiting)


@pytest.mark.parametrize("crowds", [1, 5])
async def test_a_crowd_delays_a_request_by_one_of_each_crowd(autojump_clock: MockClock, crowds: int) -> None:
    """And by those in hand, which began before it."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for number in range(64 * crowds):
            nursery.start_soon(counter.request, f"crowd{number % crowds}")
        nursery.start_soon(_later, counter, "quiet")
    assert _between(counter.began, "quiet/ana") <= most_before(crowds + 1)


async def test_a_principals_crowd_delays_another_of_its_tenant_by_one(autojump_clock: MockClock) -> None:
    """Tenants share a desk, and so do those within a tenant."""
    counter = Counter(AdmissionQueue())
    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(counter.request, "team", "loud")
        nursery.start_soon(_later, counter, "team", "quiet")
    assert _between(counter.began, "team/quiet") <= 1


async def test_a_tenant_of_twice_the_weight_has_two_turns_a_round(autojump_clock: MockClock) -> None:
    """As in the work pool."""
    counter = Counter(AdmissionQueue(tokens=1))
    counter.admission.weight_of = {"heavy": 2.0, "light": 1.0}.__getitem__
    async with trio.open_nursery() as nursery:
        for tenant in ("heavy", "light"):
            for _ in range(64):
                nursery.start_soon(counter.request, tenant)
    both = counter.began[:60]
    assert pytest.approx(40, abs=2) == both.count("heavy/ana")


async def test_a_request_that_waits_elsewhere_makes_room(autojump_clock: MockClock) -> None:
    """All places are held by those who wait for a slow catalog: the next one begins when they are due."""
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


async def test_the_loop_never_idles_while_somebody_waits(autojump_clock: MockClock) -> None:
    """Whoever is in hand then waits for something else: no time passes before the next one begins."""
    counter = Counter(AdmissionQueue())
    with counter.admission.watching():
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(counter.request, f"t{number % 3}", "ana", 60.0)
            began = trio.current_time()
            await counter.request("quick")
            assert began == trio.current_time()
    assert (0, 0) == (counter.admission.taken, counter.admission.waiting)


async def test_a_crowd_goes_after_those_who_ask_for_little_with_a_floor(autojump_clock: MockClock) -> None:
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


async def test_places_of_those_who_waited_elsewhere_are_not_given_twice(autojump_clock: MockClock) -> None:
    """A place that was taken over is nobody's to give back."""
    desk = AdmissionQueue(tokens=1)
    slow = await desk.take("slow", "ana")
    quick = await desk.take("quick", "ana")
    assert pytest.approx(PATIENCE_SECONDS) == trio.current_time() - (quick.due - 2 * PATIENCE_SECONDS)
    slow.release()
    assert 1 == desk.taken
    quick.release()
    quick.release()
    assert 0 == desk.taken


@pytest.mark.parametrize("seed", range(20))
async def test_no_place_is_lost_whoever_is_cancelled(autojump_clock: MockClock, seed: int) -> None:
    """A thousand cancellations at any await; then all places are free, and nobody is remembered."""
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


def test_a_desk_has_a_place() -> None:
    """Without one nobody would ever be served."""
    with pytest.raises(ValueError, match="at least one token, not 0"):
        AdmissionQueue(tokens=0)


async def test_whoever_steps_aside_lets_another_begin_at_once(autojump_clock: MockClock) -> None:
    """On a loop that never idles, too: a request that waits for a thread holds nobody up."""
    desk, began = AdmissionQueue(), []

    async def waits() -> None:
        token = await desk.take("a", "ana")
        began.append("waits")
        token.release()
        token.release()  # once is enough, and twice is harmless
        await trio.sleep_forever()

    async def follows() -> None:
        (await desk.take("b", "bob")).release()
        began.append("follows")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(follows)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert ["waits", "follows"] == began
        nursery.cancel_scope.cancel()
    assert (0, 0) == (desk.taken, desk.waiting)


def test_a_token_of_no_queue_is_released_already() -> None:
    """A probe is never admitted, and releases what it has like any request."""
    token = AdmissionToken()
    token.release()
    assert AdmissionToken().due == token.due == math.inf

"""Slots are taken in turn, refused after a timeout and given back exactly once."""

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.outcomes import Limit, Reason, Refused
from strata.tenants.limits.retry_after import (
    PROMISE_SECONDS,
    PROMISED_KEYS,
    PROMISES_PER_KEY,
    RetryAfterEstimator,
)
from strata.tenants.limits.slots import Lease, Slots


async def take(slots: Slots, timeout: float = 10.0) -> Lease:
    lease = await slots.queue("ana").wait(timeout)
    assert isinstance(lease, Lease)
    return lease


async def test_a_queue_timeout_refuses_and_names_the_limit(autojump_clock: MockClock) -> None:
    """Retry-After is never 0, and the refusal names the limit."""
    slots = Slots("bulk_slots", 1)
    held = await take(slots)

    refused = await slots.queue("ana").wait(0.2)

    assert isinstance(refused, Refused)
    assert (Reason.BUSY, 1, Limit("bulk_slots", 1, 1)) == (refused.reason, refused.retry_after, refused.limit)
    assert (1, 0) == (slots.used, slots.waiting)
    held.release()


async def test_releasing_twice_gives_back_one_slot() -> None:
    """A lease released by its reader and by its build frees one slot."""
    slots = Slots("bulk_slots", 2)
    first, second = await take(slots), await take(slots)

    first.release()
    first.release()

    assert 1 == slots.used
    second.release()


async def test_a_slot_does_not_leak_when_a_waiter_is_cancelled(autojump_clock: MockClock) -> None:
    """After a thousand cancels at every instant of waiting all slots are free."""
    slots = Slots("interactive_slots", 2)

    async def one(give_up_after: float) -> None:
        with trio.move_on_after(give_up_after):
            lease = await slots.queue(f"p{give_up_after}").wait(5)
            if isinstance(lease, Lease):
                try:
                    await trio.sleep(0.03)
                finally:
                    lease.release()

    async with trio.open_nursery() as nursery:
        for index in range(1000):
            nursery.start_soon(one, (index % 50) / 100)

    assert (0, 0) == (slots.used, slots.waiting)


async def test_lowering_below_use_drains_and_never_over_admits(autojump_clock: MockClock) -> None:
    """Held slots stay held, and none is given until use is below the lowered total."""
    slots = Slots("bulk_slots", 3)
    held = [await take(slots) for _ in range(3)]
    slots.resize(1)

    assert isinstance(await slots.queue("ana").wait(1), Refused)
    held.pop().release()
    held.pop().release()
    assert isinstance(await slots.queue("ana").wait(1), Refused)
    held.pop().release()
    last = await take(slots)
    assert (1, 1) == (slots.used, slots.total)
    last.release()


@given(st.lists(st.sampled_from(["take", "free", "cancel"]), max_size=30), st.integers(1, 4))
def test_use_never_exceeds_the_total(steps: list[str], total: int) -> None:
    """Use stays within the total in any order of takes, releases and cancelled waits."""

    async def scenario() -> None:
        slots = Slots("s", total)
        held: list[Lease] = []
        for step in steps:
            if step == "free" and held:
                held.pop().release()
            elif step == "take":
                lease = await slots.queue("ana").wait(0.001)
                held += [lease] if isinstance(lease, Lease) else []
            elif step == "cancel":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    lease = await slots.queue("ana").wait(1)
                    held += [lease] if isinstance(lease, Lease) else []
            assert len(held) == slots.used <= total

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def test_waiters_are_served_in_turn() -> None:
    """Waiters of one tenant's tier are served first come, first served."""
    slots, served = Slots("s", 1), []
    held = await take(slots)

    async def wait(number: int) -> None:
        lease = await take(slots)
        served.append(number)
        lease.release()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        held.release()

    assert [0, 1, 2, 3, 4] == served


async def test_a_principal_at_its_cap_is_told_so_and_others_go_on(autojump_clock: MockClock) -> None:
    """A principal reaches its cap exactly, and others get the remaining slots."""
    slots = Slots("bulk_slots", 4, 2)
    held = [await take(slots), await take(slots)]

    refused = await slots.queue("ana").wait(1)
    assert isinstance(refused, Refused)
    assert ("bulk_slots_per_principal", 2) == (refused.code, refused.limit.quota)
    other = await slots.queue("bob").wait(1)
    assert isinstance(other, Lease)
    held.pop().release()
    again = await take(slots)
    assert (2, 3) == (slots._shares.held("ana"), slots.used)
    for lease in (*held, other, again):
        lease.release()


async def test_a_cap_can_be_lifted_while_others_wait(autojump_clock: MockClock) -> None:
    """A raised cap admits waiters at once."""
    slots = Slots("bulk_slots", 4, 1)
    held = await take(slots)
    lease = slots.queue("ana")
    assert not lease.held

    slots.resize(4, 0)
    assert lease is await lease.wait(1)
    lease.release()
    held.release()


async def test_who_comes_back_as_told_goes_first_and_once(autojump_clock: MockClock) -> None:
    """A waiter that obeyed Retry-After goes before new ones, once, and not before its time."""
    slots, order = Slots("bulk_slots", 1), []
    held = await slots.queue("ana").wait(1)
    refused = await slots.queue("bob").wait(5)
    assert isinstance(refused, Refused)
    assert refused.retry_after is not None

    async def build(who: str, patience: float) -> None:
        found = await slots.queue(who).wait(patience)
        assert isinstance(found, Lease)
        order.append(who)
        await trio.sleep(3)
        found.release()

    async with trio.open_nursery() as nursery:
        early = slots.queue("bob")  # too early: no priority yet
        assert not early.promised
        early.release()
        nursery.start_soon(build, "ana", 1e6)
        await trio.sleep(refused.retry_after)
        nursery.start_soon(build, "cyd", 1e6)
        nursery.start_soon(build, "bob", 1e6)
        await trio.sleep(0.5)
        assert not slots.queue("bob").promised
        held.release()
    assert "bob" == order[0]
    assert {"ana", "cyd"} == set(order[1:])


async def test_promises_are_bounded_and_forgotten() -> None:
    """Promises are bounded in number, and forgotten when the client does not return."""
    estimator = RetryAfterEstimator()
    for number in range(5000):
        estimator.promise(f"p{number}", 10.0, 0.0)
    assert len(estimator._promises) <= PROMISED_KEYS
    for _ in range(200):
        estimator.promise("often", 10.0, 0.0)
    assert PROMISES_PER_KEY == sum(estimator.claim("often", 10.0) for _ in range(200))
    assert estimator.claim("p4999", 10.0 + PROMISE_SECONDS)
    assert not estimator.claim("p4998", 10.1 + PROMISE_SECONDS)
    estimator.promise("late", 100.0, 99.0)
    assert 1 == len(estimator._promises)

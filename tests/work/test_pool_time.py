"""The pool on a virtual clock: the bound in seconds, cancellation at every await, and its figures."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from unittest import mock

import pytest
import trio
import trio.testing
from fair_bounds import most_before
from inline_pool import InlinePool
from simulator.queues import WatchedQueue
from simulator.twins import Threads

from strata.work import Tier, WorkPool
from strata.work import pool as pool_module
from strata.work.deficit_round_robin import QUANTUM_BYTES
from strata.work.fairness import jain_index

LONGEST = 0.008
"""Most seconds a quantum takes."""


@pytest.fixture
def threads():
    """Simulate worker threads whose quanta take up to eight virtual milliseconds."""
    twin = Threads(random.Random(7), LONGEST)
    with twin.instead():
        yield twin


def nothing() -> None:
    """Do nothing."""


async def flood(pool: WorkPool, flow: str, tier: Tier, draw: random.Random, quanta: int) -> None:
    """Run many quanta at once, some of which are cancelled."""
    async with trio.open_nursery() as nursery:
        for _ in range(quanta):
            cost = draw.choice([1, 65536, QUANTUM_BYTES, 8 * QUANTUM_BYTES])
            nursery.start_soon(
                once, pool, flow, tier, draw.random() * 0.5 if draw.random() < 0.2 else 1e9, cost
            )
            if draw.random() < 0.1:
                await trio.sleep(draw.random() * 0.05)


async def once(pool: WorkPool, flow: str, tier: Tier, patience: float, cost: int = 65536) -> None:
    """Run one quantum, and cancel it after a while."""
    with trio.move_on_after(patience):
        await pool.run(flow, tier, nothing, cost=cost)


@pytest.mark.parametrize(("seed", "slots"), [(1, 1), (2, 2), (3, 2), (4, 5)])
async def test_the_bound_holds_in_seconds(seed: int, slots: int, threads: Threads, autojump_clock) -> None:
    """Beside five floods, a small tenant's quantum begins within the bound's number of longest quanta."""
    draw = random.Random(seed)
    with mock.patch.object(pool_module, "FairQueue", WatchedQueue):
        pool = WorkPool(slots)
    waits: list[float] = []
    began: list[float] = []

    async def dashboard(tenant: str) -> None:
        for _ in range(30):
            await trio.sleep(draw.random() * 0.2)
            turn = partial(began.append, 0.0)
            asked = trio.current_time()
            pool.weight_of = lambda flow: {"flood-0": 5.0}.get(flow, 1.0)
            await pool.run(tenant, Tier.INTERACTIVE, turn)
            waits.append(trio.current_time() - asked)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            tier = [Tier.INTERACTIVE, Tier.BULK, Tier.BULK][number % 3]
            nursery.start_soon(flood, pool, f"flood-{number}", tier, draw, 150)
        for tenant in ("b", "c"):
            nursery.start_soon(dashboard, tenant)

    tenants = 4  # two floods are interactive, two tenants are small
    starts_within = -(-(most_before(tenants) + 1) // slots) * LONGEST
    assert max(waits) <= starts_within + LONGEST
    assert isinstance(pool._queue, WatchedQueue)
    assert [] == pool._queue.broken
    assert all(pool._queue.kept[tier] > 30 for tier in Tier)
    assert (0, 0, 0) == (pool.running, pool.running_bulk, pool.waiting)


@pytest.mark.parametrize("tolerance", [0, 1.5])
async def test_a_thousand_cancels_at_every_await_leak_no_slot(
    tolerance: float, threads: Threads, autojump_clock
) -> None:
    """Cancels before, after and as the turn comes, abandoning or not, leave all slots free."""
    draw, pool = random.Random(5), WorkPool(3, tolerance=tolerance)
    ended: Counter[str] = Counter()

    async def one(tier: Tier, steps: int | None, after: float, *, abandon: bool) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel, scope, steps, after)
                await pool.run(
                    draw.choice("abc"), tier, nothing, cost=draw.choice([1, QUANTUM_BYTES]),
                    abandon=abandon, principal=draw.choice("pq"), charge=lambda _: draw.choice([None, 0, 10**6]),
                )  # fmt: skip
                ended["done"] += 1
                nursery.cancel_scope.cancel()
        ended["cancelled"] += scope.cancelled_caught

    async def cancel(scope: trio.CancelScope, steps: int | None, after: float) -> None:
        for _ in range(steps or 0):
            await trio.lowlevel.checkpoint()
        if steps is None:
            await trio.sleep(after)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            steps = draw.choice([None, None, *range(8)])
            after = draw.random() * 0.4
            nursery.start_soon(
                partial(one, draw.choice(list(Tier)), steps, after, abandon=draw.random() < 0.5)
            )
            if draw.random() < 0.5:
                await trio.sleep(draw.random() * 0.004)
    while threads.running:  # noqa: ASYNC110  # threads end without an event
        await trio.sleep(LONGEST)  # quanta that were abandoned

    assert ended["cancelled"] > 300
    assert ended["done"] > 50
    assert (0, 0, 0) == (pool.running, pool.running_bulk, pool.waiting)
    assert not pool._waiting
    assert all(not tier.tenants for tier in pool._queue._rounds.values())
    assert {} == pool.queued_bytes()
    pool_again = [pool.run("z", tier, lambda: "runs") for tier in Tier for _ in range(5)]
    assert ["runs"] * 10 == [await again for again in pool_again]


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_turn_that_comes_as_its_owner_is_cancelled_is_not_lost(
    cancel_first: bool,  # noqa: FBT001  # a parameter
    autojump_clock,
) -> None:
    """Whichever comes first in one scheduler step, the next quantum runs, and one that never ran is free."""
    pool, order, scope = InlinePool(1), [], trio.CancelScope()
    holder = pool_module._Turn("other", Tier.BULK, 1, pool=pool)
    await holder.wait()

    async def cancelled() -> None:
        with scope:
            await pool.run("a", Tier.BULK, partial(order.append, "cancelled"), cost=8 * QUANTUM_BYTES)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(partial(pool.run, "a", Tier.BULK, partial(order.append, "next")))
        await trio.testing.wait_all_tasks_blocked()
        if cancel_first:
            scope.cancel()
        pool._release(holder)
        scope.cancel()

    assert (["next"] if cancel_first else ["cancelled", "next"]) == order
    assert (0, 0) == (pool.running, pool.waiting)
    assert cancel_first == (pool.served_bytes()["a"] == 65536)


async def test_it_says_what_waits_and_what_was_served(autojump_clock) -> None:
    """The pool reports quanta, bytes, oldest wait, largest deficit and the last minute's bytes by tenant."""
    pool = WorkPool(1)
    with Threads(random.Random(1), 0).instead():
        holder = pool_module._Turn("a", Tier.BULK, 65536, pool=pool)
        await holder.wait()
        async with trio.open_nursery() as nursery:
            for flow, cost in (("a", QUANTUM_BYTES), ("b", 1_000_000), ("b", 2_000_000)):
                nursery.start_soon(partial(pool.run, flow, Tier.BULK, nothing, cost=cost))
                await trio.sleep(1)
            assert {"a": 1, "b": 2} == {flow: queued.quanta for flow, queued in pool._queue.queued(Tier.BULK)}
            assert {"a": QUANTUM_BYTES, "b": 3_000_000} == pool.queued_bytes()
            assert 3.0 == pool.oldest_wait
            assert 65536 == pool.largest_deficit
            pool._release(holder)

        assert (0, 0.0, 0) == (pool.waiting, pool.oldest_wait, pool.largest_deficit)
        assert {"a": QUANTUM_BYTES + 65536, "b": 3_000_000} == pool.served_bytes()
        assert 0.5 < jain_index(pool.served_bytes().values()) < 1
        await trio.sleep(61)
        assert {} == pool.served_bytes()


async def test_what_a_quantum_really_took_is_charged(autojump_clock) -> None:
    """The real bytes are charged; the estimate, if they are unknown or the quantum fails."""
    pool = InlinePool(2)
    await pool.run("known", Tier.BULK, lambda: b"x" * 3_000_000, cost=1, charge=len)
    await pool.run("unknown", Tier.BULK, lambda: None, cost=70_000, charge=lambda _: None)
    with pytest.raises(ZeroDivisionError):
        await pool.run("failed", Tier.BULK, lambda: 1 // 0, cost=80_000, charge=int)

    assert {"known": 3_000_000, "unknown": 70_000, "failed": 80_000} == pool.served_bytes()


async def test_weights_and_principals_share_the_pool(threads: Threads, autojump_clock) -> None:
    """Three times the weight is three times the bytes, and two principals share a tenant's part equally."""
    pool, order = WorkPool(1), []
    pool.weight_of = lambda flow: {"heavy": 3.0}.get(flow, 1.0)
    async with trio.open_nursery() as nursery:
        for flow, principal, quanta in (("heavy", "p", 90), ("usual", "p", 90), ("usual", "q", 10)):
            for _ in range(quanta):
                note = partial(order.append, flow + principal)
                run = partial(pool.run, flow, Tier.BULK, note, cost=QUANTUM_BYTES, principal=principal)
                nursery.start_soon(run)

    first = Counter(order[:80])
    assert abs(first["heavyp"] - 60) <= 3
    assert 10 == first["usualq"]


async def test_bulk_makes_room_when_interactive_work_waits_longer_than_usual(autojump_clock) -> None:
    """Bulk gives up one slot of four, and has all again a second after the last interactive quantum."""
    pool = WorkPool(4, tolerance=1.5)

    async def quantum(seconds: float, flow: str, tier: Tier) -> None:
        turn = pool_module._Turn(flow, tier, 65536, pool=pool)
        await turn.wait()
        await trio.sleep(seconds)
        pool._release(turn)

    for _ in range(600):
        await quantum(0.001, "b", Tier.INTERACTIVE)
    assert 4 == pool.bulk_limit
    held_back = False
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(quantum, 0.5, "a", Tier.BULK)
        for _ in range(40):
            await trio.sleep(0.2)
            nursery.start_soon(quantum, 0.001, "b", Tier.INTERACTIVE)
            held_back |= pool.running_bulk == pool.bulk_limit == 3  # one slot free is all it takes here
        assert held_back
        await trio.sleep(3)
        assert (4, 4) == (pool.bulk_limit, pool.running_bulk)

    assert (0, 0, 0) == (pool.running, pool.running_bulk, pool.waiting)


async def test_bulk_alone_has_all_slots(threads: Threads, autojump_clock) -> None:
    """Without interactive work the adaptive limit does not hold bulk work back."""
    pool, seen = WorkPool(3, tolerance=1), []
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(pool.run, "a", Tier.BULK, lambda: seen.append(pool.running_bulk))

    assert {3} == set(seen[:50])

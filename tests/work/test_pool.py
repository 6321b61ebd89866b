"""The work pool around the fair queue: threads, slots and cancellation."""

import threading
from functools import partial

import pytest
import trio
from inline_pool import InlinePool
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.outcomes import RefusalError, Refused
from strata.work import Tier, WorkPool
from strata.work.pool import HUNG, HUNG_SECONDS


async def test_runs_at_most_as_many_quanta_as_slots() -> None:
    """As many quanta run at a time as there are slots, and no more."""
    pool = WorkPool(2)
    lock, running, most = threading.Lock(), 0, 0
    barrier = threading.Barrier(2)

    def quantum() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(timeout=10)  # passes only when two run at once
        with lock:
            running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(pool.run, "a", Tier.BULK, quantum)

    assert 2 == most
    assert (0, 0) == (pool.running, pool.waiting)


async def test_a_cancelled_waiter_leaves_the_queue_at_once() -> None:
    """A quantum cancelled in the queue never runs."""
    pool, gate, ran = WorkPool(1), threading.Event(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, "a", Tier.BULK, lambda: gate.wait(10))
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_waiting, pool, scope)
            await pool.run("a", Tier.BULK, lambda: ran.append(1))
        assert 0 == pool.waiting
        gate.set()

    assert ([], 0) == (ran, pool.running)


async def _cancel_when_waiting(pool: WorkPool, scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    assert 1 == pool.waiting
    scope.cancel()


async def test_an_abandoned_quantum_keeps_its_slot_until_it_ends() -> None:
    """A slot is freed when its quantum ends, even if the caller has left."""
    pool, gate, began = WorkPool(1), threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def quantum() -> None:
        token.run_sync_soon(began.set)
        gate.wait(10)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.run, "a", Tier.BULK, quantum)
            await began.wait()
            scope.cancel()
    assert 1 == pool.running

    gate.set()
    assert "next" == await pool.run("b", Tier.BULK, lambda: "next")
    assert 0 == pool.running


@pytest.mark.parametrize("inline", [True, False])
async def test_a_failing_quantum_gives_its_slot_back(inline: bool) -> None:  # noqa: FBT001  # a parameter
    """The caller gets the exception, and the slot is free again."""
    pool = (InlinePool if inline else WorkPool)(1)

    with pytest.raises(ZeroDivisionError):
        await pool.run("a", Tier.INTERACTIVE, lambda: 1 // 0)

    assert 0 == pool.running


async def test_no_cancel_leaks_a_slot() -> None:
    """Cancels at every instant of waiting, and as the turn comes, leave all slots free."""
    pool = InlinePool(1)

    async def one(cancel_after: int) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.run, "a", Tier.BULK, lambda: None)
                for _ in range(cancel_after):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

    async with trio.open_nursery() as nursery:
        for index in range(1000):
            nursery.start_soon(one, index % 7)

    assert (0, 0) == (pool.running, pool.waiting)


async def test_a_hung_quantum_gives_its_slot_back(mock_clock: MockClock) -> None:
    """Others go on after ``HUNG_SECONDS``; the tenant whose quanta hang in all slots gets no further ones."""
    workers, over = WorkPool(2), threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(workers.watch)
        async with trio.open_nursery() as inner:
            for _ in range(2):
                inner.start_soon(workers.run, "a", Tier.INTERACTIVE, partial(over.wait, 60))
            await wait_all_tasks_blocked()
            late = partial(workers.run, "a", Tier.INTERACTIVE, int)
            refused: list[Refused] = []

            async def queued() -> None:
                with pytest.raises(RefusalError) as raised:
                    await late()
                refused.append(raised.value.refused)

            inner.start_soon(queued)
            inner.start_soon(workers.run, "b", Tier.INTERACTIVE, int)
            await wait_all_tasks_blocked()
            assert (2, 2) == (workers.running, workers.waiting)
            mock_clock.jump(HUNG_SECONDS * 1.25)
            assert 0 == await workers.run("b", Tier.INTERACTIVE, int)
            assert {"a": 2} == workers.hung
            await queued()
            over.set()
        assert [HUNG, HUNG] == refused
        assert 0 == await late()
        assert ({}, 0, 0) == (workers.hung, workers.running, workers.waiting)
        nursery.cancel_scope.cancel()

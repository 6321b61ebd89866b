"""Threads that wait: a share and a turn for each tenant, deadlines, interrupts, and accounts of hung threads."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from strata.outcomes import Reason, RefusalError, Refused
from strata.work.waiting_threads import HUNG, TOO_MANY, WaitingThreads, current_interrupt

SILENT = Refused(Reason.UNAVAILABLE, "The store is silent.", retry_after=5)


def group(threads: int = 8, **changes: float) -> WaitingThreads:
    return WaitingThreads("store", threads, SILENT, 10.0, 60.0, **changes)  # type: ignore[arg-type]


@attrs.define(eq=False)
class Silence:
    """A store that answers nobody until it is told to."""

    over: threading.Event = attrs.field(factory=threading.Event)
    calls: int = 0

    def call(self) -> str:
        self.calls += 1
        assert self.over.wait(60)
        return "at last"


@pytest.fixture
def silence() -> Iterator[Silence]:
    found = Silence()
    yield found
    found.over.set()


async def refusal(call: Callable[[], object]) -> Refused:
    with pytest.raises(RefusalError) as raised:
        await call()
    return raised.value.refused


async def idle(threads: WaitingThreads) -> None:
    with trio.fail_after(30):
        while not threads.idle:
            await trio.lowlevel.checkpoint()


async def test_a_call_returns_or_raises_what_the_function_does() -> None:
    """Results and exceptions pass, and the thread is free afterwards."""
    threads = group()
    assert 3 == await threads.run("a", lambda: 3)
    with pytest.raises(KeyError):
        await threads.run("a", lambda: {}["x"])
    assert threads.idle


async def test_a_tenant_holds_at_most_its_share(silence: Silence, mock_clock: MockClock) -> None:
    """With any number of silent calls of one tenant, another's calls need no time at all."""
    threads = group(8)
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(refusal, partial(threads.run, "a", silence.call))
        await wait_all_tasks_blocked()
        assert (2, 58) == (threads.running, threads.waiting)
        before = trio.current_time()
        for _ in range(100):
            assert "b" == await threads.run("b", lambda: "b")
        assert before == trio.current_time()
        mock_clock.jump(60)
    assert (0, 2, 0) == (threads.running, threads.hung, threads.waiting)
    assert 2 == silence.calls


async def test_hung_threads_count_against_their_tenant_only(
    silence: Silence, autojump_clock: MockClock
) -> None:
    """A thread that never ends keeps its tenant's share and gives all tenants' threads back."""
    threads = group(4, share=2)
    for tenant in ("a", "c", "d"):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(refusal, partial(threads.run, tenant, silence.call))
    assert (0, 6) == (threads.running, threads.hung)
    assert SILENT == await refusal(partial(threads.run, "a", silence.call))
    autojump_clock.autojump_threshold = math.inf  # a real thread takes no virtual time
    assert "b" == await threads.run("b", lambda: "b")


async def test_hung_threads_are_bounded(silence: Silence, autojump_clock: MockClock) -> None:
    """With ``HUNG`` times the threads hung, further ones count against all."""
    threads = group(1)
    for number in range(HUNG + 1):
        await refusal(partial(threads.run, f"t{number}", silence.call))
    assert (1, HUNG) == (threads.running, threads.hung)
    assert SILENT == await refusal(partial(threads.run, "b", lambda: "b"))


async def test_tenants_take_turns(silence: Silence) -> None:
    """A free thread goes to the tenant that has waited longest since its last one."""
    threads, order = group(1), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, "z", silence.call)
        await wait_all_tasks_blocked()
        for tenant in "aaabbc":
            nursery.start_soon(threads.run, tenant, partial(order.append, tenant))
            await wait_all_tasks_blocked()
        silence.over.set()
    assert ["a", "b", "c", "a", "b", "a"] == order


async def test_a_tenants_queue_is_bounded(silence: Silence) -> None:
    """A call beyond the bound is refused at once with Retry-After; other tenants' calls queue."""
    threads = group(1, queued=2)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(threads.run, "a", silence.call)
        await wait_all_tasks_blocked()
        assert TOO_MANY == await refusal(partial(threads.run, "a", silence.call))
        nursery.start_soon(threads.run, "b", silence.call)
        await wait_all_tasks_blocked()
        assert (3, 1) == (threads.waiting, threads.refusals)
        silence.over.set()
    assert threads.idle


async def test_every_wait_has_a_deadline(silence: Silence, autojump_clock: MockClock) -> None:
    """The wait for a thread and the wait for the answer end in the same refusal, each after its time."""
    threads, ends = group(1), Counter[float]()

    async def ask() -> None:
        assert SILENT == await refusal(partial(threads.run, "a", silence.call))
        ends[trio.current_time() - began] += 1

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert {10.0: 2, 60.0: 1} == ends
    assert 3 == threads.refusals


async def test_what_its_caller_left_is_interrupted_and_its_result_discarded() -> None:
    """A cancelled read returns at once; the function is told, and what it still opens is closed."""
    threads, stop, discarded = group(), threading.Event(), []
    began = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def read() -> str:
        with current_interrupt().stopping(stop.set):
            token.run_sync_soon(began.set)
            assert stop.wait(30)
        return "a file"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(threads.run, "a", read, discard=discarded.append))
        await began.wait()
        nursery.cancel_scope.cancel()
    await idle(threads)
    assert ["a file"] == discarded


async def test_a_write_is_known_to_have_happened_though_its_caller_left(silence: Silence) -> None:
    """A cancelled write goes on, uninterrupted, and the caller waits for its end."""
    threads, found = group(), []
    async with trio.open_nursery() as nursery:

        async def write() -> None:
            found.append(await threads.run("a", silence.call, keep=True))

        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert [] == found
        silence.over.set()
    assert ["at last"] == found
    assert threads.idle


async def test_a_write_that_was_cancelled_before_it_began_does_not_happen() -> None:
    """A cancellation that came first is noticed, as at every checkpoint."""
    threads, written = group(), []
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run("a", partial(written.append, 1), keep=True)
    assert ([], True) == (written, threads.idle)


async def test_a_write_beyond_its_deadline_is_interrupted_and_its_end_awaited() -> None:
    """The outcome is the write's own if it happened all the same."""
    threads, stop = WaitingThreads("store", 4, SILENT, 10.0, 0.01), threading.Event()

    def write(happens: str) -> str:
        with current_interrupt().stopping(stop.set):
            assert stop.wait(30)
        if not happens:
            raise RefusalError(SILENT)
        return happens

    assert "written" == await threads.run("a", partial(write, "written"), keep=True)
    assert SILENT == await refusal(partial(threads.run, "a", partial(write, ""), keep=True))
    assert threads.idle


async def test_a_write_that_hangs_is_abandoned_in_the_end(
    silence: Silence, autojump_clock: MockClock
) -> None:
    """Also of a caller that was cancelled, and by an earlier deadline of its clean-up."""
    threads = group()
    with trio.move_on_after(3, shield=True) as scope:
        until = scope.deadline
        assert SILENT == await refusal(partial(threads.run, "a", silence.call, keep=True, until=until))
    assert 1 == threads.hung

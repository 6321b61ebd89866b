"""Large results leave one chunk a pass of the loop, in small chunks while other requests are served."""

import random

import pytest
import trio
from trio.testing import MockClock

from strata.work import EgressTurns
from strata.work.egress_turns import LARGE_BYTES, SERVED_SECONDS, SMALL_BYTES


async def leave(turns: EgressTurns, tenant: str, times: int, left: list[str]) -> None:
    for _ in range(times):
        await turns.take(tenant)
        try:
            left.append(tenant)
            await trio.lowlevel.checkpoint()
        finally:
            turns.give()


async def test_one_chunk_leaves_in_a_pass_of_the_loop() -> None:
    """However many results are sent, other tasks of the loop wait for one chunk at most."""
    turns, left, seen = EgressTurns(), [], []

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(leave, turns, f"t{number}", 5, left)
        while len(left) < 100:
            before = len(left)
            await trio.lowlevel.checkpoint()
            seen.append(len(left) - before)
    assert 1 == max(seen)


async def test_tenants_take_turns_whatever_each_has_on_its_way() -> None:
    """A tenant with a hundred streams delays another's chunk by at most two of its own."""
    turns, left = EgressTurns(), []

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(leave, turns, "many", 3, left)
        nursery.start_soon(leave, turns, "one", 10, left)
    places = [place for place, tenant in enumerate(left) if tenant == "one"]
    assert 310 == len(left)
    assert places[-1] - places[0] <= 3 * 10


async def test_chunks_are_small_while_somebody_is_served(autojump_clock: MockClock) -> None:
    """Chunks are small while requests come in, and large otherwise."""
    turns = EgressTurns()
    assert LARGE_BYTES == turns.chunk_bytes
    turns.note_request()
    assert SMALL_BYTES == turns.chunk_bytes
    await trio.sleep(SERVED_SECONDS * 0.99)
    assert SMALL_BYTES == turns.chunk_bytes
    await trio.sleep(SERVED_SECONDS * 0.02)
    assert LARGE_BYTES == turns.chunk_bytes


@pytest.mark.parametrize("seed", range(20))
async def test_no_turn_is_lost_whoever_is_cancelled(seed: int) -> None:
    """After a thousand cancels at any await the turn is free, and no waiter is remembered."""
    turns, left, draw = EgressTurns(), [], random.Random(seed)

    async def passing(scope: trio.CancelScope) -> None:
        with scope:
            await leave(turns, f"t{draw.randrange(4)}", 3, left)

    async with trio.open_nursery() as nursery:
        scopes = []
        for _ in range(50):
            scopes.append(trio.CancelScope())
            nursery.start_soon(passing, scopes[-1])
            for _ in range(draw.randrange(4)):
                await trio.lowlevel.checkpoint()
            draw.choice(scopes).cancel()
    assert not turns._waiting
    with trio.fail_after(1):
        await leave(turns, "next", 1, left)
    assert "next" == left[-1]

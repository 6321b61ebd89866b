"""Build memory is reserved before it is used, and no tenant can take all of it."""

import random
from pathlib import Path

import trio
from trio.testing import MockClock

from strata.outcomes import Reason, Refused
from strata.tenants.budgets.disk_space import SECONDS, DiskSpaceGuard
from strata.tenants.budgets.memory_budget import MemoryBudget
from strata.tenants.limits.slots import Lease


async def test_the_budget_is_reached_exactly_and_then_503(autojump_clock: MockClock) -> None:
    """The refusal is a 503 that names the setting, and tells nothing of other tenants."""
    budget = MemoryBudget(100)
    mine = await budget.queue("a", 75).wait(1)
    assert isinstance(mine, Lease)
    other = await budget.queue("b", 25).wait(1)
    assert isinstance(other, Lease)
    refused = await budget.queue("c", 1).wait(2)
    assert isinstance(refused, Refused)
    assert (Reason.UNAVAILABLE, "memory_budget_bytes", 2) == (
        refused.reason,
        refused.code,
        refused.retry_after,
    )
    assert "100" not in refused.detail
    other.release()
    assert isinstance(await budget.queue("c", 25).wait(1), Lease)


async def test_no_tenant_takes_what_the_others_need(autojump_clock: MockClock) -> None:
    """However much one tenant reserves, another tenant's first build is admitted at once."""
    budget = MemoryBudget(1000)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(budget.queue("greedy", 50).wait, 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert 750 == budget._shares.held("greedy")
        for tenant in ("b", "c", "d", "e"):
            assert isinstance(await budget.queue(tenant, 50).wait(0), Lease)
        nursery.cancel_scope.cancel()


async def test_a_thousand_cancels_leak_no_memory(autojump_clock: MockClock) -> None:
    """Cancels while waiting, holding and releasing leave all memory free."""
    budget, draw = MemoryBudget(100), random.Random(5)

    async def build(tenant: str, size: int, give_up: float, hold: float) -> None:
        with trio.move_on_after(give_up):
            found = await budget.queue(tenant, size).wait(5)
            if isinstance(found, Lease):
                try:
                    await trio.sleep(hold)
                finally:
                    found.release()

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            how = (draw.choice("abcd"), draw.randint(1, 120), draw.random() * 3, draw.random() / 50)
            nursery.start_soon(build, *how)
    assert (0, 0) == (budget.used, budget.waiting)


def test_a_tenants_share_of_the_disk_follows_from_what_is_left() -> None:
    """Three times the bytes above the reserve; none is stated while all that is used is less."""
    free, used = [100], [50]
    guard = DiskSpaceGuard(Path("/"), 20, lambda _path: free[0], lambda _path: used[0], shared=True)
    guard.look(0.0)
    assert guard.share is None  # 50 <= 3 * 80
    guard.note_written(50)
    assert 3 * 30 == guard.share  # 100 used
    free[0], used[0] = 10, 140
    guard.look(SECONDS)
    assert 0 == guard.share
    guard.reserve = 0
    assert guard.share is None
    alone = DiskSpaceGuard(Path("/"), 20, lambda _path: free[0], lambda _path: used[0])
    alone.look(0.0)
    assert alone.share is None


def test_the_disk_is_looked_at_once_a_second() -> None:
    """The disk is measured at most once a second, and never without a reserve; the reserve is exact."""
    free = [100]
    guard = DiskSpaceGuard(Path("/"), 100, lambda _path: free[0])
    assert not guard.known(0.0)
    guard.look(0.0)
    assert (True, False) == (guard.known(SECONDS - 0.1), guard.full)
    free[0] = 99
    assert not guard.known(SECONDS)
    guard.look(SECONDS)
    assert guard.full
    guard.reserve = 0
    assert (True, False) == (guard.known(99.0), guard.full)

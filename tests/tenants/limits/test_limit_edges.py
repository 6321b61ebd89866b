"""Limits kept by one decision: reached exactly, refused one beyond, and changed while builds run."""

from types import SimpleNamespace
from weakref import WeakValueDictionary

import pytest
import trio
from trio.testing import MockClock

from strata.outcomes import Limit, Reason, Refused
from strata.tenants import TenantLimits
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.state import Build
from strata.tenants.limits.slots import Lease, Slots
from strata.work import Tier

LIMITS = TenantLimits(interactive_max_bytes=1000, interactive_max_columns=3)


@pytest.mark.parametrize(
    ("nbytes", "columns", "tier"),
    [
        (999, 2, Tier.INTERACTIVE),
        (1000, 3, Tier.INTERACTIVE),
        (1001, 3, Tier.BULK),
        (1000, 4, Tier.BULK),
    ],
)
def test_a_scan_is_small_up_to_exactly_so_many_bytes_and_columns(
    nbytes: int, columns: int, tier: Tier
) -> None:
    """A scan is interactive up to interactive_max_bytes and interactive_max_columns, both inclusive."""
    assert tier is LIMITS.tier(nbytes, columns)


def materializer(most: int) -> Materializer:
    """Return a materializer whose builds run until they are removed from it."""
    resources = SimpleNamespace(remembered=RememberedBudget(2**62), forgetters=WeakValueDictionary())
    return Materializer(
        "a", resources, SimpleNamespace(limits=TenantLimits(max_builds=most), prefix=""), None
    )


def begin(found: Materializer, principal: str) -> Refused | None:
    """Start a build if it is admitted; return the refusal otherwise."""
    refused = found._no_place(principal)
    if refused is None:
        key = f"{len(found.running)} {principal}"
        build = found.running[key] = Build(key, ())
        build.ask(principal)
    return refused


@pytest.mark.parametrize(
    ("most", "own"), [(1, 1), (2, 2), (4, 4), (5, 4), (6, 5), (9, 8), (10, 8), (100, 80)]
)
async def test_one_principal_has_four_fifths_of_max_concurrent_scans_and_not_one_more(
    autojump_clock: MockClock, most: int, own: int
) -> None:
    """Other principals get the rest, and the refusal says whose builds fill the limit."""
    found = materializer(most)
    assert [None] * own == [begin(found, "ana") for _ in range(own)]
    refused = begin(found, "ana")
    assert isinstance(refused, Refused)
    assert (Reason.BUSY, "max_concurrent_scans") == (refused.reason, refused.code)
    assert Limit("max_concurrent_scans", most, refused.retry_after) == refused.limit
    assert refused.retry_after >= 1
    whose = f"This tenant has {most} scans" if own == most else f"You have {own} scans"
    assert refused.detail.startswith(whose)
    assert [None] * (most - own) == [begin(found, f"p{number}") for number in range(most - own)]
    assert isinstance(begin(found, "late"), Refused)
    found.running.popitem()
    assert None is begin(found, "late")


async def test_max_concurrent_scans_lowered_below_use_drains(autojump_clock: MockClock) -> None:
    """Running builds go on, new ones start below the lowered limit; a raised limit holds at once."""
    found = materializer(10)
    for number in range(10):
        assert None is begin(found, f"p{number}")
    found.builder.limits = TenantLimits(max_builds=3)
    for running in range(10, 2, -1):
        assert running == len(found.running)
        assert isinstance(begin(found, "late"), Refused)
        found.running.popitem()
    assert None is begin(found, "late")
    assert isinstance(begin(found, "late"), Refused)
    found.builder.limits = TenantLimits(max_builds=4)
    assert None is begin(found, "later")


@pytest.mark.parametrize(("freed_after", "admitted"), [(9.999, True), (10.001, False)])
async def test_a_wait_for_a_slot_is_exactly_as_long_as_it_may_be(
    autojump_clock: MockClock,
    freed_after: float,
    admitted: bool,  # noqa: FBT001  # a case
) -> None:
    """A slot freed just before interactive_queue_timeout_seconds or bulk_queue_timeout_seconds is taken."""
    slots = Slots("bulk_slots", 1)
    held = await slots.queue("bob").wait(1)
    assert isinstance(held, Lease)
    async with trio.open_nursery() as nursery:

        async def free() -> None:
            await trio.sleep(freed_after)
            held.release()

        nursery.start_soon(free)
        began = trio.current_time()
        found = await slots.queue("ana").wait(10)
        assert admitted == isinstance(found, Lease)
        assert pytest.approx(min(freed_after, 10)) == trio.current_time() - began


async def test_slots_are_given_to_the_last_one(autojump_clock: MockClock) -> None:
    """interactive_slots and bulk_slots are used up exactly, and a released slot is taken at once."""
    slots = Slots("interactive_slots", 5)
    held = [await slots.queue("ana").wait(1) for _ in range(5)]
    assert all(isinstance(lease, Lease) for lease in held)
    assert isinstance(await slots.queue("ana").wait(1), Refused)
    held.pop().release()
    assert isinstance(await slots.queue("ana").wait(1), Lease)


async def test_a_principals_slots_lowered_below_use_drain(autojump_clock: MockClock) -> None:
    """Lowered slots per principal refuse that principal's next build and no other principal's."""
    slots = Slots("bulk_slots", 8, 4)
    held = [await slots.queue("ana").wait(1) for _ in range(4)]
    slots.resize(8, 2)
    for used in (4, 3, 2):
        assert used == slots._shares.held("ana")
        assert isinstance(await slots.queue("ana").wait(1), Refused)
        held.pop().release()
    assert isinstance(await slots.queue("ana").wait(1), Lease)
    assert isinstance(await slots.queue("bob").wait(1), Lease)

"""A client that waits for Retry-After is nearly always admitted."""

import random
from collections import Counter

import attrs
import pytest
import trio
from trio.testing import MockClock

from strata.outcomes import Refused
from strata.tenants import TenantLimits
from strata.tenants.limits.rates import TenantRates
from strata.tenants.limits.slots import Lease, Slots

WORKLOADS = 10


@attrs.define
class Tally:
    """Counts of requests that obeyed a Retry-After."""

    obeyed: int = 0
    let_in: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)

    @property
    def share(self) -> float:
        return self.let_in / self.obeyed if self.obeyed else 1.0


async def obey(ask, tally: Tally) -> object:
    """Ask until admitted, waiting as long as each refusal says."""
    again = False
    while True:
        found = await ask()
        if again:
            tally.obeyed += 1
            tally.let_in += not isinstance(found, Refused)
        if not isinstance(found, Refused):
            return found
        assert found.retry_after >= 1
        tally.refused[found.code] += 1
        again = True
        await trio.sleep(found.retry_after)


async def rated(draw: random.Random, tally: Tally) -> None:
    """Simulate workers of several principals, each pausing between requests, for some minutes."""
    rate, principals = draw.choice([2, 10, 50, 100]), draw.randint(1, 4)
    limits = TenantLimits(
        requests_per_second=rate * draw.choice([1, 2, 10]),
        principal_requests_per_second=rate,
        principal_scans_per_second=draw.choice([0, rate / 2]),
    )
    rates = TenantRates(limits)
    workers, pause = draw.randint(1, 40), draw.choice([0.01, 0.1, 0.5, 2.0])

    async def work(principal: str) -> None:
        await trio.sleep(draw.random() * 5)
        while True:
            scan = draw.random() < 0.5

            async def ask(*, scan: bool = scan) -> object:
                return rates.admit(principal, scan=scan, now=trio.current_time())

            await obey(ask, tally)
            await trio.sleep(draw.expovariate(1 / pause))

    with trio.move_on_after(120):
        async with trio.open_nursery() as nursery:
            for number in range(workers):
                nursery.start_soon(work, f"p{number % principals}")


async def slotted(draw: random.Random, tally: Tally) -> None:
    """Simulate builds of several principals and of various lengths, more than there are slots."""
    total, principals = draw.randint(1, 4), draw.randint(1, 4)
    slots = Slots("bulk_slots", total, draw.choice([0, 0, 2]))
    workers, pause, length = draw.randint(2, 60), draw.choice([0.1, 2, 20]), draw.choice([0.5, 1, 2, 5])
    patience = draw.choice([5.0, 10.0])

    async def work(principal: str) -> None:
        await trio.sleep(draw.random() * 10)
        while True:
            lease = await obey(lambda: slots.queue(principal).wait(patience), tally)
            assert isinstance(lease, Lease)
            await trio.sleep(draw.expovariate(1 / length))
            lease.release()
            await trio.sleep(draw.expovariate(1 / pause))

    with trio.move_on_after(1200):
        async with trio.open_nursery() as nursery:
            for number in range(workers):
                nursery.start_soon(work, f"p{number % principals}")


@pytest.mark.slow
@pytest.mark.parametrize("workload", [rated, slotted])
async def test_an_obeyed_retry_after_succeeds_nearly_always(workload, autojump_clock: MockClock) -> None:
    """Over many overloaded workloads nearly all obedient retries are admitted, and Retry-After is never 0."""
    tally = Tally()
    for seed in range(WORKLOADS):
        await workload(random.Random(seed), tally)

    assert tally.obeyed > 100, "there is something to measure"
    assert tally.share >= 0.95, tally

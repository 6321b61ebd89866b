"""What the fair queue promises, stated for tests: see :mod:`strata.work.fair`."""

from __future__ import annotations

from typing import TypeVar

from strata.work.deficit_round_robin import DeficitRoundRobin
from strata.work.fair import BULK_FLOOR, FairQueue
from strata.work.tier import Tier

K = TypeVar("K")


def most_before(tenants: int) -> int:
    """Return how many quanta start at most before an interactive one of a tenant within its share.

    With *N* slots and quanta that last at most *d*, it starts within ``ceil((most_before + 1) / N) * d``.

    Args:
        tenants: Tenants with interactive work queued, its own included.
    """
    return tenants + (tenants - 1) // (BULK_FLOOR - 1)


def owes_nothing(turns: DeficitRoundRobin[K], key: K) -> bool:
    """Whether ``key`` would have, or has, its turn in the present round."""
    account = turns._accounts.get(key)
    return account is None or account.round <= turns._round


def within_share(queue: FairQueue, flow: str, tier: Tier) -> bool:
    """Whether a tenant has credit left in the present round of ``tier``: the bound holds for it."""
    return owes_nothing(queue._rounds[tier].turns, flow)

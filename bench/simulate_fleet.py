"""Simulate how tenants are placed on a fleet of servers, and print the table of docs/explanation/scale.md.

python bench/simulate_fleet.py [--seed N] [--tenants N] [--servers N]

Demands are heavy-tailed (Zipf): the tenant of rank r asks for 1 / r**EXPONENT of the first one's work, and
all together for a given share of the fleet. A server can do 1 unit of work. What of their demand tenants get
is computed and not drawn: by fair queues (max-min, as of Strata's work pool) and, to compare, by queues that
serve in the order of arrival.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import attrs

EXPONENT = 1.05
"""Exponent of the tenants' demands."""

LOAD = 0.5
"""Demand of all tenants together, as a share of what the fleet can do."""

POINTS = 160
"""Points of each server on the ring of consistent hashing, as nginx has for a weight of 1."""

BAD = 10.0
"""Demand of the bad tenant, in servers."""

SERVED = 0.999
"""Share of its demand from which on a tenant counts as served."""

Placement: TypeAlias = "Callable[[int], Sequence[int]]"
"""Returns the servers of a tenant, each of which gets an equal part of its demand."""


def _hash(seed: int, *parts: object) -> int:
    text = ":".join(map(str, (seed, *parts))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def demands_of(tenants: int, servers: int) -> list[float]:
    """Return each tenant's demand in servers, the largest first; no tenant asks for more than one server."""
    raw = [1 / rank**EXPONENT for rank in range(1, tenants + 1)]
    scale = LOAD * servers / sum(raw)
    return [min(1.0, one * scale) for one in raw]


def consistent(seed: int, servers: Sequence[int]) -> Placement:
    """Return the placement of consistent hashing: a tenant has the next server on a ring of hashes."""
    ring = sorted(
        (_hash(seed, "server", server, point), server) for server in servers for point in range(POINTS)
    )
    keys = [key for key, _ in ring]

    def place(tenant: int) -> Sequence[int]:
        return (ring[bisect.bisect(keys, _hash(seed, "tenant", tenant)) % len(ring)][1],)

    return place


def shuffled(seed: int, servers: Sequence[int], copies: int) -> Placement:
    """Return the placement of shuffle sharding: a tenant has the servers of its ``copies`` largest hashes."""

    def place(tenant: int) -> Sequence[int]:
        return sorted(servers, key=lambda server: _hash(seed, tenant, server))[:copies]

    return place


def fair(demands: Mapping[int, float]) -> dict[int, float]:
    """Return what tenants get of a server by max-min fairness: all their demand, or as much as any other."""
    left, waiting, got = 1.0, sorted(demands, key=demands.__getitem__), {}
    for place, tenant in enumerate(waiting):
        got[tenant] = min(demands[tenant], left / (len(waiting) - place))
        left -= got[tenant]
    return got


def in_order(demands: Mapping[int, float]) -> dict[int, float]:
    """Return what tenants get of a server that serves in the order of arrival: a share, equal for all."""
    share = min(1.0, 1.0 / max(1e-9, sum(demands.values())))
    return {tenant: demand * share for tenant, demand in demands.items()}


@attrs.frozen
class Outcome:
    """What a fleet does for its tenants.

    Attributes:
        busiest: Demand on the busiest server.
        ninety_nine: Demand on a server that 99 % of the servers do not exceed.
        unserved: Tenants that get less than they ask for, with fair queues.
        in_order: The same with queues in the order of arrival.
    """

    busiest: float
    ninety_nine: float
    unserved: int
    in_order: int


def run(demands: Sequence[float], placed: Sequence[Sequence[int]], bad: int | None = None) -> Outcome:
    """Return the outcome of a placement; the tenant ``bad`` is not counted."""
    on: dict[int, dict[int, float]] = {}
    for tenant, servers in enumerate(placed):
        for server in servers:
            on.setdefault(server, {})[tenant] = demands[tenant] / len(servers)
    sums = sorted(sum(one.values()) for one in on.values())
    unserved = []
    for share in (fair, in_order):
        got = [0.0] * len(demands)
        for one in on.values():
            for tenant, part in share(one).items():
                got[tenant] += part
        unserved.append(
            sum(got[tenant] < SERVED * demand for tenant, demand in enumerate(demands) if tenant != bad)
        )
    return Outcome(sums[-1], sums[int(len(sums) * 0.99) - 1], *unserved)


def rows(seed: int, tenants: int, servers: int) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table, the header first."""
    yield (
        "placement", "copies of a cache", "demand on a server: 99 %, most", "calm: not served",
        "a bad tenant: others not served", "the same without fair queues",
        "a dead server: tenants with a cold cache", "not served then",
    )  # fmt: skip
    demands, everyone = demands_of(tenants, servers), range(servers)
    bad = tenants // 2
    flood = [*demands[:bad], BAD, *demands[bad + 1 :]]
    kinds: dict[str, tuple[int, Callable[[Sequence[int]], Placement]]] = {
        "consistent hash": (1, lambda alive: consistent(seed, alive)),
        "shuffle sharding, 2 servers": (2, lambda alive: shuffled(seed, alive, 2)),
        "shuffle sharding, 4 servers": (4, lambda alive: shuffled(seed, alive, 4)),
    }
    for name, (copies, made) in kinds.items():
        placed = list(map(made(everyone), range(tenants)))
        dead = max(set(placed[0]))
        after = list(map(made([one for one in everyone if one != dead]), range(tenants)))
        calm, attacked, fewer = run(demands, placed), run(flood, placed, bad), run(demands, after)
        moved = sum(dead in before for before in placed)
        yield (
            name, str(copies), f"{calm.ninety_nine:.2f}, {calm.busiest:.2f}", str(calm.unserved),
            str(attacked.unserved), str(attacked.in_order), str(moved), str(fewer.unserved),
        )  # fmt: skip


def table(seed: int = 1, tenants: int = 10_000, servers: int = 100) -> str:
    """Return the table as Markdown."""
    header, *body = rows(seed, tenants, servers)
    lines = [header, ("---",) * len(header), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("seed", 1), ("tenants", 10_000), ("servers", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    sys.stdout.write(table(given.seed, given.tenants, given.servers))


if __name__ == "__main__":
    main()

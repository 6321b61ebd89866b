"""Enforce the caches' shared budget: grant bytes to live tenants, trim the shards of the others.

Shards of earlier runs are counted in the background, a few directories a quantum; until that has ended, the
caches may exceed the budget by the bytes not counted yet.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from strata.background import keep_running
from strata.cache import CacheBudget, Cuts, measure, trim
from strata.work import Tier, WorkPool

FLOW = "_housekeeping"
"""The flow that housekeeping is charged to in the work pool; no tenant has this id."""

DIRECTORIES = 16
"""Shards that are measured in one quantum."""

_SHARD = re.compile(r"[0-9a-f]{32}")
"""Names of :func:`strata.artifacts.tenant_prefix`; directories of other names are never touched."""

Found = list[tuple[str, int, int]]
"""Shards: directory name, bytes, last use in nanoseconds since the epoch."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class TenantAllowance:
    """One live tenant's part of the budget; see :class:`~strata.cache.Allowance`."""

    key: str
    sharing: CacheBudgetManager = attrs.field(repr=False)

    def share(self) -> int:
        """Return the bytes the tenant can rely on."""
        return self.sharing.budget.share(self.key)

    def granted(self) -> int:
        """Return the bytes the tenant may have now."""
        return self.sharing.budget.granted(self.key)

    def claim(self, wanted: int) -> int:
        """Claim ``wanted`` bytes in all; return those granted. Other tenants' shards shrink later."""
        self.sharing.carry_out(self.sharing.budget.claim(self.key, wanted))
        return self.granted()

    def release(self, to: int) -> None:
        """Give back the bytes beyond ``to``."""
        self.sharing.budget.release(self.key, to)


@attrs.define(eq=False)
class CacheBudgetManager:
    """Divides the cache budget among tenants and trims shards over their part.

    Attributes:
        root: Directory above the tenants' shards.
        budget: The policy.
        pool: Where files are measured and removed.
        now: Returns nanoseconds since the epoch, comparable with file times.
        told: Called with the directory name of a live tenant whose grant was cut.
        walked: Whether the shards of earlier runs have been counted.
        failures: Counts failures of :meth:`run`, which starts again.
    """

    root: Path
    budget: CacheBudget
    pool: WorkPool
    now: Callable[[], int] = time.time_ns
    told: Callable[[str], None] = attrs.field(default=lambda _key: None, repr=False)
    walked: bool = False
    failures: Counter[str] = attrs.field(factory=Counter)
    _surplus: dict[str, int] = attrs.field(factory=dict)
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _trimming: tuple[str, trio.Event] | None = None

    async def run(self) -> None:
        """Count the shards of earlier runs and trim shards of tenants that are not live, until cancelled."""
        await keep_running("cache_sharing", self._count_and_trim, self.failures)

    async def _count_and_trim(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._walk)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._surplus:
                    await self._trim_next()

    async def enter(self, key: str) -> TenantAllowance:
        """Register a live tenant; return its allowance once no trim of its shard is running."""
        self.budget.enter(key)
        self._surplus.pop(key, None)
        if self._trimming is not None and self._trimming[0] == key:
            await self._trimming[1].wait()
        return TenantAllowance(key, self)

    def leave(self, key: str, nbytes: int | None) -> None:
        """Unregister a live tenant that leaves ``nbytes`` on disk; None if unknown: its grant is assumed."""
        left = self.budget.granted(key) if nbytes is None else nbytes
        self.carry_out(self.budget.leave(key, left, self.now()))

    def carry_out(self, cuts: Cuts) -> None:
        """Tell live tenants of their cuts and queue the trims of the other shards."""
        for key in cuts.live:
            self.told(key)
        if cuts.gone:
            self._surplus.update(cuts.gone)
            self._wake.set()

    async def _trim_next(self) -> None:
        key, left = self._surplus.popitem()
        done = trio.Event()
        self._trimming = (key, done)
        try:
            trimmed = partial(_trimmed, self.root / key, left)
            self.budget.shrunk(key, await self.pool.run(FLOW, Tier.BULK, trimmed, abandon=False))
        finally:
            self._trimming = None
            done.set()

    async def _walk(self) -> None:
        shards = _shards(self.root)
        while True:
            some = await self.pool.run(FLOW, Tier.BULK, partial(_look, shards), abandon=False)
            for found in some:
                self.carry_out(self.budget.found(*found))
            if not some:
                break
        self.walked = True


def _shards(root: Path) -> Iterator[tuple[str, int, int]]:
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        for entry in entries:
            if _SHARD.fullmatch(entry.name):
                with suppress(OSError):  # a shard that cannot be read cannot be trimmed either
                    yield entry.name, *measure(Path(entry.path))


def _look(shards: Iterator[tuple[str, int, int]]) -> Found:
    """Measure the next few shards, in a worker thread; an empty list at the end."""
    found: Found = []
    try:
        for shard in shards:
            found.append(shard)
            if len(found) == DIRECTORIES:
                break
    except OSError as error:
        log.warning("caches of earlier runs cannot be counted", error=type(error).__name__)
    return found


def _trimmed(root: Path, left: int) -> int:
    """Trim a shard to ``left`` bytes, in a worker thread; return the bytes it then has."""
    try:
        return trim(root, left)
    except OSError as error:
        log.warning("cache could not be shrunk", error=type(error).__name__)
        return left

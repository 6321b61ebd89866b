"""The caches' one budget at work: grants to actors, and what tenants that are not live have on disk.

What was left by earlier runs is counted in the background, a few directories at a time; until that walk has
ended, the caches may exceed the budget by as much as was not yet seen.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from strata.cache import CacheBudget, Cuts, measure, trim
from strata.work import Tier, WorkPool

FLOW = "_housekeeping"
"""Whose work it is in the pool; no tenant has this id."""

DIRECTORIES = 16
"""Shards that are looked at in one quantum of the walk."""

_SHARD = re.compile(r"[0-9a-f]{32}")
"""What :func:`strata.artifacts.tenant_prefix` makes of a tenant; anything else is not ours to remove."""

Found = list[tuple[str, int, int]]
"""Shards: directory, bytes, last use."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class TenantAllowance:
    """One tenant's view of the budget; see :class:`~strata.cache.Allowance`."""

    key: str
    sharing: CacheBudgetManager = attrs.field(repr=False)

    def share(self) -> int:
        """Return the bytes the tenant can count on."""
        return self.sharing.budget.share(self.key)

    def granted(self) -> int:
        """Return the bytes it may have now."""
        return self.sharing.budget.granted(self.key)

    def claim(self, wanted: int) -> int:
        """Ask for more; who makes room for it is told at once, and shrinks when it comes to it."""
        self.sharing.carry_out(self.sharing.budget.claim(self.key, wanted))
        return self.granted()

    def release(self, to: int) -> None:
        """Give back what is not needed."""
        self.sharing.budget.release(self.key, to)


@attrs.define(eq=False)
class CacheBudgetManager:
    """The budget, and who sees to it that it is kept.

    Attributes:
        root: Directory above the tenants' shards.
        budget: The policy.
        pool: Where files are looked at and removed.
        now: Nanoseconds since the epoch, as files' times are.
        told: Called with the directory of a live tenant whose grant was cut.
        walked: Whether what earlier runs left has been counted.
    """

    root: Path
    budget: CacheBudget
    pool: WorkPool
    now: Callable[[], int] = time.time_ns
    told: Callable[[str], None] = attrs.field(default=lambda _key: None, repr=False)
    walked: bool = False
    _surplus: dict[str, int] = attrs.field(factory=dict)
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _trimming: tuple[str, trio.Event] | None = None

    async def run(self) -> None:
        """Count what earlier runs left, then remove what tenants that are gone have too much, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._walk)
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._surplus:
                    await self._trim_next()

    async def enter(self, key: str) -> TenantAllowance:
        """A tenant becomes live; returns when nobody else removes files of its shard."""
        self.budget.enter(key)
        self._surplus.pop(key, None)
        if self._trimming is not None and self._trimming[0] == key:
            await self._trimming[1].wait()
        return TenantAllowance(key, self)

    def leave(self, key: str, nbytes: int | None) -> None:
        """A live tenant goes and leaves so many bytes; None if that is not known."""
        left = self.budget.granted(key) if nbytes is None else nbytes
        self.carry_out(self.budget.leave(key, left, self.now()))

    def carry_out(self, cuts: Cuts) -> None:
        """Have those who must make room do so."""
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
                with suppress(OSError):  # one that cannot be read is one that cannot be shrunk
                    yield entry.name, *measure(Path(entry.path))


def _look(shards: Iterator[tuple[str, int, int]]) -> Found:
    """One quantum: the next few shards. Runs in a worker thread."""
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
    try:
        return trim(root, left)
    except OSError as error:
        log.warning("cache could not be shrunk", error=type(error).__name__)
        return left

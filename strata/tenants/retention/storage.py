"""The room that one tenant has for results: what it keeps and writes, against its limits and the disk."""

from __future__ import annotations

import math
import threading
from functools import partial
from typing import Final

import attrs
import trio

from strata.artifacts.retention.contract import Usage
from strata.outcomes import Limit, Reason, RefusalError, Refused
from strata.tenants.budgets.disk_space import FULL, OVER_SHARE, DiskSpaceGuard
from strata.tenants.limits.model import TenantLimits
from strata.tenants.retention.collector import Aim, automatic, collect
from strata.tenants.shared.resources import Resources

AGAIN_SECONDS: Final = 5.0
"""Seconds for which a collection that freed too little is not repeated."""

BEGUN: Final = 2
"""Builds that have begun may fill this multiple of the tenant's share of the disk: six sevenths of it."""

PAGES: Final = 20
"""Most pages of results that a build looks at to remove unused ones."""

OVER_QUOTA: Final = Refused(
    Reason.UNAVAILABLE,
    "Insufficient storage: this tenant keeps as many bytes or results as it may ({}), and those are named, "
    "inputs of others, being read, or were used within artifact_min_idle_seconds. Remove results, or have "
    "the limit raised.",
    code="storage_quota",
)


def over_quota(name: str, most: int, seconds: float | None) -> Refused:
    """Return the refusal of a tenant that keeps all it may.

    Args:
        name: The limit.
        most: Its value.
        seconds: Seconds after which a result may be collected; None: waiting does not help.
    """
    wait = None if seconds is None else max(1, math.ceil(seconds))
    return attrs.evolve(
        OVER_QUOTA,
        detail=OVER_QUOTA.detail.format(f"{name} = {most}"),
        retry_after=wait,
        final=wait is None,
        limit=None if wait is None else Limit(name, most, wait),
    )


@attrs.define(eq=False)
class TenantStorage:
    """Takes space for results of one tenant, and frees space by removing unused ones.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        limits: The tenant's limits.
        kept: What the tenant keeps, as of the last look and of what was finished since.
        growing: Bytes of results under construction.
    """

    tenant: str
    resources: Resources
    limits: TenantLimits
    kept: Usage = attrs.field(factory=partial(Usage, 0, 0))
    growing: int = 0
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False)
    _collecting: trio.Lock = attrs.field(factory=trio.Lock, init=False, repr=False)
    _in_vain: float = attrs.field(default=-math.inf, init=False)

    @property
    def disk(self) -> DiskSpaceGuard | None:
        """The guard of the disk."""
        return self.resources.disk_space

    def begin(self) -> BuildRoom:
        """Return the room of a new build, which takes none yet."""
        return BuildRoom(self)

    def lacks(self, nbytes: int, versions: int = 0) -> Refused | None:
        """Return why ``nbytes`` more cannot be kept, or None; by the numbers held, thread-safe.

        A build that has begun may go over the tenant's share of the disk, up to :data:`BEGUN` times as much,
        so that its readers have a whole stream; one that begins may not.

        Args:
            nbytes: Bytes.
            versions: Versions; 0 for a build that has begun.
        """
        disk, limits = self.disk, self.limits
        if disk is not None and disk.lacks(nbytes):
            return FULL
        stored = self.kept.stored_bytes + self.growing
        if disk is not None and disk.share is not None and stored > (1 if versions else BEGUN) * disk.share:
            return OVER_SHARE
        if limits.artifact_max_bytes and stored + nbytes > limits.artifact_max_bytes:
            return over_quota("artifact_max_bytes", limits.artifact_max_bytes, None)
        if limits.artifact_max_count and self.kept.versions + versions > limits.artifact_max_count:
            return over_quota("artifact_max_count", limits.artifact_max_count, None)
        return None

    async def look(self) -> None:
        """Look at the disk, and at what the tenant keeps where that counts.

        Raises:
            RefusalError: If the store or the disk does not answer.
        """
        resources, disk, now = self.resources, self.disk, trio.current_time()
        if disk is not None and not disk.known(now):
            await resources.threads.disk.run(self.tenant, partial(disk.look, now))
        limited = self.limits.artifact_max_bytes or self.limits.artifact_max_count
        if limited or (disk is not None and disk.share is not None):
            self.kept = await resources.ask(self.tenant, resources.retention.usage, self.tenant)

    async def make_room(self, nbytes: int, versions: int = 0) -> Refused | None:
        """Remove unused results of the tenant until ``nbytes`` and ``versions`` more can be kept.

        Returns why there is none, or None.

        Raises:
            RefusalError: If the store or the disk does not answer.
        """
        if self.lacks(nbytes, versions) is None:
            return None
        async with self._collecting:
            await self.look()  # another build may have removed enough
            refused, now = self.lacks(nbytes, versions), trio.current_time()
            if refused is None:
                return None
            if now < self._in_vain + AGAIN_SECONDS:
                return await self._with_wait(refused)
            aim = self._aim(nbytes, versions)
            await collect(self.resources, self.tenant, aim, automatic(self.tenant), pages=PAGES)
            await self.look()
            refused = self.lacks(nbytes, versions)
            if refused is not None:
                self._in_vain = now
                return await self._with_wait(refused)
            return None

    def _aim(self, nbytes: int, versions: int) -> Aim:
        """Return what to keep, so that there is room."""
        disk, limits, most = self.disk, self.limits, math.inf
        if limits.artifact_max_bytes:
            most = limits.artifact_max_bytes - self.growing - nbytes
        if disk is not None and disk.share is not None:
            most = min(most, disk.share - self.growing)
        if disk is not None and disk.lacks(nbytes):
            most = min(most, self.kept.stored_bytes - disk.missing(nbytes))
        count = limits.artifact_max_count - versions if limits.artifact_max_count else None
        nothing = most == math.inf
        return Aim(
            limits.artifact_min_idle,
            max_bytes=None if nothing else max(0, int(most)),
            max_versions=None if count is None else max(0, count),
        )

    async def _with_wait(self, refused: Refused) -> Refused:
        """Return the refusal of a quota with the time after which the first result may be collected."""
        if refused.code != OVER_QUOTA.code:
            return refused
        retention, limits = self.resources.retention, self.limits
        first = await self.resources.ask(
            self.tenant, partial(retention.unused, self.tenant, before=math.inf, after=None, limit=1)
        )
        seconds = None
        if first:
            seconds = max(1.0, first[0].used_at + limits.artifact_min_idle - retention.now())
        name = "artifact_max_bytes" if "artifact_max_bytes" in refused.detail else "artifact_max_count"
        return over_quota(name, int(getattr(limits, name)), seconds)


@attrs.define(eq=False)
class BuildRoom:
    """The bytes that one build has taken.

    Attributes:
        storage: The tenant's storage.
        taken: Bytes taken so far.
    """

    storage: TenantStorage
    taken: int = 0

    def lacks(self, nbytes: int) -> bool:
        """Whether ``nbytes`` more cannot be taken; thread-safe."""
        return self.storage.lacks(nbytes) is not None

    def take(self, nbytes: int) -> None:
        """Take bytes that are about to be written; thread-safe, and may look at the disk.

        Raises:
            RefusalError: UNAVAILABLE if there is no room for them.
            OSError: If the disk cannot be asked.
        """
        storage = self.storage
        with storage._lock:  # noqa: SLF001  # the same module
            refused = storage.lacks(nbytes)
            if refused is not None:
                raise RefusalError(refused)
            storage.growing += nbytes
            self.taken += nbytes
        if storage.disk is not None:
            storage.disk.note_growth(nbytes)

    def disk_lacks(self, nbytes: int) -> bool:
        """Whether the disk has no space for ``nbytes`` beside results, such as of the cache."""
        disk = self.storage.disk
        return disk is not None and disk.lacks(nbytes)

    async def make(self, nbytes: int) -> None:
        """Remove unused results of the tenant until ``nbytes`` more can be kept.

        Raises:
            RefusalError: UNAVAILABLE if there is none, or the store or the disk does not answer.
        """
        refused = await self.storage.make_room(nbytes)
        if refused is not None:
            raise RefusalError(refused)

    def keep(self) -> None:
        """Count the bytes as kept: the result is finished."""
        storage, taken = self.storage, self.taken
        with storage._lock:  # noqa: SLF001
            storage.growing -= taken
            storage.kept = Usage(storage.kept.stored_bytes + taken, storage.kept.versions + 1)
            self.taken = 0

    def give_back(self) -> None:
        """Give the bytes back: there is no result. Harmless after :meth:`keep`."""
        storage, taken = self.storage, self.taken
        with storage._lock:  # noqa: SLF001
            storage.growing -= taken
            self.taken = 0
        if taken and storage.disk is not None:
            storage.disk.note_written(-taken)

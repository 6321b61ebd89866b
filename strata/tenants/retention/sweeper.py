"""Collect the results of all tenants by themselves: at an interval, and when the disk nears its reserve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from strata.artifacts.retention.contract import Usage
from strata.auth import DEFAULT_TENANT
from strata.outcomes import RefusalError
from strata.tenants.limits.model import TenantLimits
from strata.tenants.retention.collector import Aim, automatic, collect, tell_uses
from strata.tenants.retention.removed_bytes import remove_pending
from strata.tenants.shared.os_errors import error_name
from strata.tenants.shared.resources import Resources

OWN_SHARE: Final = DEFAULT_TENANT
"""The tenant whose share of threads reads what concerns all tenants."""

LOOK_SECONDS: Final = 10.0
"""Seconds between two looks at the disk and at the sums of tenants; uses are told to the store as often."""

LARGEST: Final = 1000
"""Tenants whose sums are known to metrics: those that keep the most."""

RELIEVED: Final = 16
"""Tenants of which results are collected in one go when the disk nears its reserve: the largest."""

TENANTS: Final = 100
"""Tenants read in one call of the store."""

PAGES: Final = 100
"""Most pages of results of one tenant that are collected in one go; the rest waits for the next."""

log = structlog.get_logger(__name__)


def regular_aim(limits: TenantLimits) -> Aim:
    """Return when results of a tenant go by its limits."""
    return Aim(
        limits.artifact_min_idle,
        limits.artifact_max_idle or None,
        limits.artifact_max_bytes or None,
        limits.artifact_max_count or None,
    )


@attrs.define(eq=False)
class Sweeper:
    """Ends unused results of all tenants.

    Attributes:
        resources: The process's shared resources.
        limits: Returns a tenant's limits.
        interval: Returns the seconds between two collections of all tenants; 0: results are collected only
            on request, and for a build of a tenant at its maximum.
    """

    resources: Resources
    limits: Callable[[str], TenantLimits]
    interval: Callable[[], float]
    _full: bool = False

    async def run(self) -> None:
        """Remove what a killed process has left, then collect until cancelled."""
        await self._try("leftovers", partial(remove_pending, self.resources, OWN_SHARE, of_all=True))
        collected = trio.current_time()
        while True:
            with trio.move_on_after(LOOK_SECONDS):
                await self.resources.uses.full.wait()
            self.resources.uses.full = trio.Event()
            for tenant in self.resources.uses.tenants():
                await self._try("uses", partial(tell_uses, self.resources, tenant))
            await self._try("failed builds", self.end_builds)
            for tenant in self.resources.lent.take_kept():
                await self._try("lent files", partial(remove_pending, self.resources, tenant))
            await self._try("disk", self.look)
            interval = self.interval()
            if not interval:
                continue
            disk = self.resources.disk_space
            if disk is not None and disk.near:
                await self._try("relief", self.relieve)
            if trio.current_time() >= collected + interval:
                collected = trio.current_time()
                await self._try("collection", self.collect_all)

    async def end_builds(self) -> None:
        """Note the builds as failed whose end the store could not be told of at the time."""
        unended, fail = self.resources.unended, self.resources.metadata.fail_build
        for tenant, build_id, refused in unended.noted():
            code = refused.code or refused.reason.value
            call = partial(fail, tenant, build_id, code=code, message=refused.detail)
            await self.resources.write(tenant, call)
            unended.forget(tenant, build_id)

    async def look(self) -> None:
        """Look at the disk and at the tenants' sums; log when the disk has become full, or no longer is."""
        resources, disk = self.resources, self.resources.disk_space
        found = await resources.ask(OWN_SHARE, resources.retention.largest, LARGEST)
        resources.stored.clear()
        resources.stored.update({tenant: usage.stored_bytes for tenant, usage in found})
        if disk is None:
            return
        await resources.threads.disk.run(OWN_SHARE, partial(disk.look, trio.current_time()))
        if disk.full == self._full:
            return
        self._full = disk.full
        if disk.full:
            largest = next(iter(resources.stored), None)
            log.error(
                "disk full: no result is built until disk_reserve_bytes are free",
                free_bytes=disk.free,
                reserve_bytes=disk.reserve,
                largest_tenant=largest,
            )
        else:
            log.info("disk has room again", free_bytes=disk.free, reserve_bytes=disk.reserve)

    async def relieve(self) -> None:
        """Collect unused results of the largest tenants until the disk is not near its reserve."""
        resources, disk = self.resources, self.resources.disk_space
        assert disk is not None
        for tenant, kept in await resources.ask(OWN_SHARE, resources.retention.largest, RELIEVED):
            if not disk.near:
                break
            aim = self._relief(tenant, kept, disk.missing_for_ease)
            await self._try("relief", partial(self._collect, tenant, aim))
            await resources.threads.disk.run(OWN_SHARE, partial(disk.look, trio.current_time()))
        if disk.near:
            log.warning(
                "disk nears disk_reserve_bytes, and what may go was collected",
                free_bytes=disk.free,
                reserve_bytes=disk.reserve,
            )

    def _relief(self, tenant: str, kept: Usage, missing: int) -> Aim:
        return Aim(self.limits(tenant).artifact_min_idle, max_bytes=max(0, kept.stored_bytes - missing))

    async def collect_all(self) -> None:
        """Collect the results of each tenant by its limits."""
        resources, after = self.resources, ""
        listing = partial(resources.metadata.list_tenants, limit=TENANTS)
        while tenants := await resources.ask(OWN_SHARE, listing, after=after):
            for tenant in tenants:
                aim = regular_aim(self.limits(tenant))
                await self._try("collection", partial(self._collect, tenant, aim))
            after = tenants[-1]

    async def _collect(self, tenant: str, aim: Aim) -> None:
        await collect(self.resources, tenant, aim, automatic(tenant), pages=PAGES)

    async def _try(self, what: str, call: Callable[[], object]) -> None:
        """Make a call; what cannot be done now is logged, and tried again the next time."""
        try:
            await call()  # type: ignore[misc]
        except RefusalError as error:
            log.warning("retention", what=what, code=error.refused.code)
        except OSError as error:
            log.warning("retention", what=what, error=error_name(error))

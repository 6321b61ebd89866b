"""Renew this server's lease, end the builds of dead servers, and forget what other servers removed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import attrs
import structlog
import trio

from strata.artifacts.servers.contract import BEATS, ServerFacts, ServerStore
from strata.outcomes import RefusalError
from strata.tenants.shared.resources import Resources
from strata.work.waiting_threads import Handover

T = TypeVar("T")

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Heartbeat:
    """Keeps this server among the servers of the database.

    Attributes:
        servers: The servers.
        resources: The process's shared resources.
        facts: Returns what this server tells of itself.
    """

    servers: ServerStore
    resources: Resources
    facts: Callable[[], ServerFacts]
    _threads: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 2))
    _late: bool = False

    async def run(self) -> None:
        """Renew the lease until cancelled; what fails is tried again at the next renewal."""
        interval, patience = self.servers.lease_seconds / BEATS, self.servers.lease_seconds / 2
        while True:
            await trio.sleep(interval)
            try:
                await self._call(partial(self.servers.beat, self.facts()), patience)
                if self._late:
                    log.warning("lease renewed: builds that ran meanwhile may have been taken over")
                self._late = False
                await self._look(patience)
            except (RefusalError, trio.TooSlowError):
                if self.servers.lapsed and not self._late:
                    self._late = True
                    log.error("lease over: other servers take over this one's builds")  # noqa: TRY400

    async def _look(self, patience: float) -> None:
        ended = await self._call(self.servers.end_dead, patience)
        if ended:
            log.warning("builds of a dead server ended", builds=ended)
        for version in await self._call(self.servers.removed_lately, patience):
            self.resources.forget_version(*version)

    async def _call(self, function: Callable[[], T], seconds: float) -> T:
        """Call the database in a thread of this task's own: tenants' calls do not delay a lease."""
        call = Handover(function)
        try:
            with trio.fail_after(seconds):
                return await trio.to_thread.run_sync(call.run, abandon_on_cancel=True, limiter=self._threads)
        except (trio.Cancelled, trio.TooSlowError):
            call.leave()
            raise

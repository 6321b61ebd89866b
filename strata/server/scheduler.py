"""Looks for schedules of notebooks whose time has come, and has their tenants run them."""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import structlog
import trio

from strata.notebooks.store.leases import ELSEWHERE
from strata.notebooks.store.schedules import ScheduleRecord
from strata.outcomes import RefusalError, Refused
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.notebooks.schedule_messages import RunSchedule
from strata.tenants.retention.sweeper import OWN_SHARE

LOOK_SECONDS: Final = 10.0
"""Seconds between two looks."""

DUE: Final = 100
"""Schedules that one look takes; what is left has its turn at the next one."""

DUE_EACH: Final = 20
"""The same, of one tenant."""

BEGIN_SECONDS: Final = 60.0
"""Seconds for the beginning of a run; a schedule that was not moved meanwhile is due again."""

POSTPONED_SECONDS: Final = 60.0
"""Seconds until the next try of a schedule whose tenant does not answer."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class Scheduler:
    """Runs schedules in time.

    Attributes:
        registry: The tenants.
    """

    registry: Registry

    async def run(self) -> None:
        """Look again and again; never returns."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Begin the runs of all schedules whose time has come."""
        resources = self.registry.resources
        store = resources.notebooks.schedules
        if self.registry.draining or self.registry.leaving:
            return
        try:
            due = await resources.ask(OWN_SHARE, partial(store.due, store.now(), DUE, DUE_EACH))
        except RefusalError as error:
            log.warning("schedules cannot be read", error=error.refused.code or error.refused.reason.value)
            return
        async with trio.open_nursery() as nursery:
            for record in due:
                nursery.start_soon(self._begin, record)

    async def _begin(self, record: ScheduleRecord) -> None:
        with trio.move_on_after(BEGIN_SECONDS):
            answer = await self.registry.ask(record.tenant, RunSchedule(record=record))
            if isinstance(answer, Refused) and answer.code != ELSEWHERE:  # whose server looks as well
                # Later, and behind those of other tenants: this one may be refused for days.
                log.warning("a schedule was not run", tenant=record.tenant, error=answer.code)
                resources = self.registry.resources
                store = resources.notebooks.schedules
                later = attrs.evolve(record, next_at=store.now() + POSTPONED_SECONDS, message=answer.detail)
                try:
                    await resources.write(record.tenant, store.move, record, later)
                except RefusalError as error:
                    log.warning("a schedule was not postponed", error=error.refused.code)

"""The catalogue of workers: what operators have switched, and how the workers are."""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import structlog
import trio

from strata.artifacts import Act
from strata.config.fields import NotebookWorker
from strata.notebooks.store.workers import WorkerState
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.retention.sweeper import OWN_SHARE
from strata.tenants.shared.resources import Resources

LOOK_SECONDS: Final = 5.0
"""Seconds after which a switch of another server takes effect here."""

WORKER_NOT_FOUND: Final = Refused(
    Reason.NOT_FOUND, "No worker of the configuration has this name.", code="worker_not_found"
)

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class WorkerCatalogue:
    """Switches workers, and tells how they are.

    Attributes:
        resources: The process's shared resources.
    """

    resources: Resources

    async def run(self) -> None:
        """Take over what other servers have switched; never returns."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                await self.load(OWN_SHARE)
            except RefusalError as error:
                log.warning("switches of workers cannot be read", error=error.refused.code)

    async def load(self, share: str) -> None:
        """Read and apply what is switched.

        Args:
            share: Whose threads read.

        Raises:
            RefusalError: If the store does not answer.
        """
        switches = await self.resources.ask(share, self.resources.notebooks.workers.load)
        self.resources.cells.take_switches(switches)

    def find(self, name: str) -> NotebookWorker | Refused:
        """Return the worker of a name."""
        found = [worker for worker in self.resources.cells.workers if worker.name == name]
        return found[0] if found else WORKER_NOT_FOUND

    def usable(self, tenant: str) -> list[NotebookWorker]:
        """Return the workers that a tenant may use, its default first; without those that are disabled."""
        cells = self.resources.cells
        found = [
            worker
            for worker in cells.workers
            if cells.may_use(worker, tenant) and cells.state_of(worker) is not WorkerState.DISABLED
        ]
        return sorted(found, key=lambda worker: not cells.takes(worker, tenant))

    async def look(self, *names: str, refresh: bool = False) -> None:
        """Ask executors how they are, all of them without names; each within some seconds."""
        cells = self.resources.cells
        chosen = [worker for worker in cells.workers if not names or worker.name in names]
        await cells.look(chosen, self.resources.notebooks.runs.now(), refresh=refresh)

    async def switch(self, name: str, state: WorkerState, act: Act) -> None:
        """Give a worker a state.

        Raises:
            RefusalError: If the store does not answer; the state may have changed then.
        """
        switch = partial(self.resources.notebooks.workers.switch, name, state, act)
        await self.resources.write(act.principal_tenant, switch)
        await self.load(act.principal_tenant)

    async def allow(self, name: str, tenant: str, places: int | None, act: Act) -> Refused | None:
        """Give a tenant an allowance on a worker, or take it back with ``None``.

        Raises:
            RefusalError: If the store does not answer; the allowance may have changed then.
        """
        allow = partial(self.resources.notebooks.workers.allow, name, tenant, places, act)
        refused = await self.resources.write(act.principal_tenant, allow)
        if refused is None:
            await self.load(act.principal_tenant)
        return refused

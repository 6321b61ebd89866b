"""Own the sessions of a tenant's notebooks among the servers of one database."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import msgspec
import structlog
import trio

from strata.auth import Principal
from strata.notebooks.model.results import CellResult, decode_result, encode_result
from strata.notebooks.session.lease import Tenure
from strata.notebooks.store.contract import ResultRow
from strata.notebooks.store.leases import ELSEWHERE, MOVED
from strata.outcomes import RefusalError, Refused
from strata.tenants.builds.materialize import Materializer
from strata.tenants.notebooks.messages import NotebookView
from strata.tenants.sessions.event_keeper import LOST_MESSAGE, SERVER_LOST, EventKeeper
from strata.tenants.sessions.live_session import LiveSession, RunningRun
from strata.tenants.shared.resources import Resources

RENEWALS: Final = 4
"""Renewals of a lease in its time."""

UNUSED_SECONDS: Final = 5.0
"""Seconds after its last use at which an idle session is given up, so that any server can take it."""

log = structlog.get_logger(__name__)


class _Noted(msgspec.Struct):
    """A cell that runs, as the store has it for another server."""

    cell: str
    record: str


@attrs.define(eq=False)
class Ownership:
    """The leases of a tenant's sessions on this server.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        materializer: The tenant's builds.
        live: The sessions by notebook.
        runs: Runs of whole notebooks by id.
        lose: Forgets the session of a notebook that another server owns.
        keeping: Whether a task renews the leases.
    """

    tenant: str
    resources: Resources
    materializer: Materializer
    live: dict[str, LiveSession]
    runs: dict[str, RunningRun]
    lose: Callable[[str], None]
    keeping: bool = False

    @property
    def events(self) -> EventKeeper:
        """Keeps the events of the sessions."""
        return EventKeeper(self.tenant, self.resources, self.check)

    async def take(
        self, principal: Principal, session: LiveSession, view: NotebookView
    ) -> NotebookView | Refused:
        """Own a session; a cell that its former owner did not bring to an end has that outcome then.

        Args:
            principal: Who opens the session.
            session: The session.
            view: The latest revision of the notebook, as it was before.

        Returns:
            The latest revision.

        Raises:
            RefusalError: If the store does not answer.
        """
        asked = trio.current_time()
        leases = self.resources.notebooks.leases
        found = await self.resources.write(self.tenant, leases.take, self.tenant, session.name)
        if isinstance(found, Refused):
            return found
        session.tenure = Tenure().granted(found.epoch, asked)
        if found.running:
            await self._settle(session, found.running)
        if leases.alone:
            return view
        if not self.keeping:
            self.keeping = True
            self.materializer.nursery.start_soon(self._keep)
        return await self.events.adopt(principal, session, view, lost=bool(found.running))

    async def results_of(self, principal: Principal, name: str) -> dict[str, list[CellResult]]:
        """Return the results of each cell of a notebook, the latest first.

        Raises:
            RefusalError: If the store does not answer.
        """
        rows = await self.resources.ask(self.tenant, self.resources.notebooks.list_results, self.tenant, name)
        return await self.resources.compute(self.tenant, principal.id, partial(_decoded, rows))

    def loaded(self, session: LiveSession) -> None:
        """A session is ready: from now on its events are kept."""
        session.loaded = True
        if session.log.stored is not None:
            self.materializer.nursery.start_soon(self.events.keep, session)

    async def verify(self, name: str) -> Refused | None:
        """Return the refusal of a session whose lease this server may have lost; forget one that it has.

        Raises:
            RefusalError: If the store does not answer.
        """
        session = self.live.get(name)
        leases = self.resources.notebooks.leases
        if session is None or not session.loaded or leases.alone:
            return None
        if not session.tenure.accepts(trio.current_time(), leases.seconds):
            await self._renew([session])
            if session.ended is None and not session.tenure.accepts(trio.current_time(), leases.seconds):
                return MOVED
        return None

    def check(self, name: str, epoch: int, refused: object) -> None:
        """Forget a session if the store has refused a write of it because another server owns it.

        Args:
            name: The notebook.
            epoch: The epoch that was refused. A later session of the notebook, on this server, goes on.
            refused: The store's answer.
        """
        if not isinstance(refused, Refused) or refused.code != ELSEWHERE:
            return
        session = self.live.get(name)
        if session is not None and session.tenure.epoch == epoch:
            self.lose(name)

    async def note(self, session: LiveSession, cell: str, result: CellResult) -> Refused | None:
        """Note that a cell begins to run, for a server that adopts the session meanwhile.

        Raises:
            RefusalError: If the store does not answer.
        """
        lost = attrs.evolve(result, how=SERVER_LOST, message=LOST_MESSAGE)
        noted = msgspec.json.encode(_Noted(cell, encode_result(lost))).decode()
        epoch = session.tenure.epoch
        refused = await self._note(session, noted)
        session.noted = refused is None
        self.check(session.name, epoch, refused)
        return refused

    async def note_end(self, session: LiveSession) -> None:
        """Note that a cell has ended, if that is not noted with its result; never raises."""
        if session.noted:
            session.noted = False
            try:
                await self._note(session, "")
            except RefusalError as error:
                log.warning("the end of a cell cannot be noted", error=error.refused.code)

    async def give_up(self, session: LiveSession) -> None:
        """Give up the lease of a session that is forgotten; never raises: it ends by itself."""
        session.keeping.cancel()
        give_up = self.resources.notebooks.leases.give_up
        try:
            await self.resources.write(self.tenant, give_up, self.tenant, session.name, session.tenure.epoch)
        except RefusalError as error:
            log.warning("the lease of a session cannot be given up", error=error.refused.code)

    def forget(self, session: LiveSession) -> None:
        """Let other servers own a session that this one has no more in memory."""
        if session.loaded and not self.resources.notebooks.leases.alone:
            self.materializer.nursery.start_soon(self.give_up, session)

    async def _note(self, session: LiveSession, noted: str) -> Refused | None:
        note = self.resources.notebooks.leases.note_running
        return await self.resources.write(
            self.tenant, note, self.tenant, session.name, session.tenure.epoch, noted
        )

    async def _settle(self, session: LiveSession, running: str) -> None:
        """Give the cell that a former owner ran its outcome."""
        noted = msgspec.json.decode(running, type=_Noted)
        kept = await self.resources.ask(
            self.tenant, self.resources.notebooks.list_results, self.tenant, session.name
        )
        row = ResultRow(cell=noted.cell, sha256=None, byte_size=0, record=noted.record)
        cells = {noted.cell, *(one.cell for one in kept)}
        add = self.resources.notebooks.add_result
        epoch = session.tenure.epoch
        await self.resources.write(
            self.tenant, add, self.tenant, session.name, row, cells, epoch=epoch, ended=True
        )
        who = decode_result(noted.record).principal
        log.warning("a cell of a lost server has no result", tenant=self.tenant, principal=who)

    async def _keep(self) -> None:
        """Renew the leases of the sessions in use, until there is none; never raises."""
        seconds = self.resources.notebooks.leases.seconds
        try:
            while True:
                await trio.sleep(seconds / RENEWALS)
                owned = [session for session in self.live.values() if session.loaded]
                if not owned and not any(session.loading.locked() for session in self.live.values()):
                    return
                for session in owned:
                    if self.live.get(session.name) is session and self.is_unused(session):
                        del self.live[session.name]
                        await self.give_up(session)
                try:
                    await self._renew([one for one in owned if self.live.get(one.name) is one])
                except RefusalError as error:  # what lasts too long ends the sessions
                    log.warning("leases of sessions cannot be renewed", error=error.refused.code)
                now = trio.current_time()
                for session in owned:
                    mine = self.live.get(session.name) is session
                    if mine and not session.tenure.accepts(now, seconds):
                        self.lose(session.name)
        except Exception:  # a bug in it costs the leases, which end by themselves, and not the tenant's actor
            log.exception("leases of sessions are not renewed any more", tenant=self.tenant)
        finally:
            self.keeping = False

    def is_unused(self, session: LiveSession, seconds: float = UNUSED_SECONDS) -> bool:
        """Whether a session can be forgotten: no member, cell, run, or request of the last seconds has it."""
        if not session.loaded or session.loading.locked():
            return False
        runs = any(run.session.name == session.name for run in self.runs.values())
        return session.idle and not runs and trio.current_time() - session.used > seconds

    async def _renew(self, owned: list[LiveSession]) -> None:
        """Prolong the leases of sessions; those that another server has taken are forgotten."""
        if not owned:
            return
        asked = trio.current_time()
        renew = self.resources.notebooks.leases.renew
        epochs = {session.name: session.tenure.epoch for session in owned}
        kept = await self.resources.write(self.tenant, renew, self.tenant, epochs)
        for session in owned:
            if session.name in kept:
                session.tenure = session.tenure.granted(session.tenure.epoch, asked)
            elif self.live.get(session.name) is session:
                self.lose(session.name)


def _decoded(rows: tuple[ResultRow, ...]) -> dict[str, list[CellResult]]:
    found: dict[str, list[CellResult]] = {}
    for row in rows:
        found.setdefault(row.cell, []).append(decode_result(row.record))
    return found

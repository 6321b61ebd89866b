"""Answer the questions about live sessions of a tenant's notebooks, and run their cells in order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from strata.artifacts.blobs.store import BlobReader
from strata.auth import Principal
from strata.notebooks.graph.dependencies import CellNode
from strata.notebooks.graph.staleness import CellRun, inputs_now, staleness
from strata.notebooks.model.annotations import read_annotations
from strata.notebooks.model.notebook import NOTEBOOK_NAME, Cell, Language
from strata.notebooks.model.results import REFUSED, CellResult, Output, Shown, source_hash
from strata.notebooks.session.events import Ended, LoadAgain, Numbered, Queued, Started
from strata.notebooks.store.contract import ResultRow
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.builds.materialize import Materializer
from strata.tenants.notebooks import session_messages as s
from strata.tenants.notebooks.bundles import notebook_prefix
from strata.tenants.notebooks.editor import NotebookEditor, notebook_resource
from strata.tenants.notebooks.messages import Deleted, DeleteNotebook, GetNotebook, NotebookView
from strata.tenants.sessions.cell_run import SKIPPED, CellExecution, Done, remove_bundles
from strata.tenants.sessions.live_session import MAX_QUEUED, LiveSession, QueuedRun, RunningRun, as_run
from strata.tenants.sessions.ownership import UNUSED_SECONDS, Ownership
from strata.tenants.sessions.plans import plan_of
from strata.tenants.sessions.table_reads import CellTables
from strata.tenants.shared.resources import Resources
from strata.work import Tier

MAX_SESSIONS: Final = 100
"""Sessions of a tenant in memory; idle ones go beyond, and are loaded again when needed."""

MAX_EVENTS: Final = 500
"""Maximum events of one answer."""

MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024
"""Maximum bytes of a value or display that is read in one answer."""

MAX_WATCHERS: Final = 1_000
"""Questions of a tenant that wait for events; further ones are refused."""

NO_WORKER: Final = Refused(
    Reason.CONFLICT,  # waiting does not help
    "No worker runs cells of this tenant. An operator configures [[tool.strata.notebook_workers]].",
    code="no_worker",
)

DRAINED: Final = attrs.evolve(
    NO_WORKER,
    detail="No worker of [[tool.strata.notebook_workers]] takes cells of this tenant now: "
    "all are drained or disabled, or have no place for it.",
)

OUTPUT_NOT_FOUND: Final = Refused(Reason.NOT_FOUND, "The cell has no such value or display.")

TOO_MANY_RUNS: Final = Refused(
    Reason.BUSY, f"At most {MAX_QUEUED} runs wait in a session.", code="too_many_runs", retry_after=5
)

TOO_MANY_WATCHERS: Final = Refused(
    Reason.BUSY,
    f"At most {MAX_WATCHERS} requests of a tenant wait for events.",
    code="too_many_watchers",
    retry_after=5,
)

log = structlog.get_logger(__name__)

Effective = Mapping[str, CellResult]
"""By cell, the result that counts for one principal."""


@attrs.define(eq=False)
class NotebookSessions:
    """The live sessions of a tenant.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        materializer: The tenant's builds.
        live: Sessions by notebook, the least recently used first.
        running: Sessions whose cells run, and followers.
        watchers: Questions that wait for events, and followers.
        runs: Runs of whole notebooks by id.
        ownership: The leases of the sessions.
    """

    tenant: str
    resources: Resources
    materializer: Materializer
    live: dict[str, LiveSession] = attrs.field(factory=dict)
    running: int = 0
    watchers: int = 0
    runs: dict[str, RunningRun] = attrs.field(factory=dict)
    ownership: Ownership = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ownership = Ownership(
            self.tenant, self.resources, self.materializer, self.live, self.runs, self.lose
        )

    def now(self) -> float:
        """Return the time of the store's clock, in seconds since the epoch."""
        return self.resources.notebooks.runs.now()

    @property
    def tables(self) -> CellTables:
        """Reader of tables for cells."""
        return CellTables(self.materializer)

    async def get(self, question: s.GetSession) -> s.SessionView | Refused:
        """Describe a session."""
        found = await self.opened(question.principal, question.name)
        return found if isinstance(found, Refused) else await self._view(question.principal, *found)

    async def run(self, question: s.RunCells) -> s.SessionView | Refused:
        """Queue runs of cells."""
        principal = question.principal
        found = await self.opened(principal, question.name)
        if isinstance(found, Refused):
            return found
        session, view = found
        refused = self.may_run(principal, question.name)
        if refused is not None:
            return refused
        if self.resources.cells.worker_for(self.tenant, None) is None:
            return DRAINED if self.resources.cells.has_worker(self.tenant) else NO_WORKER
        known = {cell.id for cell in view.content.cells}
        unknown = [cell for cell in question.cells or () if cell not in known]
        if unknown:
            detail = f"The notebook has no cell {unknown[0][:64]}."
            return Refused(Reason.UNPROCESSABLE, detail, code="cell_unknown", loc=("body", "cells"))
        states = staleness(view.graph, _sources(view), _runs(await self._effective(principal, session, view)))
        plan = plan_of(view, question.cells, {id_ for id_, state in states.items() if state.stale})
        if len(session.queue) + len(plan) > MAX_QUEUED:
            return TOO_MANY_RUNS
        asked = set(question.cells if question.cells is not None else plan)
        for cell in plan:
            session.queue.append(QueuedRun(cell, principal, view, force=question.force and cell in asked))
            session.tell(Queued(cell, principal.id))
        if session.current is None and plan:
            self._start(session)
        return await self._view(principal, session, view)

    async def interrupt(self, question: s.InterruptRun) -> s.SessionView | Refused:
        """Interrupt the run under way, and drop those that wait."""
        found = await self.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        session, view = found
        refused = self.may_run(question.principal, question.name)
        if refused is not None:
            return refused
        while session.queue:
            dropped = session.queue.popleft()
            session.tell(Ended(dropped.cell, 0, SKIPPED, "The run was dropped by an interrupt."))
        if session.current is not None:
            session.current.interrupt.asked.set()
        return await self._view(question.principal, session, view)

    async def watch(self, question: s.WatchSession) -> s.SessionEvents | Refused:
        """Return the events behind one, at once or when there is one."""
        found = await self.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        session, _ = found
        if session.log.told == question.after and question.seconds:
            if self.watchers >= MAX_WATCHERS:
                return TOO_MANY_WATCHERS
            self.watchers += 1
            session.watchers += 1
            try:
                with trio.move_on_after(question.seconds):
                    while session.log.told == question.after:
                        await session.changed.wait()
            finally:
                self.watchers -= 1
                session.watchers -= 1
            # The rights may have changed while it waited.
            found = await self.opened(question.principal, question.name)
            if isinstance(found, Refused):
                return found
        part = session.log.after(question.after, MAX_EVENTS)
        if not part:
            return s.SessionEvents(session=session.id, seq=question.after, complete=True, events=())
        return await self.shown(question.principal, session, part)

    async def shown(
        self, principal: Principal, session: LiveSession, part: tuple[Numbered, ...] | LoadAgain
    ) -> s.SessionEvents:
        """Return those of some events that a principal may see; one at least."""
        if isinstance(part, LoadAgain):
            return s.SessionEvents(session=session.id, seq=part.seq, complete=False, events=())
        found = []
        for one in part:
            behind = session.behind(one.event)
            if behind is not None and await self.resources.may_read(principal, behind):
                found.append(one)
            elif isinstance(one.event, Ended):  # what an error says may be of the tables
                found.append(attrs.evolve(one, event=attrs.evolve(one.event, message="")))
        return s.SessionEvents(session=session.id, seq=part[-1].seq, complete=True, events=tuple(found))

    def close(self) -> None:
        """End all followers: the actor ends."""
        for session in self.live.values():
            session.end("ended")
        for run in self.runs.values():
            run.end("lost")

    async def read(self, question: s.ReadOutput) -> s.OutputBytes | Refused:
        """Read a value or a display."""
        found = await self.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        session, view = found
        result = (await self._effective(question.principal, session, view)).get(question.cell)
        if result is None:
            return OUTPUT_NOT_FOUND
        place: Output | Shown | None = None
        if question.value is not None:
            place = result.outputs.get(question.value)
        elif question.display < len(result.displays):
            place = result.displays[question.display]
        if place is None or result.sha256 is None:
            return OUTPUT_NOT_FOUND
        if place.nbytes > MAX_OUTPUT_BYTES:
            detail = f"The value has {place.nbytes} bytes; at most {MAX_OUTPUT_BYTES} are read in one answer."
            return Refused(Reason.TOO_LARGE, detail, code="output_too_large")
        read = partial(
            _read,
            self.resources,
            notebook_prefix(self.tenant, session.name),
            result,
            place.offset,
            place.nbytes,
        )
        data = await self.resources.transfer(
            self.tenant, Tier.INTERACTIVE, read, cost=place.nbytes, principal=question.principal.id
        )
        return data if isinstance(data, Refused) else s.OutputBytes(place.content_type, data)

    async def delete(self, question: DeleteNotebook) -> Deleted | Refused:
        """Delete a notebook with its revisions and the results of its cells."""
        rows: tuple[ResultRow, ...] = ()
        if NOTEBOOK_NAME.fullmatch(question.name):
            listing = self.resources.notebooks.list_results
            rows = await self.resources.ask(self.tenant, listing, self.tenant, question.name)
        done = await NotebookEditor(self.tenant, self.resources).delete(question)
        if isinstance(done, Deleted):
            self._forget(question.name)
            hashes = tuple(sorted({row.sha256 for row in rows if row.sha256}))
            await remove_bundles(self.resources, self.tenant, question.name, hashes)
        return done

    def lose(self, name: str) -> None:
        """Forget a session that another server owns now; members open it again, there."""
        log.warning("a session has moved to another server", tenant=self.tenant)
        self._forget(name, "ended", "lost")

    def _forget(self, name: str, reason: str = "deleted", why: str = "cancelled") -> None:
        """Forget the session of a notebook; a run under way is interrupted.

        Args:
            name: The notebook.
            reason: What its members are told.
            why: How runs of the whole notebook end.
        """
        session = self.live.pop(name, None)
        for run in self.runs.values():
            if run.session.name == name:
                run.end(why)
        if session is not None:
            session.end(reason)
            session.queue.clear()
            if session.current is not None:
                session.current.interrupt.asked.set()

    def may_run(self, principal: Principal, name: str) -> Refused | None:
        """Return the refusal of a principal that the access rules do not let run cells of a notebook."""
        authorizer = self.resources.authorizer
        permitted = authorizer.permits(principal, notebook_resource(name), "run")
        return None if permitted else authorizer.forbidden("run")

    async def opened(self, principal: Principal, name: str) -> tuple[LiveSession, NotebookView] | Refused:
        """Return the session of a notebook that a principal may read, and its latest revision."""
        editor = NotebookEditor(self.tenant, self.resources)
        known = self.live.get(name)
        view = await editor.get(GetNotebook(principal=principal, name=name), known.view if known else None)
        if isinstance(view, Refused):
            return view
        refused = await self.ownership.verify(name)
        if refused is not None:
            return refused
        session = self.live.pop(name, None) or LiveSession(name)
        session.used = trio.current_time()
        session.keep(view)
        self.live[name] = session
        for other in [*self.live]:
            if len(self.live) <= MAX_SESSIONS:
                break
            # A request may use one that it opened just now; of very many, those are forgotten, too.
            recent = UNUSED_SECONDS if len(self.live) <= 2 * MAX_SESSIONS else 0
            if other != name and self.ownership.is_unused(self.live[other], recent):
                self.ownership.forget(self.live.pop(other))
        async with session.loading:
            if not session.loaded:
                taken = await self.ownership.take(principal, session, view)
                if isinstance(taken, Refused):
                    return taken
                view = taken
                session.keep(view)
                session.results = await self.ownership.results_of(principal, name)
                self.ownership.loaded(session)
        return session, view

    async def _effective(self, principal: Principal, session: LiveSession, view: NotebookView) -> Effective:
        """Return by cell the result that counts for a principal: of those it may read, the one that fits."""
        found: dict[str, CellResult] = {}
        sources, nodes = _sources(view), {node.id: node for node in view.graph.cells}
        for id_ in view.graph.order:
            node = nodes[id_]
            now = inputs_now(node, _runs(found))
            latest = fitting = None
            for one in session.candidates(id_):
                if not await self.resources.may_read(principal, one.versions):
                    continue
                latest = latest or one
                if (
                    one.source == sources[id_]
                    and one.inputs == now
                    and await self._is_current(principal, one)
                ):
                    fitting = one
                    break
            if fitting is not None:
                found[id_] = fitting
            elif latest is not None:
                # What does not fit is shown, and is stale: also where only its tables are others now.
                is_same = latest.source == sources[id_] and latest.inputs == now
                found[id_] = attrs.evolve(latest, inputs={**latest.inputs, TABLES: ""}) if is_same else latest
        return found

    async def _is_current(self, principal: Principal, result: CellResult) -> bool:
        for read in result.reads:
            if (await self.tables.identity(principal, read) or REFUSED) != read.key:
                return False
        return True

    async def _view(self, principal: Principal, session: LiveSession, view: NotebookView) -> s.SessionView:
        # Before anything is awaited: what happens meanwhile may be in the answer or not.
        seq = session.log.told
        effective = await self._effective(principal, session, view)
        states = staleness(view.graph, _sources(view), _runs(effective))
        cells = tuple(
            s.SessionCell(
                id=cell.id,
                status=session.status_of(cell.id),
                state=states[cell.id],
                result=effective.get(cell.id),
                hidden=cell.id not in effective and bool(session.results.get(cell.id)),
            )
            for cell in view.content.cells
        )
        now = trio.current_time()
        session.expire(now)
        return s.SessionView(
            session=session.id,
            seq=seq,
            revision=view.revision.revision,
            cells=cells,
            state=session.state,
            now=now,
        )

    def _start(self, session: LiveSession) -> None:
        """Run what is queued, one after the other, until nothing is."""
        session.begin(session.queue.popleft())
        self.running += 1
        self.materializer.nursery.start_soon(self._work, session)

    async def _work(self, session: LiveSession) -> None:
        try:
            while session.current is not None:
                run = session.current
                session.tell(Started(run.queued.cell, run.number))
                done = await self.perform(session)
                session.current = None
                session.tell(Ended(run.queued.cell, run.number, done.how, done.message))
                if session.queue:
                    session.begin(session.queue.popleft())
        finally:
            session.current = None
            self.running -= 1

    async def perform(self, session: LiveSession) -> Done:
        """Run the present cell; whatever goes wrong ends this run only."""
        run = session.current
        assert run is not None
        resources, principal = self.resources, run.queued.principal
        revoked = False

        async def permitted() -> bool:
            return self.may_run(principal, session.name) is None

        def revoke() -> None:
            nonlocal revoked
            revoked = True
            run.interrupt.asked.set()

        forget = resources.rights.add(self.tenant, permitted, revoke)
        try:
            done = await self._executed(session)
        except RefusalError as error:
            return Done(SKIPPED, error.refused.detail)
        except Exception:  # a bug in a cell's run must not end the tenant's actor
            log.exception("a cell's run crashed", tenant=self.tenant)
            return Done(SKIPPED, "Internal error; the server's log has it.")
        finally:
            forget()
            await self.ownership.note_end(session)
        return (
            attrs.evolve(done, message="The access rules do not permit the run any more.")
            if revoked
            else done
        )

    async def _executed(self, session: LiveSession) -> Done:
        run = session.current
        assert run is not None
        queued = run.queued
        refused = self.may_run(queued.principal, session.name)
        if refused is not None:
            return Done(SKIPPED, refused.detail)
        cell, node = _cell_of(queued.view, queued.cell)
        if not node.runnable:
            said = [one.message for one in node.diagnostics]
            return Done(SKIPPED, f"The cell cannot run. {' '.join(said[:1])}".strip())
        effective = await self._effective(queued.principal, session, queued.view)
        states = staleness(queued.view.graph, _sources(queued.view), _runs(effective))
        for before in dict.fromkeys((*node.inputs.values(), *node.after)):
            if states[before].stale and _cell_of(queued.view, before)[0].language is not Language.MARKDOWN:
                return Done(SKIPPED, f"The cell {before}, which comes before this one, has no result to use.")
        cells = self.resources.cells
        worker = cells.worker_for(self.tenant, _worker_of(cell))
        if worker is None:
            return Done(SKIPPED, cells.why_none(self.tenant, _worker_of(cell)))
        inputs = {
            name: effective[producer] for name, producer in node.inputs.items() if producer in effective
        }
        execution = CellExecution(
            self.tenant, self.resources, self.tables, session, run, inputs, worker, self.ownership
        )
        async with cells.place(worker, self.tenant):
            if run.interrupt.asked.is_set():
                return Done("interrupted", "The run was interrupted before it began.")
            if not cells.takes(worker, self.tenant):  # switched while the cell waited
                return Done(SKIPPED, cells.why_none(self.tenant, worker.name))
            return await execution.run(cell, node)


TABLES: Final = "@tables"
"""A name that no cell has, in the inputs of a result whose tables have changed for a principal."""


def _worker_of(cell: Cell) -> str | None:
    return read_annotations(cell.language.value, cell.source).worker


def _cell_of(view: NotebookView, id_: str) -> tuple[Cell, CellNode]:
    cell = next(cell for cell in view.content.cells if cell.id == id_)
    return cell, next(node for node in view.graph.cells if node.id == id_)


def _sources(view: NotebookView) -> Mapping[str, str]:
    return {cell.id: source_hash(cell.source) for cell in view.content.cells}


def _runs(effective: Effective) -> Mapping[str, CellRun]:
    return {id_: as_run(result) for id_, result in effective.items()}


def _read(resources: Resources, prefix: str, result: CellResult, offset: int, nbytes: int) -> bytes | Refused:
    assert result.sha256 is not None
    opened = resources.blobs.open_reader(prefix, result.sha256, result.nbytes)
    if not isinstance(opened, BlobReader):
        return opened
    try:
        return opened.read(offset, nbytes)
    finally:
        os.close(opened.fd)

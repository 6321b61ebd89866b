"""Runs of whole notebooks, which need no member: begun, ended, and kept with how each cell ended."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Final

import attrs
import msgspec
import structlog
import trio

from strata.artifacts import Act
from strata.auth import Principal
from strata.notebooks.session.events import Ended
from strata.notebooks.store.runs import RUN_NOT_FOUND, RUNNING, RunRecord
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.notebooks import run_messages as r
from strata.tenants.notebooks.editor import NotebookEditor
from strata.tenants.notebooks.messages import NotebookView
from strata.tenants.notebooks.parameters import CELL, parameters_cell, with_parameters
from strata.tenants.sessions.cell_run import SKIPPED, Done
from strata.tenants.sessions.live_session import LiveSession, QueuedRun, RunningRun
from strata.tenants.sessions.plans import plan_of
from strata.tenants.sessions.sessions import NO_WORKER, NotebookSessions

MAX_RUNNING: Final = 20
"""Runs of a tenant's notebooks at a time; further ones are refused."""

ALIVE_SECONDS: Final = 60.0
"""Seconds after which a run is believed lost whose server does not say that it goes on."""

KEPT_CHARACTERS: Final = 2_000
"""Characters kept of each text of a cell; a notebook of many cells keeps less of each."""

RECORD_CHARACTERS: Final = 64_000
"""Characters of all cells' texts in a run's record."""

OK: Final = "ok"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
TIMEOUT: Final = "timeout"
LOST: Final = "lost"

NO_WORKER_NOW: Final = Refused(
    Reason.BUSY,
    "The workers of this tenant take no cells now: they are drained or disabled, or have no place for it.",
    "no_worker_now",
    retry_after=60,
)
"""What ends by itself, other than that no worker is configured: schedules wait for it."""

TOO_MANY_RUNNING: Final = Refused(
    Reason.BUSY,
    f"At most {MAX_RUNNING} notebooks of a tenant run at a time.",
    "too_many_runs",
    retry_after=30,
)

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class NotebookRuns:
    """Answers the questions about runs.

    Attributes:
        sessions: The live sessions, which have the results.
    """

    sessions: NotebookSessions

    async def start(self, question: r.StartRun) -> r.RunView | Refused:
        """Begin a run."""
        sessions, principal, name = self.sessions, question.principal, question.name
        found = await sessions.opened(principal, name)
        if isinstance(found, Refused):
            return found
        live, _ = found
        refused = sessions.may_run(principal, name)
        if refused is not None:
            return refused
        cells = sessions.resources.cells
        if cells.worker_for(sessions.tenant, None) is None:
            return NO_WORKER_NOW if cells.has_worker(sessions.tenant) else NO_WORKER
        view = await self._view(question)
        if isinstance(view, Refused):
            return view
        if len(sessions.runs) >= MAX_RUNNING:
            return TOO_MANY_RUNNING
        now = sessions.now()
        record = RunRecord(
            run=f"{int(now * 1000):012x}{secrets.token_hex(4)}",
            author=principal.id,
            schedule=question.schedule,
            revision=view.revision.revision,
            state=RUNNING,
            began_at=now,
            ended_at=None,
            alive_until=now + ALIVE_SECONDS,
            record="",
        )
        details = r.RunDetails(parameters=question.parameters)
        session = LiveSession(name, results=live.results, loaded=True, tenure=live.tenure)
        for cell in plan_of(view, None, set()):
            session.queue.append(QueuedRun(cell, principal, view, force=question.force, keeps=True))
        run = RunningRun(attrs.evolve(record, record=_encoded(details)), session, details)
        sessions.runs[record.run] = run  # before the store has it: a second request is refused in time
        try:
            add = sessions.resources.notebooks.runs.add
            act = _act(sessions.tenant, question, record)
            refused = await sessions.resources.write(
                sessions.tenant, add, sessions.tenant, name, run.record, act
            )
        except BaseException:  # raised again: what has not begun holds no place
            del sessions.runs[record.run]
            raise
        if refused is not None:
            del sessions.runs[record.run]
            return refused
        sessions.running += 1
        sessions.materializer.nursery.start_soon(self._perform, run, live, question.seconds)
        return r.RunView(run.record, details)

    async def list_runs(self, question: r.ListRuns) -> tuple[r.RunView, ...] | Refused:
        """List runs, the latest first; without what their cells printed."""
        sessions = self.sessions
        found = await sessions.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        listing = partial(
            sessions.resources.notebooks.runs.list_runs, before=question.before, limit=question.limit
        )
        records = await sessions.resources.ask(sessions.tenant, listing, sessions.tenant, question.name)
        decode = partial(_all_decoded, records)
        details = await sessions.resources.compute(sessions.tenant, question.principal.id, decode)
        return tuple(
            r.RunView(self._judged(record), attrs.evolve(one, cells=tuple(map(_bare, one.cells))))
            for record, one in zip(records, details, strict=True)
        )

    async def get(self, question: r.GetRun) -> r.RunView | Refused:
        """Read a run."""
        sessions = self.sessions
        found = await sessions.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        get = sessions.resources.notebooks.runs.get
        record = await sessions.resources.ask(
            sessions.tenant, get, sessions.tenant, question.name, question.run
        )
        return RUN_NOT_FOUND if record is None else await self._shown(question.principal, record)

    async def cancel(self, question: r.CancelRun) -> r.RunView | Refused:
        """End a run of this server; the cells that it has run keep their results."""
        sessions = self.sessions
        view = await self.get(r.GetRun(principal=question.principal, name=question.name, run=question.run))
        if isinstance(view, Refused):
            return view
        refused = sessions.may_run(question.principal, question.name)
        if refused is not None:
            return refused
        run = sessions.runs.get(question.run)
        if run is not None and run.session.name == question.name:
            run.end(CANCELLED)
        return view

    async def _view(self, question: r.StartRun) -> NotebookView | Refused:
        """Return the revision to run, with the parameters in it."""
        editor = NotebookEditor(self.sessions.tenant, self.sessions.resources)
        change = partial(with_parameters, question.parameters)
        view = await editor.changed(question.principal, question.name, question.revision, change)
        if isinstance(view, Refused) or not question.parameters:
            return view
        place = parameters_cell(view.content)
        defined = {name for node in view.graph.cells if node.id == place for name in node.defines}
        unknown = sorted(question.parameters.keys() - defined)
        if unknown:
            detail = f"The cell with the tag 'parameters' does not define {unknown[0][:64]}."
            return Refused(Reason.UNPROCESSABLE, detail, code="parameter_unknown", loc=("body", "parameters"))
        return view

    async def _perform(self, run: RunningRun, live: LiveSession, seconds: float) -> None:
        """Run the cells one after the other, and keep how they end; never raises.

        The run is one of this server's until its end is written: it would look lost in between.
        """
        sessions = self.sessions
        try:
            state = await self._performed(run, live, seconds)
            ended = attrs.evolve(
                run.record, state=state, ended_at=sessions.now(), record=_encoded(run.details)
            )
            await self._write(run, ended)
        finally:
            del sessions.runs[run.record.run]
            sessions.running -= 1
        if run.on_end is not None:
            await run.on_end(state)

    async def _performed(self, run: RunningRun, live: LiveSession, seconds: float) -> str:
        """Run the cells one after the other, and return how the run ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._say_alive, run)
                nursery.start_soon(_end_after, run, seconds)
                await self._run_all(run, live)
                nursery.cancel_scope.cancel()
        except Exception:  # a bug in a run must not end the tenant's actor
            log.exception("a run of a notebook crashed", tenant=self.sessions.tenant)
            run.why = run.why or FAILED
        finally:
            run.session.current = None
        good = all(one.how in (OK, "reused") for one in run.details.cells)
        return run.why or (OK if good else FAILED)

    async def _run_all(self, run: RunningRun, live: LiveSession) -> None:
        session = run.session
        while session.queue:
            queued = session.queue.popleft()
            if run.why is not None:
                done = Done(SKIPPED, "The run was ended before.")
            else:
                session.begin(queued)
                done = await self.sessions.perform(session)
                session.current = None
                if queued.cell != CELL:
                    live.tell(Ended(queued.cell, 0, done.how, ""))  # members see the new result
            cells = (*run.details.cells, _cell(queued.cell, done))
            run.details = attrs.evolve(run.details, cells=cells)

    async def _say_alive(self, run: RunningRun) -> None:
        while True:
            await trio.sleep(ALIVE_SECONDS / 3)
            until = self.sessions.now() + ALIVE_SECONDS
            run.record = attrs.evolve(run.record, alive_until=until, record=_encoded(run.details))
            await self._write(run, run.record)

    async def _write(self, run: RunningRun, record: RunRecord) -> None:
        sessions = self.sessions
        change = sessions.resources.notebooks.runs.change
        try:
            await sessions.resources.write(sessions.tenant, change, sessions.tenant, run.session.name, record)
        except RefusalError as error:  # the next one says it again; without it the run is lost
            log.warning("a run cannot be noted", tenant=sessions.tenant, error=error.refused.code)

    async def _shown(self, principal: Principal, record: RunRecord) -> r.RunView:
        """Return a run without what the caller may not see."""
        sessions = self.sessions
        running = sessions.runs.get(record.run)
        details = running.details if running is not None else await self._decoded(principal, record)
        cells = []
        for one in details.cells:
            if await sessions.resources.may_read(principal, one.versions):
                cells.append(one)
            else:
                cells.append(r.RunCell(cell=one.cell, how=one.how, hidden=True))
        return r.RunView(self._judged(record), attrs.evolve(details, cells=tuple(cells)))

    async def _decoded(self, principal: Principal, record: RunRecord) -> r.RunDetails:
        decode = partial(_all_decoded, (record,))
        return (await self.sessions.resources.compute(self.sessions.tenant, principal.id, decode))[0]

    def _judged(self, record: RunRecord) -> RunRecord:
        """Return a run, lost if its server has not said for long that it goes on."""
        if record.state == RUNNING and record.run not in self.sessions.runs:
            return attrs.evolve(record, state=LOST) if self.sessions.now() > record.alive_until else record
        return record


async def _end_after(run: RunningRun, seconds: float) -> None:
    await trio.sleep(seconds)
    run.end(TIMEOUT)


def _cell(cell: str, done: Done) -> r.RunCell:
    result = done.result
    if result is None:
        return r.RunCell(cell=cell, how=done.how, message=done.message)
    return r.RunCell(
        cell=cell,
        how=done.how,
        message=done.message,
        seconds=result.seconds,
        stdout=result.stdout[:KEPT_CHARACTERS],
        stderr=result.stderr[:KEPT_CHARACTERS],
        traceback=None if result.traceback is None else result.traceback[-KEPT_CHARACTERS:],
        displays=tuple(one.preview[:KEPT_CHARACTERS] for one in result.displays[:5]),
        versions=result.versions,
    )


def _bare(cell: r.RunCell) -> r.RunCell:
    return r.RunCell(cell=cell.cell, how=cell.how, seconds=cell.seconds)


def _encoded(details: r.RunDetails) -> str:
    """Return details as JSON; of many long texts each keeps its share."""
    size = sum(
        sum(map(len, (one.stdout, one.stderr, one.message, one.traceback or "", *one.displays)))
        for one in details.cells
    )
    if size > RECORD_CHARACTERS:
        each = RECORD_CHARACTERS // (5 * len(details.cells))
        cells = tuple(
            attrs.evolve(
                one,
                stdout=one.stdout[:each],
                stderr=one.stderr[:each],
                message=one.message[:each],
                traceback=one.traceback and one.traceback[-each:],
                displays=tuple(text[: each // 5] for text in one.displays),
            )
            for one in details.cells
        )
        details = attrs.evolve(details, cells=cells)
    return msgspec.json.encode(details).decode()


def _all_decoded(records: tuple[RunRecord, ...]) -> list[r.RunDetails]:
    return [msgspec.json.decode(one.record, type=r.RunDetails) for one in records]


def _act(tenant: str, question: r.StartRun, record: RunRecord) -> Act:
    what = {"notebook": question.name, "revision": record.revision, "run": record.run}
    return Act(
        tenant=tenant,
        principal=question.principal.id,
        principal_tenant=question.principal.tenant,
        action="notebooks.run",
        request_id=question.request_id,
        old=None,
        new=msgspec.json.encode(what).decode(),
    )

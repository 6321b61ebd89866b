"""The live session of a notebook: its queue of runs, its events, and the results of its cells."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import attrs
import trio

from strata.auth import Principal
from strata.cells.runner import Interrupt
from strata.notebooks.graph.staleness import CellRun
from strata.notebooks.model.results import CellResult
from strata.notebooks.session.events import Ended, Event, EventLog, Left, Printed
from strata.notebooks.session.lease import Tenure
from strata.notebooks.session.state import SessionState
from strata.notebooks.store.runs import RunRecord
from strata.tenants.notebooks.messages import NotebookView
from strata.tenants.notebooks.run_messages import RunDetails
from strata.tracing.spans import Span, current

MAX_QUEUED: Final = 1_000
"""Maximum runs that wait in a session; further ones are refused."""

MEMBER_SECONDS: Final = 30.0
"""Seconds that a member without a socket stays behind its last request."""

MAX_VIEW_BYTES: Final = 64 * 1024
"""Bytes of the largest notebook whose latest revision is kept decoded; larger ones are read each time."""

RUNS_REMEMBERED: Final = 1_000
"""Runs whose tables are known, so that what they printed can be shown; what older ones printed is not."""


@attrs.frozen(eq=False)
class QueuedRun:
    """A run that waits for its turn.

    Attributes:
        cell: The cell.
        principal: Who runs it.
        view: The notebook as it was at the request for the run.
        force: Run it also where a result could be reused.
        keeps: Whether the results of cells that its notebook has not are kept: it may be an old one.
        span: The span of what asked for the run; None where nothing is traced.
    """

    cell: str
    principal: Principal
    view: NotebookView
    force: bool
    keeps: bool = False
    span: Span | None = attrs.field(factory=current, repr=False)


@attrs.define(eq=False)
class CurrentRun:
    """The run under way.

    Attributes:
        queued: The run.
        number: Its number.
        interrupt: Interrupts it.
    """

    queued: QueuedRun
    number: int
    interrupt: Interrupt = attrs.field(factory=Interrupt)


@attrs.define(eq=False)
class LiveSession:
    """A session.

    Attributes:
        name: The notebook.
        id: Its id, that of the former owner where its events are known.
        log: Its events.
        changed: Set with each event; then there is another one.
        queue: Runs that wait.
        current: The run under way.
        results: The results of each cell, the latest first.
        versions: Versions of the tables behind each of the last runs, by its number.
        runs: Number of the last run.
        watchers: Questions that wait for an event, and members that follow.
        state: Members and locks.
        expires: When a member without a socket goes, by its id.
        ended: Why it cannot be followed any more; ``None``: it goes on.
        tenure: What this server knows of its lease.
        used: When it was last asked for, on Trio's clock.
        view: The latest revision that was read, if it is small.
        noted: Whether the store has that its present cell runs.
        loaded: Whether this server owns it, and has its results.
        said: Set with each event that the store has to keep; then there is another one.
        keeping: Cancels the task that keeps them.
        kept_rows: Number of the last event, and bytes, of each row of events in the store.
        rows_gone: Number of the event up to which the store's rows are to go.
    """

    name: str
    id: str = attrs.field(factory=lambda: secrets.token_hex(8))
    log: EventLog = attrs.field(factory=EventLog)
    changed: trio.Event = attrs.field(factory=trio.Event)
    queue: deque[QueuedRun] = attrs.field(factory=deque)
    current: CurrentRun | None = None
    results: dict[str, list[CellResult]] = attrs.field(factory=dict)
    versions: dict[int, dict[str, str]] = attrs.field(factory=dict)
    runs: int = 0
    watchers: int = 0
    state: SessionState = attrs.field(factory=SessionState)
    expires: dict[str, float] = attrs.field(factory=dict)
    ended: str | None = None
    tenure: Tenure = attrs.field(factory=Tenure)
    used: float = attrs.field(factory=trio.current_time)
    view: NotebookView | None = None
    noted: bool = False
    loaded: bool = False
    loading: trio.Lock = attrs.field(factory=trio.Lock)
    said: trio.Event = attrs.field(factory=trio.Event)
    keeping: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    kept_rows: deque[tuple[int, int]] = attrs.field(factory=deque)
    rows_gone: int = 0

    @property
    def idle(self) -> bool:
        """True if nothing runs, and no member, question or event waits: the session can be forgotten."""
        waits = self.queue or self.watchers or self.state.members or self.log.told != self.log.last
        return self.current is None and not waits

    def keep(self, view: NotebookView) -> None:
        """Keep a revision, so that the next request need not read and analyse it again."""
        self.view = view if view.revision.nbytes <= MAX_VIEW_BYTES else None

    def tell(self, *events: Event) -> None:
        """Add events to the log, and wake those that wait for them, or first the task that keeps them."""
        for event in events:
            self.log.append(event)
        self.state = self.state.after(events)
        if self.log.stored is None:
            self.wake()
        else:
            self.said.set()
            self.said = trio.Event()

    def wake(self) -> None:
        """Wake those that wait for an event."""
        self.changed.set()
        self.changed = trio.Event()

    def expire(self, now: float) -> None:
        """Let members go whose time is over, and free locks whose time is over."""
        for member in [one for one, until in self.expires.items() if until <= now]:
            del self.expires[member]
            self.tell(*self.state.leave(member, "idle"))
        freed = self.state.tick(now)
        if freed:
            self.tell(*freed)

    def end(self, reason: str) -> None:
        """End what follows the session; its runs are another matter."""
        self.ended = reason
        self.expires.clear()
        self.tell(*(Left(member, "ended") for member in [*self.state.members]))
        self.wake()

    def begin(self, queued: QueuedRun) -> CurrentRun:
        """Make a run the one under way."""
        self.runs += 1
        self.current = CurrentRun(queued, self.runs)
        self.versions[self.runs] = {}
        if len(self.versions) > RUNS_REMEMBERED:
            del self.versions[next(iter(self.versions))]
        return self.current

    def status_of(self, cell: str) -> str:
        """Return whether a cell is ``running``, ``queued`` or ``idle``."""
        if self.current is not None and self.current.queued.cell == cell:
            return "running"
        return "queued" if any(one.cell == cell for one in self.queue) else "idle"

    def behind(self, event: Event) -> Mapping[str, str] | None:
        """Return the versions of the tables behind an event; ``None``: they are not known any more."""
        match event:
            case Printed(run=run):
                return self.versions.get(run)
            case Ended(run=run, message=message) if run and message:
                return self.versions.get(run)
        return {}

    def candidates(self, cell: str) -> Iterator[CellResult]:
        """Yield the results of a cell, the latest first."""
        yield from self.results.get(cell, ())


@attrs.define(eq=False)
class RunningRun:
    """A run that has not ended.

    Attributes:
        record: What the store has of it.
        session: Its queue; not the one that members follow.
        details: How its cells have ended so far.
        on_end: Called with its state when it has ended.
        why: Why it ends early: ``cancelled``, ``timeout`` or ``lost``.
    """

    record: RunRecord
    session: LiveSession
    details: RunDetails
    why: str | None = None
    on_end: Callable[[str], Awaitable[None]] | None = None

    def end(self, why: str) -> None:
        """End it early."""
        self.why = self.why or why
        if self.session.current is not None:
            self.session.current.interrupt.asked.set()


def as_run(result: CellResult) -> CellRun:
    """Return what staleness needs of a result."""
    outputs = {name: one.sha256 for name, one in result.outputs.items()}
    return CellRun(source=result.source, inputs=result.inputs, outputs=outputs, succeeded=result.ok)

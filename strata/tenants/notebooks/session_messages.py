"""The questions about a notebook's live session to a tenant's actor and its answers: frozen values.

An answer is the value named in the question's docstring or a :class:`~strata.outcomes.Refused`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from strata.auth import Principal
from strata.notebooks.graph.staleness import CellState
from strata.notebooks.model.results import CellResult
from strata.notebooks.session.events import Numbered
from strata.notebooks.session.state import SessionState


@attrs.frozen(kw_only=True)
class GetSession:
    """Describe the session of a notebook. Answer: :class:`SessionView`."""

    principal: Principal
    name: str


@attrs.frozen(kw_only=True)
class RunCells:
    """Run cells, and first those before them that are stale. Answer: :class:`SessionView`.

    Attributes:
        principal: The caller, with whose rights they run.
        name: The notebook.
        cells: The cells; ``None``: all.
        force: Run the cells also where a result could be reused.
    """

    principal: Principal
    name: str
    cells: tuple[str, ...] | None = None
    force: bool = False


@attrs.frozen(kw_only=True)
class InterruptRun:
    """Interrupt the run under way, and drop those that wait. Answer: :class:`SessionView`."""

    principal: Principal
    name: str


@attrs.frozen(kw_only=True)
class WatchSession:
    """Wait for events of a session. Answer: :class:`SessionEvents`.

    Attributes:
        principal: The caller.
        name: The notebook.
        after: Number of the last event that the caller has.
        seconds: How long to wait for a further one.
    """

    principal: Principal
    name: str
    after: int
    seconds: float


@attrs.frozen(kw_only=True)
class ReadOutput:
    """Read a value or a display of a cell's result. Answer: :class:`OutputBytes`.

    Attributes:
        principal: The caller.
        name: The notebook.
        cell: The cell.
        value: Name of the value; ``None``: a display.
        display: Place of the display, from 0.
    """

    principal: Principal
    name: str
    cell: str
    value: str | None = None
    display: int = 0


@attrs.frozen
class OutputBytes:
    """The bytes of a value or a display, with their form."""

    content_type: str
    data: bytes


@attrs.frozen(kw_only=True)
class SessionCell:
    """A cell in a session, as one caller sees it.

    Attributes:
        id: The cell.
        status: ``idle``, ``queued`` or ``running``.
        state: Why it is stale, if it is.
        result: Its latest result that the caller may see.
        hidden: Whether there are results that the caller may not see, because of the tables behind them.
    """

    id: str
    status: str
    state: CellState
    result: CellResult | None
    hidden: bool


@attrs.frozen(kw_only=True)
class SessionView:
    """A session, as one caller sees it.

    Attributes:
        session: Its id; events of another one are not its. A restart of a lone server changes it.
        seq: Number of its last event.
        revision: Revision of the notebook.
        cells: The cells in order.
        state: Its members and locks.
        now: When this was so, on the clock of the locks.
    """

    session: str
    seq: int
    revision: int
    cells: tuple[SessionCell, ...]
    state: SessionState
    now: float


@attrs.frozen(kw_only=True)
class SessionEvents:
    """Events of a session.

    Attributes:
        session: Its id.
        seq: Number up to which the caller has all events that it may see.
        complete: False: some have gone from the log; the state has to be loaded.
        events: The events, the oldest first.
    """

    session: str
    seq: int
    complete: bool
    events: tuple[Numbered, ...]


@attrs.frozen(kw_only=True)
class FollowSession:
    """Join a session as a member, and follow its events. Answer: :class:`Followed`.

    Attributes:
        principal: The caller.
        name: The notebook.
        writes: Whether its scopes let it edit.
        session: The session whose events the caller has; ``None``: of none.
        after: Number of the last event that it has.
    """

    principal: Principal
    name: str
    writes: bool
    session: str | None = None
    after: int = 0


@attrs.define(eq=False)
class Followed:
    """A member of a session, and what happens in it.

    Attributes:
        session: The session's id.
        member: The member's id.
        seq: Number of the event from which the events go on.
        complete: Whether they go on where the caller was; if not, the session is to be read.
        events: The events, the first time none; they end when the session ends it.
        leave: Leaves the session; to be called in any case.
        reason: Why the session ended it: ``revoked``, ``deleted``, ``too_slow`` or ``ended``.
    """

    session: str
    member: str
    seq: int
    complete: bool
    events: trio.MemoryReceiveChannel[SessionEvents]
    leave: Callable[[], None]
    reason: str | None = None


@attrs.frozen(kw_only=True)
class JoinSession:
    """Join a session without a socket, or stay in it. Answer: :class:`Presence`.

    Attributes:
        principal: The caller.
        name: The notebook.
        writes: Whether its scopes let it edit.
        member: Its id; ``None``: it joins.
        focus: The cell that it looks at; ``None``: none.
    """

    principal: Principal
    name: str
    writes: bool
    member: str | None = None
    focus: str | None = None


@attrs.frozen(kw_only=True)
class LeaveSession:
    """Leave a session. Answer: :class:`Presence`."""

    principal: Principal
    name: str
    member: str


@attrs.frozen(kw_only=True)
class LockCell:
    """Lock a cell for a member, or free it. Answer: :class:`Presence`."""

    principal: Principal
    name: str
    member: str
    cell: str
    locked: bool


@attrs.frozen
class Presence:
    """Who is in a session.

    Attributes:
        session: Its id.
        seq: Number of its last event.
        member: The caller's member.
        state: Members and locks.
        now: When this was so, on the clock of the locks.
    """

    session: str
    seq: int
    member: str
    state: SessionState
    now: float


SessionQuestion = (
    GetSession
    | RunCells
    | InterruptRun
    | WatchSession
    | ReadOutput
    | FollowSession
    | JoinSession
    | LeaveSession
    | LockCell
)

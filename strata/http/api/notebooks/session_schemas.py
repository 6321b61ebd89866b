"""The JSON of a notebook's live session that goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from strata.http.api.notebooks.schemas import CellId
from strata.notebooks.model.limits import MAX_CELLS


class RunBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/session/run``: null runs all cells; ``force`` reuses no result of the cells named."""

    cells: Annotated[list[CellId], Meta(min_length=1, max_length=MAX_CELLS)] | None = None
    force: bool = False


class StaleReasonAnswer(msgspec.Struct):
    """Why a cell is stale, with the name and the cell that it is about."""

    because: Literal["never_run", "failed", "source_changed", "input_changed", "upstream_stale"]
    name: str | None
    cell: str | None


class ValueAnswer(msgspec.Struct):
    """A value that a run left."""

    content_type: str
    sha256: str
    bytes: int
    type: str
    preview: str


class DisplayAnswer(msgspec.Struct):
    """Something that a run displayed."""

    content_type: str
    bytes: int
    preview: str


class CellResultAnswer(msgspec.Struct):
    """The result of a run; ``outcome`` is ``ok``, or the code of an error with its ``message``."""

    outcome: str
    message: str
    traceback: str | None
    line: int | None
    seconds: float
    run_by: str
    revision: int
    stdout: str
    stderr: str
    values: dict[str, ValueAnswer]
    displays: list[DisplayAnswer]
    displays_left_out: int
    changed_in_place: list[str]


class SessionCellAnswer(msgspec.Struct):
    """A cell in a session; ``hidden``: its results need rights that the caller has not."""

    id: str
    status: Literal["idle", "queued", "running"]
    stale: list[StaleReasonAnswer]
    hidden: bool
    result: CellResultAnswer | None


MemberId = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class MemberAnswer(msgspec.Struct):
    """A member of a session; ``focus`` is the cell that it looks at."""

    member: str
    principal: str
    writes: bool
    focus: str | None


class LockAnswer(msgspec.Struct):
    """The lock of a cell, which is free in ``seconds``."""

    cell: str
    member: str
    principal: str
    seconds: float


class SessionAnswer(msgspec.Struct):
    """A session; ``seq`` is the number of its last event."""

    session: str
    seq: int
    revision: int
    cells: list[SessionCellAnswer]
    members: list[MemberAnswer]
    locks: list[LockAnswer]


class PresenceAnswer(msgspec.Struct):
    """Who is in a session; ``member`` is the caller's."""

    session: str
    seq: int
    member: str
    members: list[MemberAnswer]
    locks: list[LockAnswer]


class JoinBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/session/members``: without ``member`` the caller joins, with it it stays."""

    member: MemberId | None = None
    focus: CellId | None = None


class LockBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PUT …/session/locks/{cell}``: the member that edits the cell."""

    member: MemberId


class EventAnswer(msgspec.Struct):
    """An event of a session; the fields of ``payload`` are those of its ``type``."""

    seq: int
    type: str
    payload: dict[str, Any]


class EventsAnswer(msgspec.Struct):
    """Events behind one; if they are not ``complete``, some have gone: read the session."""

    session: str
    seq: int
    complete: bool
    events: list[EventAnswer]


class StartRunBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/runs``: a revision (null: the latest), values of parameters, and a deadline."""

    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    parameters: Annotated[dict[Annotated[str, Meta(max_length=256)], Any], Meta(max_length=100)] = {}
    force: bool = False
    timeout_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0


class RunCellAnswer(msgspec.Struct):
    """How a cell of a run ended; ``hidden``: the rest needs rights that the caller has not."""

    cell: str
    how: str
    message: str
    seconds: float
    stdout: str
    stderr: str
    traceback: str | None
    displays: list[str]
    hidden: bool


class NotebookRunAnswer(msgspec.Struct):
    """A run of a whole notebook; a listing has no texts of its cells."""

    run: str
    author: str
    schedule: str | None
    revision: int
    state: Literal["running", "ok", "failed", "cancelled", "timeout", "lost"]
    began_at: str
    ended_at: str | None
    parameters: dict[str, Any]
    cells: list[RunCellAnswer]


class NotebookRunsAnswer(msgspec.Struct):
    """Runs of a notebook, the latest first."""

    runs: list[NotebookRunAnswer]
    next_page_token: str | None = None

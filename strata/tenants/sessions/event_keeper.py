"""Keep the events of a session in the store, for the server that owns it next; members see what is kept.

Only where several servers share a database. A member is told of an event when the store has it: one that
resumes on another server has no event that this one lacks, and misses none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from strata.auth import Principal
from strata.notebooks.model.changes import changes_between
from strata.notebooks.session.events import (
    Adopted,
    Edited,
    Ended,
    Event,
    Numbered,
    Queued,
    Started,
    bytes_of,
    plain_event,
    read_event,
)
from strata.notebooks.store.leases import MOVED, EventsRow
from strata.outcomes import RefusalError, Refused
from strata.tenants.notebooks.editor import NotebookEditor
from strata.tenants.notebooks.messages import GetNotebook, NotebookView
from strata.tenants.sessions.live_session import LiveSession
from strata.tenants.shared.resources import Resources

MAX_EVENTS: Final = 500
"""Maximum events in a row."""

MAX_ROWS: Final = 500
"""Rows of a session beyond which the oldest ones go."""

MAX_BYTES: Final = 512 * 1024
"""Bytes of a session's events in the store beyond which the oldest rows go, the latest one never."""

RETRY_SECONDS: Final = 1.0
"""Seconds after which events are written again that the store did not take."""

SERVER_LOST: Final = "server_lost"
"""How a run ended whose server ended, or was cut off, before the run did."""

LOST_MESSAGE: Final = "The server that ran the cell ended or was cut off. Run the cell again."

UNKNOWN_END: Final = (
    "The server that ran the cell ended or was cut off. If the cell has no new result, run it again."
)

DROPPED: Final = "The run was dropped: its server ended or was cut off."

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class _Kept:
    """What the store has of the events of a session, decoded."""

    events: list[Numbered] = attrs.field(factory=list)
    versions: dict[int, dict[str, str]] = attrs.field(factory=dict)
    runs: int = 0
    revision: int = 0


@attrs.define(eq=False)
class EventKeeper:
    """Keeps the events of the sessions of a tenant.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        refused: Called with a session's name, its epoch and the refusal of a server that owns it no more; it
            forgets the session, which the next request opens again.
    """

    tenant: str
    resources: Resources
    refused: Callable[[str, int, Refused], None]

    async def adopt(
        self, principal: Principal, session: LiveSession, view: NotebookView, *, lost: bool
    ) -> NotebookView | Refused:
        """Go on with the events of a session's former owner, and tell what it could not tell any more.

        Args:
            principal: Who opens the session.
            session: The session, which this server owns.
            view: The revision that was read before it did.
            lost: Whether a cell is known to have ended with the former owner.

        Returns:
            The latest revision.

        Raises:
            RefusalError: If the store does not answer.
        """
        editor = NotebookEditor(self.tenant, self.resources)
        latest = await editor.get(GetNotebook(principal=principal, name=session.name), view)
        if isinstance(latest, Refused):
            return latest
        kept = await self._restore(principal, session)
        session.state = attrs.evolve(session.state, revision=latest.revision.revision)
        told: list[Event] = [Adopted(session.tenure.epoch)]
        if kept is not None:
            if kept.revision < latest.revision.revision:
                told.append(await self._edited(principal, session.name, kept.revision, latest))
            told += _ends(kept.events, LOST_MESSAGE if lost else UNKNOWN_END)
        session.tell(*told)
        return latest

    async def keep(self, session: LiveSession) -> None:
        """Write the events of a session as they come, until it ends or is another server's; never raises."""
        with session.keeping:
            while session.ended is None:
                part = session.log.unstored(MAX_EVENTS)
                if not part:
                    await session.said.wait()
                    continue
                epoch = session.tenure.epoch
                try:
                    refused = await self._write(session, part, epoch)
                except RefusalError as error:
                    log.warning("events of a session cannot be kept", error=error.refused.code)
                    await trio.sleep(RETRY_SECONDS)
                    continue
                except Exception:  # a bug in it costs this session's members, and not the tenant's actor
                    log.exception("events of a session are not kept any more", tenant=self.tenant)
                    self.refused(session.name, epoch, MOVED)
                    return
                if refused is not None:
                    self.refused(session.name, epoch, refused)
                    return
                session.log.stored = part[-1].seq
                session.wake()

    async def _restore(self, principal: Principal, session: LiveSession) -> _Kept | None:
        """Read the events of the former owner; ``None``: there are none, or one in between kept none."""
        leases = self.resources.notebooks.leases
        rows = await self.resources.ask(self.tenant, leases.events, self.tenant, session.name)
        session.kept_rows.clear()
        session.kept_rows.extend((one.seq, one.nbytes) for one in rows)
        if not rows:
            session.log.restore((), 0)
            return None
        kept: _Kept | None = None
        if rows[-1].epoch == session.tenure.epoch - 1:
            # Not those of an earlier session, whose runs had the same numbers.
            same = tuple(one for one in rows if one.session == rows[-1].session)
            kept = await self.resources.compute(self.tenant, principal.id, partial(_decoded, same))
        if kept is not None:
            session.id, session.runs, session.versions = rows[-1].session, kept.runs, kept.versions
        session.log.restore(kept.events if kept is not None else (), rows[-1].seq)
        return kept

    async def _edited(self, principal: Principal, name: str, known: int, latest: NotebookView) -> Edited:
        """Return the event of revisions that members have not been told of."""
        cells = tuple(cell.id for cell in latest.content.cells)
        editor = NotebookEditor(self.tenant, self.resources)
        before = await editor.get(GetNotebook(principal=principal, name=name, revision=known))
        if isinstance(before, NotebookView):
            compare = partial(changes_between, before.content, latest.content)
            changes = await self.resources.compute(self.tenant, principal.id, compare)
            cells = tuple(dict.fromkeys(one.cell_id for one in changes))
        return Edited("", latest.revision.revision, cells, latest.revision.author)

    async def _write(self, session: LiveSession, part: tuple[Numbered, ...], epoch: int) -> Refused | None:
        runs = {getattr(one.event, "run", 0) for one in part}
        body = {
            "events": [plain_event(one.event) for one in part],
            "versions": {run: session.versions[run] for run in sorted(runs) if run in session.versions},
            "runs": session.runs,
            "revision": session.state.revision,
        }
        nbytes = sum(bytes_of(one.event) for one in part)
        row = EventsRow(
            seq=part[-1].seq, session=session.id, epoch=epoch, nbytes=nbytes, events=json.dumps(body)
        )
        add, kept = self.resources.notebooks.leases.add_events, session.kept_rows
        after, gone = part[0].seq - 1, session.rows_gone
        refused = await self.resources.write(self.tenant, add, self.tenant, session.name, row, after, gone)
        if refused is None:
            kept.append((row.seq, nbytes))
            while len(kept) > 1 and (len(kept) > MAX_ROWS or sum(size for _, size in kept) > MAX_BYTES):
                session.rows_gone, _ = kept.popleft()
        return refused


def _decoded(rows: tuple[EventsRow, ...]) -> _Kept | None:
    """Return what rows hold, of events those without a gap to the last one; ``None``: of another version."""
    kept, last = _Kept(), 0
    try:
        for row in rows:
            body: Any = json.loads(row.events)
            events = [read_event(one) for one in body["events"]]
            first = row.seq - len(events) + 1
            if first != last + 1:
                kept.events.clear()
            kept.events.extend(Numbered(first + place, one) for place, one in enumerate(events))
            kept.versions |= {int(run): versions for run, versions in body["versions"].items()}
            kept.runs, kept.revision, last = body["runs"], body["revision"], row.seq
    except (ValueError, TypeError, KeyError):
        return None
    return kept


def _ends(events: list[Numbered], message: str) -> list[Ended]:
    """Return the ends of runs that have none: their server was lost, with all that waited."""
    waiting: dict[str, int] = {}
    running: dict[str, int] = {}
    for one in events:
        match one.event:
            case Queued(cell=cell):
                waiting[cell] = waiting.get(cell, 0) + 1
            case Started(cell=cell, run=run):
                waiting[cell] = max(0, waiting.get(cell, 0) - 1)
                running[cell] = run
            case Ended(cell=cell, run=0):
                waiting[cell] = max(0, waiting.get(cell, 0) - 1)
            case Ended(cell=cell):
                running.pop(cell, None)
    found = [Ended(cell, run, SERVER_LOST, message) for cell, run in running.items()]
    dropped = (cell for cell, times in waiting.items() for _ in range(times))
    return found + [Ended(cell, 0, SERVER_LOST, DROPPED) for cell in dropped]

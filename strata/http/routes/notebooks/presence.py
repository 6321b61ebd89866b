"""Members, locks and events of a session as JSON."""

from __future__ import annotations

import attrs

from strata.http.api.notebooks.session_schemas import EventAnswer, LockAnswer, MemberAnswer
from strata.notebooks.session.events import Locked, Numbered, event_kind
from strata.notebooks.session.state import LOCK_SECONDS, SessionState


def members_of(state: SessionState) -> list[MemberAnswer]:
    """Return the members of a session."""
    return [MemberAnswer(id_, one.principal, one.writes, one.focus) for id_, one in state.members.items()]


def locks_of(state: SessionState, now: float) -> list[LockAnswer]:
    """Return the locks of a session that hold at a time."""
    return [
        LockAnswer(cell, lock.member, state.members[lock.member].principal, round(lock.until - now, 3))
        for cell, lock in state.locks.items()
        if now < lock.until
    ]


def event_answer(numbered: Numbered) -> EventAnswer:
    """Return an event."""
    event = numbered.event
    payload = attrs.asdict(event, recurse=False)
    if isinstance(event, Locked):  # a time on the server's clock says nothing to others
        del payload["until"]
        payload["seconds"] = LOCK_SECONDS
    return EventAnswer(numbered.seq, event_kind(event), payload)

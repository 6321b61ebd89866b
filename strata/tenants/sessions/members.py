"""The members of a tenant's sessions: they join and leave, follow what happens, lock cells and edit them."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Final

import attrs
import structlog
import trio

from strata.auth import Principal
from strata.notebooks.model.changes import changes_between
from strata.notebooks.session.events import Edited, Event, LoadAgain
from strata.notebooks.session.state import NO_MEMBER, READ_ONLY
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.notebooks import session_messages as s
from strata.tenants.notebooks.editor import NotebookEditor, notebook_resource
from strata.tenants.notebooks.messages import EditNotebook, NotebookView
from strata.tenants.sessions.live_session import MEMBER_SECONDS, LiveSession
from strata.tenants.sessions.sessions import MAX_EVENTS, MAX_WATCHERS, TOO_MANY_WATCHERS, NotebookSessions

TICK_SECONDS: Final = 1.0
"""Seconds after which locks and members whose time is over are looked for, while a session is followed."""

TAKE_SECONDS: Final = 30.0
"""Seconds in which a follower takes events; then it leaves. Shorter than the default time in which its socket
must take a byte (``client_stall_seconds``): one who wakes up meanwhile is told why it left."""

CELL_UNKNOWN: Final = Refused(Reason.NOT_FOUND, "The notebook has no such cell.", code="cell_unknown")

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class _Follower:
    """A member whose socket follows a session."""

    followed: s.Followed
    sender: trio.MemorySendChannel[s.SessionEvents]
    after: int
    scope: trio.CancelScope

    def end(self, reason: str) -> None:
        """Let it go, for a reason that its socket tells."""
        self.followed.reason = self.followed.reason or reason
        self.scope.cancel()


@attrs.frozen(eq=False)
class SessionMembers:
    """Answers the questions of members.

    Attributes:
        sessions: The live sessions.
    """

    sessions: NotebookSessions

    async def follow(self, question: s.FollowSession) -> s.Followed | Refused:
        """Join, and follow the events from a task of the actor; the reader holds up nothing but that task."""
        principal, sessions = question.principal, self.sessions
        found = await sessions.opened(principal, question.name)
        if isinstance(found, Refused):
            return found
        session, _ = found
        if sessions.watchers >= MAX_WATCHERS:
            return TOO_MANY_WATCHERS
        member = secrets.token_hex(8)
        joined = session.state.join(
            member, principal.id, writes=question.writes and self._writes(principal, session)
        )
        if isinstance(joined, Refused):
            return joined
        known = question.session == session.id
        complete = known and not isinstance(session.log.after(question.after, 1), LoadAgain)
        seq = question.after if complete else session.log.told
        sender, receiver = trio.open_memory_channel[s.SessionEvents](0)
        scope = trio.CancelScope()
        followed = s.Followed(session.id, member, seq, complete, receiver, scope.cancel)
        session.tell(*joined)
        sessions.watchers += 1
        session.watchers += 1
        sessions.running += 1  # a tenant whose notebook is open on a screen is not idle
        follower = _Follower(followed, sender, seq, scope)
        sessions.materializer.nursery.start_soon(self._feed, principal, session, follower)
        return followed

    async def join(self, question: s.JoinSession) -> s.Presence | Refused:
        """Join without a socket, or stay in, and say which cell one looks at."""
        principal = question.principal
        found = await self.sessions.opened(principal, question.name)
        if isinstance(found, Refused):
            return found
        session, view = found
        now = trio.current_time()
        session.expire(now)
        member = question.member or secrets.token_hex(8)
        if question.member is not None and self._is_other(session, member, principal):
            return NO_MEMBER
        if question.focus is not None and question.focus not in {cell.id for cell in view.content.cells}:
            return CELL_UNKNOWN
        if question.member is None:
            writes = question.writes and self._writes(principal, session)
            refused = _told(session, session.state.join(member, principal.id, writes=writes))
            if refused is not None:
                return refused
            session.expires[member] = now + MEMBER_SECONDS
        elif member in session.expires:
            session.expires[member] = now + MEMBER_SECONDS
        refused = _told(session, session.state.focus(member, question.focus))
        return refused or _presence(session, member)

    async def leave(self, question: s.LeaveSession) -> s.Presence | Refused:
        """Leave a session that one joined without a socket."""
        found = await self.sessions.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        session, _ = found
        if question.member not in session.expires or self._is_other(
            session, question.member, question.principal
        ):
            return NO_MEMBER
        del session.expires[question.member]
        session.tell(*session.state.leave(question.member, "closed"))
        return _presence(session, question.member)

    async def lock(self, question: s.LockCell) -> s.Presence | Refused:
        """Lock a cell, or free it."""
        found = await self.sessions.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        session, view = found
        now, member = trio.current_time(), question.member
        session.expire(now)
        if self._is_other(session, member, question.principal):
            return NO_MEMBER
        if not question.locked:
            return _told(session, session.state.unlock(member, question.cell)) or _presence(session, member)
        if question.cell not in {cell.id for cell in view.content.cells}:
            return CELL_UNKNOWN
        if not self._writes(question.principal, session):
            return READ_ONLY
        refused = _told(session, session.state.lock(member, [question.cell], now))
        return refused or _presence(session, member)

    async def edit(self, question: EditNotebook) -> NotebookView | Refused:
        """Make a revision, unless another one edits one of its cells; members are told of it."""
        principal, sessions = question.principal, self.sessions
        editor = NotebookEditor(sessions.tenant, sessions.resources)
        session = sessions.live.get(question.name)
        if session is None:  # it has no members to tell, and no locks
            return await editor.edit(question)
        found = await sessions.opened(principal, question.name)
        if isinstance(found, Refused):
            return found
        session, before = found
        session.expire(trio.current_time())
        cells = {cell.id for cell in before.content.cells}
        named = [one for one in (getattr(edit, "id", None) for edit in question.edits) if one in cells]
        member, locks = question.member, tuple[Event, ...]()
        if member is None:
            refused = session.state.holder(named, principal.id, trio.current_time())
        elif self._is_other(session, member, principal):
            refused = NO_MEMBER
        else:
            locked = session.state.lock(member, named, trio.current_time())
            refused, locks = (locked, ()) if isinstance(locked, Refused) else (None, locked)
        if refused is not None:
            return refused
        epoch = session.tenure.epoch
        view = await editor.edit(question, epoch)
        sessions.ownership.check(question.name, epoch, view)
        if isinstance(view, NotebookView) and view.revision.revision != before.revision.revision:
            compare = partial(changes_between, before.content, view.content)
            changes = await sessions.resources.compute(sessions.tenant, principal.id, compare)
            changed = tuple(dict.fromkeys(one.cell_id for one in changes))
            stays = member is not None and member in session.state.members
            edited = Edited(member or "", view.revision.revision, changed, principal.id)
            session.tell(*(locks if stays else ()), edited)
        return view

    def _writes(self, principal: Principal, session: LiveSession) -> bool:
        authorizer = self.sessions.resources.authorizer
        return authorizer.permits(principal, notebook_resource(session.name), "write")

    @staticmethod
    def _is_other(session: LiveSession, member: str, principal: Principal) -> bool:
        """Whether a member is another principal's, or there is none of this id: both are told alike."""
        known = session.state.members.get(member)
        return known is None or known.principal != principal.id

    async def _feed(self, principal: Principal, session: LiveSession, follower: _Follower) -> None:
        """Hand events to a follower, until it leaves or may not see them any more; never raises."""

        async def permitted() -> bool:
            return not isinstance(await self.sessions.opened(principal, session.name), Refused)

        sessions, followed = self.sessions, follower.followed
        forget = sessions.resources.rights.add(sessions.tenant, permitted, partial(follower.end, "revoked"))
        try:
            with follower.scope:
                await self._send_all(principal, session, follower)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            followed.reason = "closed"
        except RefusalError as error:
            log.warning("a session cannot be followed", tenant=sessions.tenant, error=error.refused.code)
            followed.reason = "ended"
        except Exception:  # a bug in it is one follower's
            log.exception("following a session crashed", tenant=sessions.tenant)
            followed.reason = "ended"
        finally:
            forget()
            follower.sender.close()
            session.watchers -= 1
            sessions.watchers -= 1
            sessions.running -= 1
            reason = followed.reason or "closed"
            session.tell(*session.state.leave(followed.member, reason))

    async def _send_all(self, principal: Principal, session: LiveSession, follower: _Follower) -> None:
        # None, and at once: the reader may be gone already.
        first = s.SessionEvents(session=session.id, seq=follower.after, complete=True, events=())
        if not await self._send(first, follower):
            return
        while True:
            if session.ended is not None:
                follower.followed.reason = session.ended
                return
            part = session.log.after(follower.after, MAX_EVENTS)
            if not isinstance(part, LoadAgain) and not part:
                with trio.move_on_after(
                    TICK_SECONDS if session.state.locks or session.expires else TAKE_SECONDS
                ):
                    await session.changed.wait()
                session.expire(trio.current_time())
                continue
            found = await self.sessions.shown(principal, session, part)
            follower.after = found.seq
            if not await self._send(found, follower):
                return

    @staticmethod
    async def _send(events: s.SessionEvents, follower: _Follower) -> bool:
        """Hand events over; False: they were not taken in time."""
        with trio.move_on_after(TAKE_SECONDS):
            await follower.sender.send(events)
            return True
        follower.followed.reason = "too_slow"
        return False


def _told(session: LiveSession, decided: tuple[Event, ...] | Refused) -> Refused | None:
    """Tell the session of events, or return why there are none."""
    if isinstance(decided, Refused):
        return decided
    if decided:
        session.tell(*decided)
    return None


def _presence(session: LiveSession, member: str) -> s.Presence:
    return s.Presence(session.id, session.log.told, member, session.state, trio.current_time())

"""The state of a session, and the decisions about it: pure functions from state and command to events.

A decision changes nothing: the owner writes its events with the epoch of its lease, and only if the store has
taken them it applies them to the state. The state is the fold of the events, so each owner has the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from strata.notebooks.session.events import (
    Adopted,
    Edited,
    Ended,
    Event,
    Focused,
    Joined,
    Left,
    Locked,
    Printed,
    Queued,
    Started,
    Unlocked,
)
from strata.outcomes import Reason, Refused

MAX_MEMBERS: Final = 500
"""Maximum members of a session; a further one is refused."""

LOCK_SECONDS: Final = 5.0
"""Seconds that a cell stays locked after the last edit of it."""

FULL: Final = Refused(
    Reason.BUSY, f"The session has {MAX_MEMBERS} members.", code="session_full", retry_after=5
)
NO_MEMBER: Final = Refused(Reason.CONFLICT, "Join the session first.", code="not_joined")
READ_ONLY: Final = Refused(Reason.FORBIDDEN, "You may read this notebook only.", code="read_only")


def locked_by(principal: str) -> Refused:
    """Return the refusal of an edit of a cell that another member has locked."""
    return Refused(
        Reason.CONFLICT,
        f"{principal} is editing this cell.",
        code="cell_locked",
        retry_after=int(LOCK_SECONDS),
    )


@attrs.frozen
class Member:
    """A member: its principal, whether it may edit, and the cell that it looks at."""

    principal: str
    writes: bool
    focus: str | None = None


@attrs.frozen
class Lock:
    """The lock of a cell: its member, and when it ends on the owner's clock."""

    member: str
    until: float


@attrs.frozen
class SessionState:
    """A session.

    Attributes:
        epoch: Epoch of the lease of its owner; 0: it has had none.
        revision: The latest revision of the notebook.
        members: Members by id; one principal may have several.
        locks: Locks by cell.
    """

    epoch: int = 0
    revision: int = 1
    members: Mapping[str, Member] = attrs.field(factory=dict)
    locks: Mapping[str, Lock] = attrs.field(factory=dict)

    def evolve(self, event: Event) -> SessionState:
        """Return the state after an event."""
        match event:
            case Adopted(epoch):
                return SessionState(epoch, self.revision)
            case Joined(member, principal, writes):
                return attrs.evolve(self, members={**self.members, member: Member(principal, writes)})
            case Left(member, _):
                members = {id_: one for id_, one in self.members.items() if id_ != member}
                locks = {cell: lock for cell, lock in self.locks.items() if lock.member != member}
                return attrs.evolve(self, members=members, locks=locks)
            case Focused(member, cell):
                focused = attrs.evolve(self.members[member], focus=cell)
                return attrs.evolve(self, members={**self.members, member: focused})
            case Locked(member, cell, until):
                return attrs.evolve(self, locks={**self.locks, cell: Lock(member, until)})
            case Unlocked(cell):
                return attrs.evolve(
                    self, locks={key: lock for key, lock in self.locks.items() if key != cell}
                )
            case Edited(_, revision, _):
                return attrs.evolve(self, revision=revision)
            case Queued() | Started() | Printed() | Ended():
                return self  # runs are no part of what members agree on

    def after(self, events: Iterable[Event]) -> SessionState:
        """Return the state after events."""
        state = self
        for event in events:
            state = state.evolve(event)
        return state

    def join(self, member: str, principal: str, *, writes: bool) -> tuple[Event, ...] | Refused:
        """Let a member in; one that is in already stays, with its present right."""
        known = self.members.get(member)
        if known is None and len(self.members) >= MAX_MEMBERS:
            return FULL
        if known is not None and (known.principal, known.writes) == (principal, writes):
            return ()
        came = Joined(member, principal, writes)
        # Another principal, or another right: locks of before are not its own any more.
        return (came,) if known is None else (Left(member, "revoked"), came)

    def leave(self, member: str, reason: str) -> tuple[Event, ...]:
        """Let a member go, with its locks."""
        return (Left(member, reason),) if member in self.members else ()

    def focus(self, member: str, cell: str | None) -> tuple[Event, ...] | Refused:
        """Note which cell a member looks at."""
        known = self.members.get(member)
        if known is None:
            return NO_MEMBER
        return () if known.focus == cell else (Focused(member, cell),)

    def lock(self, member: str, cells: Iterable[str], now: float) -> tuple[Event, ...] | Refused:
        """Lock cells for a member, all or none; its own locks are prolonged."""
        known = self.members.get(member)
        if known is None:
            return NO_MEMBER
        if not known.writes:
            return READ_ONLY
        wanted = sorted(set(cells))
        for cell in wanted:
            lock = self.locks.get(cell)
            if lock is not None and lock.member != member and now < lock.until:
                return locked_by(self.members[lock.member].principal)
        return tuple(Locked(member, cell, now + LOCK_SECONDS) for cell in wanted)

    def holder(self, cells: Iterable[str], principal: str, now: float) -> Refused | None:
        """Return the refusal of an edit by a principal that has not joined, if another one has the lock."""
        for cell in sorted(set(cells)):
            lock = self.locks.get(cell)
            if lock is not None and now < lock.until and self.members[lock.member].principal != principal:
                return locked_by(self.members[lock.member].principal)
        return None

    def unlock(self, member: str, cell: str) -> tuple[Event, ...] | Refused:
        """Free the lock of a cell, if it is the member's."""
        if member not in self.members:
            return NO_MEMBER
        lock = self.locks.get(cell)
        return (Unlocked(cell),) if lock is not None and lock.member == member else ()

    def edit(
        self, member: str, revision: int, cells: Iterable[str], now: float
    ) -> tuple[Event, ...] | Refused:
        """Make a revision that changes cells, which are locked for the member by it.

        Args:
            member: The member.
            revision: Number of the new revision; that of the latest one and one.
            cells: The cells that it changes.
            now: The time on the owner's clock.
        """
        cells = tuple(sorted(set(cells)))
        locks = self.lock(member, cells, now)
        if isinstance(locks, Refused):
            return locks
        if revision != self.revision + 1:
            return Refused(
                Reason.CONFLICT,
                f"The notebook has changed: its revision is {self.revision}.",
                code="revision_changed",
            )
        return (*locks, Edited(member, revision, cells))

    def tick(self, now: float) -> tuple[Event, ...]:
        """Free the locks whose time is over."""
        return tuple(Unlocked(cell) for cell, lock in sorted(self.locks.items()) if lock.until <= now)

"""Members, locks, edits and the log of a session: decisions, and the state as the fold of the events."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from strata.notebooks.session import events, state
from strata.notebooks.session.events import (
    PART_BYTES,
    Adopted,
    Edited,
    Ended,
    Event,
    EventLog,
    Focused,
    Joined,
    Left,
    LoadAgain,
    Locked,
    Numbered,
    Printed,
    Queued,
    Started,
    Unlocked,
    event_kind,
    plain_event,
    read_event,
)
from strata.notebooks.session.state import LOCK_SECONDS, Member, SessionState
from strata.outcomes import Refused

MEMBERS = st.sampled_from(["m1", "m2", "m3"])
CELLS = st.sampled_from(["a", "b", "c"])


def joined(**writes: bool) -> SessionState:
    found = SessionState(1)
    for member, may in writes.items():
        found = found.after(found.join(member, member.upper(), writes=may))
    return found


def test_one_member_at_a_time_edits_a_cell() -> None:
    """The lock names its holder, lasts five seconds after the last edit, and goes with its member."""
    session = joined(ann=True, ben=True)
    session = session.after(session.edit("ann", 2, ["a"], 10.0))
    refused = session.edit("ben", 3, ["b", "a"], 14.9)
    assert ("cell_locked", True) == (refused.code, "ANN" in refused.detail)
    assert {"a"} == set(session.locks)  # of several cells none is locked if one cannot be
    session = session.after(session.edit("ann", 3, ["a"], 12.0))
    assert isinstance(session.lock("ben", ["a"], 16.9), Refused)
    assert (Locked("ben", "a", 17.0 + LOCK_SECONDS),) == session.lock("ben", ["a"], 17.0)
    assert () == session.tick(16.9)
    assert (Unlocked("a"),) == session.tick(17.0)
    session = session.after(session.leave("ann", "closed"))
    assert {} == session.locks
    assert isinstance(session.lock("ben", ["a"], 12.0), tuple)


def test_who_may_not_edit_is_told_why() -> None:
    """Strangers, readers and late editors are refused, each with its word."""
    session = joined(ann=True, rob=False)
    for member, revision, code in (
        ("eve", 2, "not_joined"),
        ("rob", 2, "read_only"),
        ("ann", 3, "revision_changed"),
    ):
        assert code == session.edit(member, revision, ["a"], 0.0).code
    assert "not_joined" == session.focus("eve", "a").code
    assert () == session.leave("eve", "closed")


def test_a_right_that_changes_takes_the_locks() -> None:
    """A member that joins again with another right, or as another principal, has no locks of before."""
    session = joined(ann=True)
    session = session.after(session.lock("ann", ["a"], 0.0))
    assert () == session.join("ann", "ANN", writes=True)
    session = session.after(session.join("ann", "ANN", writes=False))
    assert ({"ann": Member("ANN", writes=False)}, {}) == (session.members, session.locks)


def test_members_are_bounded(monkeypatch) -> None:
    """One more than the bound is refused, and a place that is left is free again."""
    monkeypatch.setattr(state, "MAX_MEMBERS", 2)
    session = joined(ann=True, ben=True)
    assert "session_full" == session.join("cyd", "CYD", writes=True).code
    session = session.after(session.leave("ann", "closed"))
    assert isinstance(session.join("cyd", "CYD", writes=True), tuple)


def test_an_owner_begins_without_members() -> None:
    """Adoption keeps the revision, and lets members and locks of the former owner go."""
    session = joined(ann=True)
    session = session.after((*session.edit("ann", 2, ["a"], 0.0), Adopted(2)))
    assert SessionState(2, 2) == session


def test_a_log_is_resumed_where_a_member_was() -> None:
    """The events behind a number come in order and in parts; a place the log has not is told to load again."""
    log = EventLog()
    assert () == log.after(0, 5)
    for revision in range(1, 8):
        log.append(Edited("m", revision, ()))
    assert [4, 5, 6] == [one.seq for one in log.after(3, 3)]
    assert () == log.after(7, 5)
    assert LoadAgain(7) == log.after(8, 5) == log.after(-1, 5)


def test_a_log_is_bounded(monkeypatch) -> None:
    """Beyond events or bytes the oldest events go, never the latest one; a slow member loads again."""
    monkeypatch.setattr(events, "MAX_EVENTS", 3)
    log = EventLog()
    for revision in range(5):
        log.append(Edited("m", revision, ()))
    assert [3, 4, 5] == [one.seq for one in log]
    assert [3, 4, 5] == [one.seq for one in log.after(2, 9)]
    assert LoadAgain(5) == log.after(1, 9)
    monkeypatch.setattr(events, "MAX_BYTES", 2 * events.EVENT_BYTES + 100)
    log.append(Left("m", "x" * 100))
    assert [6] == [one.seq for one in log]
    log.append(Left("m", "x" * 10_000))
    assert [7] == [one.seq for one in log]


EVENTS: tuple[Event, ...] = (
    Adopted(3),
    Joined("m", "ana", writes=True),
    Left("m", "closed"),
    Focused("m", None),
    Locked("m", "c", 12.5),
    Unlocked("c"),
    Edited("m", 2, ("c", "d"), "ana"),
    Queued("c", "ana"),
    Started("c", 1),
    Printed("c", 1, "stdout", "\0\ud800 ä"),
    Ended("c", 1, "ok", ""),
)


def test_an_event_of_the_store_is_the_same_one() -> None:
    """Every kind of event, and no other; the store has JSON."""
    assert set(get_args(Event)) == {type(one) for one in EVENTS}
    for one in EVENTS:
        plain = json.loads(json.dumps(plain_event(one)))
        assert one == read_event(plain)
        assert event_kind(one) == plain["kind"]
        with pytest.raises(ValueError, match="another version"):
            read_event(plain | {"more": 1})
        with pytest.raises(ValueError, match="another version"):
            read_event(plain | {"kind": "sung"})


def test_a_log_ends_for_members_where_the_store_does() -> None:
    """What the store has not is not told; what it has of a former owner comes before."""
    log = EventLog()
    log.restore([Numbered(6, Unlocked("f")), Numbered(7, Unlocked("g"))], 7)
    assert (7, 7, ()) == (log.told, log.last, log.unstored(9))
    for cell in "hij":
        log.append(Unlocked(cell))
    assert [6, 7] == [one.seq for one in log.after(5, 9)]
    assert (LoadAgain(7), LoadAgain(7), ()) == (log.after(4, 9), log.after(8, 9), log.after(7, 9))
    assert [8, 9] == [one.seq for one in log.unstored(2)]
    log.stored = 9
    assert [8, 9] == [one.seq for one in log.after(7, 9)]
    assert [10] == [one.seq for one in log.unstored(2)]


def test_what_left_the_log_before_it_was_stored_is_passed_over(monkeypatch) -> None:
    """The store gets what is left; members behind it load again."""
    monkeypatch.setattr(events, "MAX_EVENTS", 2)
    log = EventLog()
    log.restore((), 3)
    for cell in "abcd":
        log.append(Unlocked(cell))
    assert [6, 7] == [one.seq for one in log.unstored(9)]
    assert LoadAgain(3) == log.after(3, 9)
    log.stored = 7
    assert LoadAgain(7) == log.after(3, 9)
    assert [6, 7] == [one.seq for one in log.after(5, 9)]


class Sessions(RuleBasedStateMachine):
    """Random commands; the state is compared with that of a reader of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.log, self.now = SessionState(1), EventLog(), 0.0
        self.read, self.reader = 0, SessionState(1)

    def done(self, found: tuple | Refused) -> None:
        if isinstance(found, Refused):
            return
        for event in found:
            self.log.append(event)
        self.state = self.state.after(found)

    @rule(member=MEMBERS, writes=st.booleans())
    def join(self, member: str, *, writes: bool) -> None:
        self.done(self.state.join(member, member, writes=writes))

    @rule(member=MEMBERS)
    def leave(self, member: str) -> None:
        self.done(self.state.leave(member, "closed"))

    @rule(member=MEMBERS, cell=st.none() | CELLS)
    def focus(self, member: str, cell: str | None) -> None:
        self.done(self.state.focus(member, cell))

    @rule(member=MEMBERS, cells=st.lists(CELLS, min_size=1), late=st.integers(0, 1))
    def edit(self, member: str, cells: list[str], late: int) -> None:
        self.done(self.state.edit(member, self.state.revision + 1 - late, cells, self.now))

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.done(self.state.tick(self.now))

    @rule()
    def adopt(self) -> None:
        self.done((Adopted(self.state.epoch + 1),))

    @rule(most=st.integers(1, 5))
    def read_on(self, most: int) -> None:
        found = self.log.after(self.read, most)
        assert isinstance(found, tuple)
        assert [one.seq for one in found] == list(range(self.read + 1, self.read + 1 + len(found)))
        self.read += len(found)
        self.reader = self.reader.after(one.event for one in found)

    @invariant()
    def locks_are_of_members_who_write(self) -> None:
        assert all(self.state.members[lock.member].writes for lock in self.state.locks.values())

    @invariant()
    def the_reader_has_the_same_state_in_the_end(self) -> None:
        rest = self.log.after(self.read, 10_000)
        assert self.state == self.reader.after(one.event for one in rest)


Sessions.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class TestSessions(Sessions.TestCase):
    """Whatever members do, a reader of the log has the owner's state, and only writers hold locks."""


@pytest.mark.parametrize("reason", ["closed", "too_slow", "revoked", "idle"])
def test_a_member_is_told_why_it_left(reason: str) -> None:
    """The reason of a departure is in its event."""
    assert (Left("ann", reason),) == joined(ann=True).leave("ann", reason)


def test_a_part_of_the_log_has_a_bound_in_bytes() -> None:
    """What a member that does not read keeps alive is bounded; one event that is larger still comes."""
    log = EventLog()
    for size in (PART_BYTES // 2, PART_BYTES // 4, PART_BYTES // 2, 2 * PART_BYTES, 1):
        log.append(Printed("c", 1, "stdout", "x" * size))
    assert [[1, 2], [3], [4], [5]] == [[one.seq for one in log.after(seq, 99)] for seq in (0, 2, 3, 4)]

"""Which method answers each kind of question about sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from strata.tenants.notebooks import run_messages as r
from strata.tenants.notebooks import schedule_messages as p
from strata.tenants.notebooks import session_messages as s
from strata.tenants.notebooks.messages import DeleteNotebook, EditNotebook
from strata.tenants.sessions.members import SessionMembers
from strata.tenants.sessions.runs import NotebookRuns
from strata.tenants.sessions.schedules import NotebookSchedules
from strata.tenants.sessions.sessions import NotebookSessions

Answering = Callable[[NotebookSessions, Any], Awaitable[object]]


def _member(method: Callable[[SessionMembers, Any], Awaitable[object]]) -> Answering:
    return lambda sessions, question: method(SessionMembers(sessions), question)


def _runs(method: Callable[[NotebookRuns, Any], Awaitable[object]]) -> Answering:
    return lambda sessions, question: method(NotebookRuns(sessions), question)


def _schedules(method: Callable[[NotebookSchedules, Any], Awaitable[object]]) -> Answering:
    return lambda sessions, question: method(NotebookSchedules(sessions), question)


SESSIONS: Final[Mapping[type, Answering]] = {
    DeleteNotebook: NotebookSessions.delete,
    s.GetSession: NotebookSessions.get,
    s.RunCells: NotebookSessions.run,
    s.InterruptRun: NotebookSessions.interrupt,
    s.WatchSession: NotebookSessions.watch,
    s.ReadOutput: NotebookSessions.read,
    s.FollowSession: _member(SessionMembers.follow),
    s.JoinSession: _member(SessionMembers.join),
    s.LeaveSession: _member(SessionMembers.leave),
    s.LockCell: _member(SessionMembers.lock),
    EditNotebook: _member(SessionMembers.edit),
    r.StartRun: _runs(NotebookRuns.start),
    r.ListRuns: _runs(NotebookRuns.list_runs),
    r.GetRun: _runs(NotebookRuns.get),
    r.CancelRun: _runs(NotebookRuns.cancel),
    p.AddSchedule: _schedules(NotebookSchedules.add),
    p.ListSchedules: _schedules(NotebookSchedules.list_schedules),
    p.DeleteSchedule: _schedules(NotebookSchedules.delete),
    p.PauseSchedule: _schedules(NotebookSchedules.pause),
    p.RunSchedule: _schedules(NotebookSchedules.run),
}
"""What answers each kind of question about sessions."""

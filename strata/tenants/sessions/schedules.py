"""Schedules of notebooks: made and deleted by members, and run when their time has come."""

from __future__ import annotations

import re
import secrets
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import attrs
import msgspec
import structlog

from strata.artifacts import Act
from strata.auth import Principal
from strata.notebooks.model.cron import CronError, next_time, parse_cron
from strata.notebooks.store.leases import ELSEWHERE
from strata.notebooks.store.runs import RUNNING
from strata.notebooks.store.schedules import SCHEDULE_NOT_FOUND, ScheduleRecord
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.notebooks import run_messages as r
from strata.tenants.notebooks import schedule_messages as p
from strata.tenants.sessions.runs import FAILED, TIMEOUT, NotebookRuns
from strata.tenants.sessions.sessions import NotebookSessions

MISSED_SECONDS: Final = 300.0
"""Seconds after its time at which a run is missed: no server was there to begin it."""

RETRY_SECONDS: Final = 60.0
"""Seconds until the first run more after one that failed."""

LOOKED_AT: Final = 50
"""Runs among which one of a schedule that has not ended is looked for."""

TIMES: Final = 5
"""Next times of a schedule that are told."""

LASTING: Final = (Reason.FORBIDDEN, Reason.NOT_FOUND, Reason.UNPROCESSABLE, Reason.CONFLICT)
"""Refusals of a run that no later time changes by itself: the schedule stops."""

_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class NotebookSchedules:
    """Answers the questions about schedules.

    Attributes:
        sessions: The live sessions.
    """

    sessions: NotebookSessions

    async def add(self, question: p.AddSchedule) -> p.ScheduleView | Refused:
        """Add a schedule of a notebook that the caller may run."""
        sessions, principal = self.sessions, question.principal
        found = await sessions.opened(principal, question.name)
        if isinstance(found, Refused):
            return found
        refused = sessions.may_run(principal, question.name)
        if refused is not None:
            return refused
        following = await sessions.resources.compute(
            sessions.tenant, principal.id, partial(_next_at, question.cron, question.zone, sessions.now())
        )
        if isinstance(following, Refused):
            return following
        record = ScheduleRecord(
            tenant=sessions.tenant,
            name=question.name,
            schedule=secrets.token_hex(8),
            owner=principal.id,
            scopes=" ".join(sorted(one for one in principal.scopes if not one.startswith("admin:"))),
            cron=question.cron,
            zone=question.zone,
            options=_encoded(question.options),
            next_at=following,
            message="",
            made_at=sessions.now(),
        )
        act = _act(question, record.schedule, "notebooks.schedule")
        store = sessions.resources.notebooks.schedules
        refused = await sessions.resources.write(sessions.tenant, store.add, record, act)
        if refused is not None:
            return refused
        (view,) = await self._with_times(principal, (p.ScheduleView(record, question.options),))
        return view

    async def list_schedules(self, question: p.ListSchedules) -> tuple[p.ScheduleView, ...] | Refused:
        """List the schedules of a notebook that the caller may read."""
        sessions = self.sessions
        found = await sessions.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        listing = sessions.resources.notebooks.schedules.list_schedules
        records = await sessions.resources.ask(sessions.tenant, listing, sessions.tenant, question.name)
        views = tuple(p.ScheduleView(record, _decoded(record)) for record in records)
        return await self._with_times(question.principal, views)

    async def delete(self, question: p.DeleteSchedule) -> p.ScheduleDeleted | Refused:
        """Delete a schedule of a notebook that the caller may run; its runs go on."""
        sessions = self.sessions
        found = await sessions.opened(question.principal, question.name)
        if isinstance(found, Refused):
            return found
        refused = sessions.may_run(question.principal, question.name)
        if refused is not None:
            return refused
        act = _act(question, question.schedule, "notebooks.unschedule")
        delete = sessions.resources.notebooks.schedules.delete
        done = await sessions.resources.write(
            sessions.tenant, delete, sessions.tenant, question.name, question.schedule, act
        )
        return done or p.ScheduleDeleted()

    async def pause(self, question: p.PauseSchedule) -> p.ScheduleView | Refused:
        """Pause a schedule of a notebook that the caller may run, or have it go on; its runs go on."""
        sessions, principal = self.sessions, question.principal
        found = await sessions.opened(principal, question.name)
        if isinstance(found, Refused):
            return found
        refused = sessions.may_run(principal, question.name)
        if refused is not None:
            return refused
        store = sessions.resources.notebooks.schedules
        listing = partial(store.list_schedules, sessions.tenant, question.name)
        records = await sessions.resources.ask(sessions.tenant, listing)
        record = next((one for one in records if one.schedule == question.schedule), None)
        if record is None:
            return SCHEDULE_NOT_FOUND
        options = attrs.evolve(_decoded(record), paused=question.paused, attempt=0)
        next_at: float | None = None
        if not question.paused:
            following = await sessions.resources.compute(
                sessions.tenant, principal.id, partial(_next_at, record.cron, record.zone, sessions.now())
            )
            if isinstance(following, Refused):
                return following
            next_at = following
        message = f"Paused by {principal.id}." if question.paused else ""
        to = attrs.evolve(record, next_at=next_at, message=message, options=_encoded(options))
        action = "notebooks.pause_schedule" if question.paused else "notebooks.resume_schedule"
        act = _act(question, question.schedule, action)
        if not await sessions.resources.write(sessions.tenant, store.move, record, to, act):
            detail = "The schedule has begun a run, or was changed, in this moment. Try again."
            return Refused(Reason.CONFLICT, detail, code="schedule_moved")
        (view,) = await self._with_times(principal, (p.ScheduleView(to, options),))
        return view

    async def _with_times(
        self, principal: Principal, views: tuple[p.ScheduleView, ...]
    ) -> tuple[p.ScheduleView, ...]:
        def compute() -> tuple[p.ScheduleView, ...]:
            return tuple(attrs.evolve(one, times=_times_of(one.record)) for one in views)

        return await self.sessions.resources.compute(self.sessions.tenant, principal.id, compute)

    async def run(self, question: p.RunSchedule) -> p.ScheduleView | p.ScheduleDeleted | Refused:
        """Begin the run of a schedule whose time has come, with its owner's rights of now."""
        sessions, record = self.sessions, question.record
        assert record.next_at is not None
        options, now = _decoded(record), sessions.now()
        principal = Principal(record.owner, record.tenant, frozenset(record.scopes.split()))
        found = await sessions.opened(principal, record.name)
        if isinstance(found, Refused) and found.code == ELSEWHERE:
            return found  # the server that has the session runs it
        following = await sessions.resources.compute(
            sessions.tenant, record.owner, partial(_next_at, record.cron, record.zone, now)
        )
        if isinstance(following, Refused):  # the zone has gone from the machine's data
            return await self._moved(record, None, following.detail, options)
        if now - record.next_at > MISSED_SECONDS and options.missed == "skip":
            return await self._moved(record, following, "A time was missed: no server ran then.", options)
        if options.overlap == "skip" and await self._is_running(record):
            detail = "A time was passed over: the run before it had not ended."
            return await self._moved(record, following, detail, options)
        # First: of several servers one begins the run.
        moved = await self._moved(record, following, "", options)
        if isinstance(moved, p.ScheduleDeleted):
            return moved
        runs = NotebookRuns(sessions)
        started = await runs.start(
            r.StartRun(
                principal=principal,
                request_id=f"schedule-{record.schedule}",
                name=record.name,
                parameters=options.parameters,
                seconds=options.seconds,
                schedule=record.schedule,
            )
        )
        if isinstance(started, Refused):
            if started.reason in LASTING:
                detail, stop = f"It has stopped: {started.detail}", _stop(moved.record, started)
                return await self._moved(moved.record, None, detail, options, stop)
            # What may be otherwise soon: the run begins late, unless its next time comes first.
            again = min(following, sessions.now() + (started.retry_after or RETRY_SECONDS))
            return await self._moved(moved.record, again, f"It waits: {started.detail}", options)
        run = sessions.runs.get(started.record.run)
        if run is not None:
            run.on_end = partial(self._ended, moved.record, options)
        return moved

    async def _ended(self, record: ScheduleRecord, options: p.ScheduleOptions, state: str) -> None:
        """Plan another run after one that failed; after a good one start counting anew."""
        failed = state in (FAILED, TIMEOUT)
        if not failed or options.attempt >= options.retries or record.next_at is None:
            if options.attempt:
                await self._moved(record, record.next_at, "", attrs.evolve(options, attempt=0))
            return
        again = self.sessions.now() + RETRY_SECONDS * 2**options.attempt
        counted = attrs.evolve(options, attempt=options.attempt + 1)
        await self._moved(record, min(again, record.next_at), "The last run failed.", counted)

    async def _moved(
        self,
        record: ScheduleRecord,
        next_at: float | None,
        message: str,
        options: p.ScheduleOptions,
        act: Act | None = None,
    ) -> p.ScheduleView | p.ScheduleDeleted:
        to = attrs.evolve(record, next_at=next_at, message=message, options=_encoded(options))
        move = self.sessions.resources.notebooks.schedules.move
        try:
            done = await self.sessions.resources.write(self.sessions.tenant, move, record, to, act)
        except RefusalError as error:
            log.warning("a schedule cannot be moved", tenant=record.tenant, error=error.refused.code)
            return p.ScheduleDeleted()
        return p.ScheduleView(to, options) if done else p.ScheduleDeleted()

    async def _is_running(self, record: ScheduleRecord) -> bool:
        sessions = self.sessions
        listing = partial(sessions.resources.notebooks.runs.list_runs, before=None, limit=LOOKED_AT)
        found = await sessions.resources.ask(sessions.tenant, listing, record.tenant, record.name)
        now = sessions.now()
        return any(
            one.schedule == record.schedule and one.state == RUNNING and now <= one.alive_until
            for one in found
        )


def _next_at(cron: str, zone: str, now: float) -> float | Refused:
    try:
        parsed = parse_cron(cron)
    except CronError as error:
        return Refused(Reason.UNPROCESSABLE, str(error), code="schedule_malformed", loc=("body", "cron"))
    detail = f"{zone[:64]!r} is no time zone of this server, such as Europe/Berlin."
    unknown = Refused(Reason.UNPROCESSABLE, detail, code="time_zone_unknown", loc=("body", "time_zone"))
    if not _ZONE.fullmatch(zone):
        return unknown
    try:
        found = next_time(parsed, ZoneInfo(zone), now)
    except (ValueError, OSError, KeyError):  # KeyError: there is no such zone
        return unknown
    if found is None:
        detail = "The schedule has no time within nine years."
        return Refused(Reason.UNPROCESSABLE, detail, code="schedule_malformed", loc=("body", "cron"))
    return found


def _times_of(record: ScheduleRecord) -> tuple[float, ...]:
    """Return the next times of a schedule; none of one that is paused or has stopped."""
    found: list[float] = [] if record.next_at is None else [record.next_at]
    while found and len(found) < TIMES:
        following = _next_at(record.cron, record.zone, found[-1])
        if isinstance(following, Refused):
            break
        found.append(following)
    return tuple(found)


def _encoded(options: p.ScheduleOptions) -> str:
    return msgspec.json.encode(options).decode()


def _decoded(record: ScheduleRecord) -> p.ScheduleOptions:
    return msgspec.json.decode(record.options, type=p.ScheduleOptions)


def _stop(record: ScheduleRecord, refused: Refused) -> Act:
    """Return the line of the audit about a schedule that stops, since its owner was refused a run."""
    what = {"notebook": record.name, "schedule": record.schedule}
    return Act(
        tenant=record.tenant,
        principal=record.owner,
        principal_tenant=record.tenant,
        action="notebooks.schedule_stopped",
        request_id=f"schedule-{record.schedule}",
        old=msgspec.json.encode(what).decode(),
        new=msgspec.json.encode({**what, "refused": refused.detail}).decode(),
    )


def _act(question: p.AddSchedule | p.DeleteSchedule | p.PauseSchedule, schedule: str, action: str) -> Act:
    what = msgspec.json.encode({"notebook": question.name, "schedule": schedule}).decode()
    is_new = not isinstance(question, p.DeleteSchedule)
    return Act(
        tenant=question.principal.tenant,
        principal=question.principal.id,
        principal_tenant=question.principal.tenant,
        action=action,
        request_id=question.request_id,
        old=None if is_new else what,
        new=what if is_new else None,
    )

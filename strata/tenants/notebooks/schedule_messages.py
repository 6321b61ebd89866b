"""The questions about schedules of notebooks to a tenant's actor, and its answers: frozen values.

An answer is the value named in the question's docstring or a :class:`~strata.outcomes.Refused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

from strata.auth import Principal
from strata.notebooks.store.schedules import ScheduleRecord


@attrs.frozen(kw_only=True)
class ScheduleOptions:
    """What a schedule's record has as JSON.

    Attributes:
        parameters: Parameters of its runs.
        seconds: Seconds that a run may take in all.
        overlap: What becomes of a time at which a run of it is under way: none begins, or a second one.
        missed: What becomes of times at which no server was there: nothing, or one run for all of them.
        retries: Runs more after one that failed, the first a minute later, each of the others after twice
            the time of the one before.
        attempt: Number of such runs so far.
        paused: Whether a member has paused it.
    """

    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    seconds: float = 3600.0
    overlap: Literal["skip", "allow"] = "skip"
    missed: Literal["skip", "run"] = "skip"
    retries: int = 0
    attempt: int = 0
    paused: bool = False


@attrs.frozen(kw_only=True)
class AddSchedule:
    """Add a schedule, which runs with the caller's rights of that time. Answer: :class:`ScheduleView`."""

    principal: Principal
    request_id: str
    name: str
    cron: str
    zone: str
    options: ScheduleOptions


@attrs.frozen(kw_only=True)
class ListSchedules:
    """List schedules. Answer: a tuple of :class:`ScheduleView`."""

    principal: Principal
    name: str


@attrs.frozen(kw_only=True)
class DeleteSchedule:
    """Delete a schedule. Answer: :class:`ScheduleDeleted`."""

    principal: Principal
    request_id: str
    name: str
    schedule: str


@attrs.frozen(kw_only=True)
class PauseSchedule:
    """Pause a schedule, or have it go on, also one that has stopped. Answer: :class:`ScheduleView`."""

    principal: Principal
    request_id: str
    name: str
    schedule: str
    paused: bool


@attrs.frozen(kw_only=True)
class RunSchedule:
    """Run a schedule whose time has come. Answer: :class:`ScheduleDeleted` or :class:`ScheduleView`."""

    record: ScheduleRecord


@attrs.frozen
class ScheduleView:
    """A schedule.

    Attributes:
        record: What is kept of it.
        options: What is kept of it as JSON.
        times: When it runs next, in seconds since the epoch; empty where they were not asked for.
    """

    record: ScheduleRecord
    options: ScheduleOptions
    times: tuple[float, ...] = ()


@attrs.frozen
class ScheduleDeleted:
    """The schedule is gone, or is another server's."""


ScheduleQuestion = AddSchedule | ListSchedules | DeleteSchedule | PauseSchedule | RunSchedule

"""The JSON of notebooks' schedules that goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


class AddScheduleBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/schedules``: times in five fields of cron, and the time zone that they are of."""

    cron: Annotated[str, Meta(min_length=9, max_length=256)]
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"
    parameters: Annotated[dict[Annotated[str, Meta(max_length=256)], Any], Meta(max_length=100)] = {}
    timeout_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0
    overlap: Literal["skip", "allow"] = "skip"
    missed: Literal["skip", "run"] = "skip"
    retries: Annotated[int, Meta(ge=0, le=5)] = 0


class PauseScheduleBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PATCH …/schedules/{schedule}``."""

    paused: bool


class ScheduleAnswer(msgspec.Struct):
    """A schedule; without ``next_at`` it is paused or has stopped, and ``message`` says why."""

    schedule: str
    owner: str
    cron: str
    time_zone: str
    parameters: dict[str, Any]
    timeout_seconds: float
    overlap: Literal["skip", "allow"]
    missed: Literal["skip", "run"]
    retries: int
    next_at: str | None
    message: str | None
    paused: bool
    next_times: list[str]


class SchedulesAnswer(msgspec.Struct):
    """Schedules of a notebook, the oldest first."""

    schedules: list[ScheduleAnswer]


class DeletedScheduleAnswer(msgspec.Struct):
    """The schedule that is gone."""

    schedule: str

"""Times of a schedule: cron expressions in a time zone, also where its clock changes."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

import attrs

MAX_CHARACTERS: Final = 256
"""Maximum characters of an expression."""

DAYS: Final = 9 * 366
"""Days in which a next time is looked for: 29 February comes back within eight years."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: Final[tuple[tuple[str, int, int, Mapping[str, int]], ...]] = (
    ("minute", 0, 59, MappingProxyType({})),
    ("hour", 0, 23, MappingProxyType({})),
    ("day", 1, 31, MappingProxyType({})),
    ("month", 1, 12, MappingProxyType({name: at for at, name in enumerate(_MONTHS, 1)})),
    ("weekday", 0, 7, MappingProxyType({name: at for at, name in enumerate(_WEEKDAYS)})),
)
_PART: Final = re.compile(r"(?:(\*)|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?")


class CronError(ValueError):
    """An expression is not valid; the message says where."""


@attrs.frozen
class Cron:
    """A cron expression.

    Attributes:
        minutes: Minutes of an hour.
        hours: Hours of a day.
        days: Days of a month.
        months: Months.
        weekdays: Days of a week; 0 is Sunday.
        either: Whether one of ``days`` and ``weekdays`` is enough: both are restricted.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @property
    def every_hour(self) -> bool:
        """True if it counts hours as they pass, and not as the clock on the wall names them."""
        return len(self.hours) == 24  # noqa: PLR2004  # hours of a day

    def on(self, day: dt.date) -> bool:
        """Return whether it has times on a day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either else of_month and of_week


def parse_cron(text: str) -> Cron:
    """Return an expression of five fields: minute, hour, day of the month, month, day of the week.

    Raises:
        CronError: If it has another form.
    """
    fields = text.lower().split()
    if len(text) > MAX_CHARACTERS or len(fields) != len(_FIELDS):
        raise CronError("A schedule has five fields: minute, hour, day, month and weekday.")
    found = [_values(field, *of) for field, of in zip(fields, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = found
    return Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        either=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )


def next_time(cron: Cron, zone: ZoneInfo, after: float) -> float | None:
    """Return the first time behind ``after``, both in seconds since the epoch; ``None``: there is none.

    A time that the clock leaves out, as it is put forward, comes that much later. A time that the clock shows
    twice, as it is put back, counts once, the first time. An expression for every hour counts hours as they
    pass: it has no time in an hour that is left out, and both in one that comes twice.
    """
    first = dt.datetime.fromtimestamp(after, zone).date() - dt.timedelta(days=1)
    for place in range(DAYS):
        day = first + dt.timedelta(days=place)
        if cron.on(day):
            times = [time for time in _times(cron, zone, day) if time > after]
            if times:
                return min(times)
    return None


def _times(cron: Cron, zone: ZoneInfo, day: dt.date) -> Iterator[float]:
    for hour in cron.hours:
        for minute in cron.minutes:
            shown = dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
            time = shown.timestamp()
            back = dt.datetime.fromtimestamp(time, zone)
            left_out = (back.hour, back.minute) != (hour, minute)
            if not (left_out and cron.every_hour):
                yield time
            if cron.every_hour and not left_out:
                yield shown.replace(fold=1).timestamp()


def _values(text: str, name: str, least: int, most: int, words: Mapping[str, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise CronError(f"{part[:32]!r} is no {name} of a schedule.")
        every, low, high, step = match.groups()
        begin = least if every else _value(low, name, words)
        end = most if every or (step and not high) else begin if high is None else _value(high, name, words)
        if not (least <= begin <= end <= most) or step in ("0", "00"):
            raise CronError(f"{part[:32]!r}: a {name} is from {least} to {most}.")
        found.update(range(begin, end + 1, int(step or 1)))
    return found


def _value(text: str, name: str, words: Mapping[str, int]) -> int:
    if text.isdigit():
        return int(text)
    if text not in words:
        raise CronError(f"{text!r} is no {name} of a schedule.")
    return words[text]

"""Times of schedules, against dates worked out by hand, and at both changes of the clock."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.notebooks.model.cron import CronError, next_time, parse_cron

BERLIN = ZoneInfo("Europe/Berlin")


def times(cron: str, begin: str, count: int, zone: str = "Europe/Berlin") -> list[str]:
    """Return the next times behind a local one, as local times with their offset."""
    where = ZoneInfo(zone)
    after = dt.datetime.fromisoformat(begin).replace(tzinfo=where).timestamp()
    found = []
    for _ in range(count):
        after = next_time(parse_cron(cron), where, after) or 0.0
        found.append(dt.datetime.fromtimestamp(after, where).isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize(
    ("cron", "begin", "found"),
    [
        ("*/20 * * * *", "2026-01-01T00:10", ["2026-01-01T00:20+01:00", "2026-01-01T00:40+01:00"]),
        ("30 7 * * mon-fri", "2026-01-02T08:00", ["2026-01-05T07:30+01:00", "2026-01-06T07:30+01:00"]),
        ("0 0 1 jan,jul *", "2026-01-01T00:00", ["2026-07-01T00:00+02:00", "2027-01-01T00:00+01:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["2028-02-29T00:00+01:00", "2032-02-29T00:00+01:00"]),
        ("0 12 13 * 5", "2026-03-06T13:00", ["2026-03-13T12:00+01:00", "2026-03-20T12:00+01:00"]),
        ("0 0 * * 7", "2026-01-01T00:00", ["2026-01-04T00:00+01:00", "2026-01-11T00:00+01:00"]),
        ("5-10/5 3/10 * * *", "2026-01-01T00:00", ["2026-01-01T03:05+01:00", "2026-01-01T03:10+01:00"]),
        # The clock is put forward on 29 March at 2:00: 2:30 comes at 3:30.
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T03:30+02:00", "2026-03-30T02:30+02:00"]),
        ("30 * * * *", "2026-03-29T01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
        # The clock is put back on 25 October at 3:00: 2:30 counts once, the first time, and each hour counts.
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 * * * *", "2026-10-25T02:00", ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]),
    ],
)
def test_times_are_those_of_the_clock_on_the_wall(cron: str, begin: str, found: list[str]) -> None:
    """Also where it is changed."""
    assert found == times(cron, begin, len(found))


def test_a_zone_with_half_hours_and_one_that_skips_midnight() -> None:
    """Lord Howe Island changes by half an hour; Beirut has no midnight on the day of the change."""
    assert ["2026-10-04T02:45+11:00"] == times("15 2 * * *", "2026-10-04T00:00", 1, "Australia/Lord_Howe")
    assert ["2026-03-29T01:00+03:00", "2026-03-30T00:00+03:00"] == times(
        "0 0 * * *", "2026-03-28T12:00", 2, "Asia/Beirut"
    )


@pytest.mark.parametrize(
    "cron",
    [
        *("", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"),
        *("5-1 * * * *", "*/0 * * * *", "a * * * *", "1,,2 * * * *", "* * * foo *", "-1 * * * *", "x" * 300),
    ],
)
def test_what_is_no_expression_is_told(cron: str) -> None:
    """A field at fault is named."""
    with pytest.raises(CronError):
        parse_cron(cron)


def test_a_date_that_never_comes_has_no_time() -> None:
    """30 February is valid as fields, and no day."""
    assert next_time(parse_cron("0 0 30 2 *"), BERLIN, 0.0) is None


@given(
    st.integers(0, 59),
    st.one_of(st.just("*"), st.integers(0, 23).map(str)),
    st.integers(1_700_000_000, 1_900_000_000),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC", "Australia/Lord_Howe"]),
)
def test_every_day_has_its_times(minute: int, hour: str, after: int, zone: str) -> None:
    """The next time is behind, at most a day and an hour; between the two there is none."""
    where, cron = ZoneInfo(zone), parse_cron(f"{minute} {hour} * * *")
    found = next_time(cron, where, after)
    assert found is not None
    assert after < found <= after + (7200 if hour == "*" else 25 * 3600 + 1800)
    assert next_time(cron, where, found - 1) == found
    assert found == next_time(cron, where, (after + found) / 2)

"""Long lists of values are converted at once, and come out as if each were converted alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import outcome
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyiceberg.types import (
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
)

from strata.outcomes import Refused
from strata.tables.scan.literals import literals_of, to_literal
from strata.tables.scan.params import MANY, Filter, ScanSpec, parse_scan_params
from strata.tables.scan.values import (
    Timestamp,
    ValueFormatError,
    canonical_value,
    canonical_values,
    parse_value,
    parse_values,
)

FRACTIONS = ("", ".5", ".123456", ".123456789", ".1234567890", ".")
ZONES = ("", "Z", "z", "+01:00", "-0530", "+24:00")
DATES = (
    *("2024-02-29", "2023-02-29", "1700-01-01", "1677-09-21", "2262-04-11", "2199-12-31", "2024-00-10"),
    *("2024-13-01", "0001-01-01", "9999-12-31", "2024-1-1", "\u0662\u0660\u0662\u0664-01-01", "2100-02-29"),
)
TIMES = ("00:00:00", "23:59:59", "24:00:00", "12:60:00", "12:00:60", "12:00", "12", "1:00:00")
moments = st.builds(
    lambda date, between, time, fraction, zone: f"__datetime__:{date}{between}{time}{fraction}{zone}",
    st.sampled_from(DATES),
    st.sampled_from("T t"),
    st.sampled_from(TIMES),
    st.sampled_from(FRACTIONS),
    st.sampled_from(ZONES),
)
plain = st.builds(
    lambda day, time: f"__datetime__:{day.isoformat()}T{time.isoformat(timespec='microseconds')}",
    st.dates(min_value=dt.date(1700, 1, 1), max_value=dt.date(2199, 12, 31)),
    st.times(),
)
odd: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(),
    st.none(),
    st.text(max_size=4),
    st.sampled_from(["__int__:7", "__str____", "__", "__nope__:1", "\ud800", "__datetime__:\ud800", "a\nb"]),
    moments,
    plain,
)


def one_by_one(values: list[Any]) -> tuple[object, ...] | int:
    """Return the values, or the place of the first bad one."""
    found = []
    for at, value in enumerate(values):
        try:
            found.append(parse_value(value))
        except ValueFormatError:
            return at
    return tuple(found)


def parsed(values: list[Any]) -> tuple[object, ...] | int:
    """Return the values of a filter, or the place of the first bad one."""
    spec = parse_scan_params({"filters": [{"column": "c", "op": "in", "value": values}]})
    if isinstance(spec, Refused):
        assert spec.loc is not None
        at = spec.loc[-1]
        assert isinstance(at, int)
        return at
    found = spec.filters[0].value
    assert isinstance(found, tuple)
    return found


@given(st.one_of(st.lists(kind, min_size=1, max_size=6) for kind in (st.integers(), moments, plain, odd)))
@example(["__datetime__:2024-02-30T00:00:00", "__datetime__:2024-02-29T00:00:00"])
def test_a_long_list_is_parsed_as_its_values_are(values: list[Any]) -> None:
    """The same values of the same types, or a refusal at the same place."""
    long = values * MANY
    assert len(long) >= MANY
    expected, found = one_by_one(long), parsed(long)
    assert type(expected) is type(found)
    assert repr(expected) == repr(found)


@given(st.lists(plain, min_size=2, max_size=4), st.sampled_from(["", "Z"]))
def test_common_dates_and_times_are_parsed_at_once(values: list[str], zone: str) -> None:
    """The fast way is taken where it is meant to be: else nothing here would test it."""
    texts = [text + zone for text in values]
    found = parse_values(texts)
    assert found == tuple(map(parse_value, texts))
    assert all(isinstance(one, Timestamp) and one.zoned is bool(zone) for one in found)


@given(st.one_of(st.lists(kind, min_size=1, max_size=6) for kind in (st.integers(), moments, plain, odd)))
def test_a_list_has_the_canonical_form_of_its_values(values: list[Any]) -> None:
    """Distinct and sorted, as when each is made canonical alone: identities of results depend on it."""
    found = one_by_one(values)
    if isinstance(found, int):
        return
    expected: Any = sorted({tuple(canonical_value(value)) for value in found})  # type: ignore[arg-type]
    assert [list(one) for one in expected] == canonical_values(found)  # type: ignore[arg-type]


KINDS = (
    *(IntegerType(), LongType(), DoubleType(), StringType()),
    *(TimestampType(), TimestamptzType(), TimestampNanoType(), TimestamptzNanoType()),
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(
    st.one_of(
        st.lists(st.integers(-(2**31), 2**31), min_size=1, max_size=5),
        st.lists(st.integers(-(2**63), 2**63), min_size=1, max_size=5),
        st.lists(
            st.builds(
                Timestamp,
                st.one_of(
                    st.integers(-(2**63), 2**63), st.integers(-(2**40), 2**40).map(lambda n: n * 1_000)
                ),
                st.booleans(),
            ),
            min_size=1,
            max_size=5,
        ),
        st.lists(odd, min_size=1, max_size=5),
    )
)
def test_a_long_list_gives_the_literals_of_its_values(kind: Any, values: list[Any]) -> None:
    """The same literals of the same types, or the error of the first that does not fit."""
    long = values * MANY
    expected = outcome.capture(lambda: tuple(to_literal(kind, value) for value in long))
    found = outcome.capture(literals_of, kind, "in", long)
    assert repr(expected) == repr(found)


def test_a_filter_alone_and_one_named_twice_have_one_canonical_form() -> None:
    """The form of one filter takes a shorter way than that of several."""
    one = Filter("a", "=", 1)
    assert ScanSpec(filters=(one,)).canonical() == ScanSpec(filters=(one, one)).canonical()

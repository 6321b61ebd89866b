"""Predicates on rows, on constants and on statistics; pruning never loses a row."""

from __future__ import annotations

import math

import attrs
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import DoubleType, LongType, StringType

from strata.tables.scan.predicates import (
    Statistics,
    matches_constant,
    might_match,
    must_match,
    normal_predicate,
    row_mask,
)

OPS = ["=", "!=", "<", "<=", ">", ">=", "in", "not in", "is null", "is not null"]
TYPES = {
    LongType(): (pa.int64(), st.integers(-3, 3)),
    DoubleType(): (pa.float64(), st.sampled_from([-1.0, -0.0, 0.0, 0.5, math.inf, math.nan])),
    StringType(): (pa.large_string(), st.sampled_from(["", "a", "ab", "b", "é"])),
}


def predicate(kind, op, values=()):
    return normal_predicate(1, ("c",), kind, op, tuple(values))


@st.composite
def cases(draw):
    """Generate a predicate and a column of rows."""
    kind = draw(st.sampled_from(list(TYPES)))
    arrow, values = TYPES[kind]
    rows = draw(st.lists(st.none() | values, min_size=1, max_size=6))
    op = draw(st.sampled_from(OPS))
    literal = values.filter(lambda value: value == value)  # noqa: PLR0124 - no NaN literal passes the parser
    members = {"is null": 0, "is not null": 0, "in": None, "not in": None}.get(op, 1)
    sizes = {"min_size": 0 if members is None else members, "max_size": 3 if members is None else members}
    return predicate(kind, op, draw(st.lists(literal, **sizes))), pa.array(rows, arrow)


def kept(condition, column):
    return [
        value for value, keep in zip(column, row_mask(condition, column).to_pylist(), strict=True) if keep
    ]


def statistics(column):
    """Return statistics as writers record them: bounds without NaN."""
    values = [value for value in column.to_pylist() if value is not None]
    plain = [value for value in values if value == value]  # noqa: PLR0124 - drops NaN
    return Statistics(
        lower=min(plain) if plain else None,
        upper=max(plain) if plain else None,
        has_null=len(values) < len(column),
        all_null=not values,
        all_nan=bool(values) and not plain,
        has_nan=len(plain) < len(values),
    )


@given(cases(), st.sets(st.sampled_from(["lower", "upper", "has_null", "all_null", "all_nan"])))
def test_pruning_never_loses_a_row_whatever_statistics_are_missing(case, missing):
    """If any row matches, the group might match: with all statistics and with any of them unknown."""
    condition, column = case
    stats = statistics(column)
    unknown = {"lower": None, "upper": None, "has_null": None, "all_null": False, "all_nan": False}
    known = {name: unknown[name] if name in missing else getattr(stats, name) for name in unknown}
    if kept(condition, column):
        assert might_match(condition, Statistics(**known))


UNKNOWN = {
    name: getattr(Statistics(), name) for name in ("lower", "upper", "has_null", "all_null", "has_nan")
}


@given(cases(), st.sets(st.sampled_from(sorted(UNKNOWN))))
def test_what_must_match_matches_whatever_statistics_are_missing(case, missing):
    """All rows match where statistics, complete or not, are said to prove it."""
    condition, column = case
    stats = attrs.evolve(statistics(column), **{name: UNKNOWN[name] for name in missing})
    if must_match(condition, stats):
        assert len(column) == len(kept(condition, column))


@pytest.mark.parametrize(
    ("op", "values", "stats", "expected"),
    [
        ("=", [5], Statistics(5, 5, has_null=False), True),
        ("=", [5], Statistics(5, 6, has_null=False), False),
        ("=", [5], Statistics(5, 5), False),
        ("in", [5, 7], Statistics(7, 7, has_null=False), True),
        ("<", [5], Statistics(1, 4, has_null=False), True),
        ("<", [5], Statistics(1, 5, has_null=False), False),
        (">=", [5], Statistics(5, 9, has_null=False), True),
        ("!=", [5], Statistics(6, 9, has_null=False), True),
        ("!=", [5], Statistics(5, 9, has_null=False), False),
        ("not in", [1, 11], Statistics(5, 9, has_null=False), True),
        ("is null", [], Statistics(all_null=True), True),
        ("is null", [], Statistics(has_null=True), False),
        ("is not null", [], Statistics(has_null=False), True),
        ("<", [5], Statistics("a", "b", has_null=False), False),
    ],
)
def test_rows_are_proven_to_match_where_that_is_known(op, values, stats, expected):
    """Bounds that enclose matching values only, without a null, are a proof; unknown ones are none."""
    assert expected is must_match(predicate(LongType(), op, values), stats)


@given(cases(), st.sampled_from(["lower", "upper"]))
def test_a_nan_bound_prunes_nothing(case, bound):
    """Bounds of a writer that includes NaN in them are unreliable."""
    condition, column = case
    if isinstance(condition.kind, DoubleType) and kept(condition, column):
        stats = statistics(column)
        spoilt = {"lower": stats.lower, "upper": stats.upper} | {bound: math.nan}
        assert might_match(condition, Statistics(**spoilt))


@pytest.mark.parametrize(
    ("op", "values", "stats", "expected"),
    [
        ("=", [5], Statistics(6, 9), False),
        ("=", [5], Statistics(5, 9), True),
        ("<", [5], Statistics(5, 9), False),
        ("<=", [5], Statistics(5, 9), True),
        (">", [5], Statistics(1, 5), False),
        (">=", [5], Statistics(1, 5), True),
        ("in", [1, 9], Statistics(2, 8), False),
        ("in", [], Statistics(2, 8), False),
        ("is null", [], Statistics(has_null=False), False),
        ("is null", [], Statistics(), True),
        ("is not null", [], Statistics(all_null=True), False),
        ("!=", [5], Statistics(5, 5), True),
        ("!=", [5], Statistics(all_null=True), False),
        ("not in", [5, 6], Statistics(all_null=True), False),
        ("not in", [], Statistics(all_null=True), True),
        ("<", [5], Statistics("a", "b"), True),
    ],
)
def test_pruning_happens_where_it_may(op, values, stats, expected):
    """Pruning takes effect; bounds of another type count as unknown."""
    assert expected is might_match(predicate(LongType(), op, values), stats)


@pytest.mark.parametrize(
    ("op", "values", "expected"),
    [
        ("=", [1.0], [1.0]),
        ("!=", [1.0], [2.0, math.nan]),
        ("<", [9.0], [1.0, 2.0]),
        (">", [0.0], [1.0, 2.0]),
        ("in", [1.0, 3.0], [1.0]),
        ("in", [], []),
        ("not in", [1.0, 3.0], [2.0, math.nan]),
        ("not in", [1.0], [2.0, math.nan]),
        ("not in", [], [1.0, 2.0, None, math.nan]),
        ("is null", [], [None]),
        ("is not null", [], [1.0, 2.0, math.nan]),
    ],
)
def test_nulls_follow_sql_and_nan_follows_ieee_754(op, values, expected):
    """Of 1, 2, null and NaN, a null satisfies no comparison: unknown is not true."""
    column = pa.array([1.0, 2.0, None, math.nan])
    assert repr(expected) == repr(
        [value.as_py() for value in kept(predicate(DoubleType(), op, values), column)]
    )


def test_the_two_zeros_are_equal_in_every_operator():
    """``in`` is a disjunction of ``=`` and ``not in`` its negation, also for -0.0."""
    column = pa.array([0.0, -0.0, 1.0, 2.0])
    for zero in (0.0, -0.0):
        assert 2 == len(kept(predicate(DoubleType(), "=", [zero]), column))
        assert 3 == len(kept(predicate(DoubleType(), "in", [zero, 1.0]), column))
        assert [2.0] == [
            value.as_py() for value in kept(predicate(DoubleType(), "not in", [zero, 1.0]), column)
        ]


@pytest.mark.parametrize(
    ("op", "values", "value", "expected"),
    [
        ("=", [1], None, False),
        ("!=", [1], None, False),
        ("not in", [1, 2], None, False),
        ("not in", [], None, True),
        ("!=", [1], 2, True),
        ("not in", [1, 2], 3, True),
        ("<", [1], None, False),
        ("<", [1], 0, True),
        (">=", [1], 0, False),
        ("in", [1, 2], 2, True),
        ("is null", [], None, True),
        ("is not null", [], None, False),
    ],
)
def test_a_column_absent_from_a_file_is_compared_like_a_stored_one(op, values, value, expected):
    """An absent column's null satisfies no comparison, as a stored null: rewriting files changes no answer."""
    assert expected is matches_constant(predicate(LongType(), op, values), value)

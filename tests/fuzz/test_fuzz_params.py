"""Scan parameters, filter values and literals: exact or refused, and one canonical form."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from decimal import Decimal

import pytest
from fuzz_kit import SECRET, documents, fuzz, integers, scalars, texts
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from strata.client.filters import Filter as ClientFilter
from strata.client.filters import encode_filters, encode_value
from strata.outcomes import Reason, Refused
from strata.tables.scan.literals import LiteralTypeError, to_literal
from strata.tables.scan.params import OPERATORS, ScanSpec, parse_scan_params
from strata.tables.scan.values import Timestamp, ValueFormatError, canonical_value, parse_value

pytestmark = pytest.mark.slow

PREFIXES = [
    "datetime", "timestamp", "timestamptz", "date", "time", "decimal", "uuid", "bytes", "binary", "int", "float", "str", "other",
]  # fmt: skip
digits = st.text("0123456789-+:.TZ eE_/", max_size=30)
payloads = st.one_of(
    texts,
    digits,
    st.datetimes().map(dt.datetime.isoformat),
    st.datetimes(timezones=st.just(dt.UTC)).map(dt.datetime.isoformat),
    st.builds(
        lambda d, f, z: f"{d:%Y-%m-%dT%H:%M:%S}.{f}{z}",
        st.datetimes(),
        st.integers(0, 10**10),
        st.sampled_from(["", "Z", "+23:59", "-2359", "+24:00"]),
    ),
    st.dates().map(dt.date.isoformat),
    st.times().map(dt.time.isoformat),
    st.decimals().map(str),
    st.uuids().map(str),
    st.binary(max_size=8).map(lambda data: base64.b64encode(data).decode()),
    st.integers().map(str),
    st.floats().map(str),
)
prefixed = st.builds("__{}__:{}".format, st.one_of(st.sampled_from(PREFIXES), texts), payloads)
wire_values = st.one_of(scalars, prefixed)

columns = st.one_of(st.sampled_from(["id", "value", "s.x", ""]), texts)
filters = st.one_of(
    documents,
    st.fixed_dictionaries(
        {},
        optional={
            "column": st.one_of(columns, scalars),
            "op": st.one_of(st.sampled_from(sorted(OPERATORS)), scalars),
            "value": st.one_of(wire_values, st.lists(wire_values, max_size=3), documents),
            "vlaue": scalars,
        },
    ),
    st.fixed_dictionaries({"column": columns, "op": st.sampled_from(["=", "<", "!="]), "value": wire_values}),
    st.fixed_dictionaries(
        {"column": columns, "op": st.just("in"), "value": st.lists(wire_values, max_size=3)}
    ),
)
params = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "columns": st.one_of(st.lists(columns, max_size=3), documents),
            "filters": st.one_of(st.lists(filters, max_size=3), documents),
            "snapshot_id": st.one_of(integers, scalars),
            "ref": scalars,
            "as_of": wire_values,
        },
    ),
    st.dictionaries(texts, documents, max_size=2),
)

KINDS = [
    BooleanType(), IntegerType(), LongType(), FloatType(), DoubleType(), DecimalType(9, 2), DecimalType(38, 38), DateType(),
    TimeType(), TimestampType(), TimestamptzType(), TimestampNanoType(), TimestamptzNanoType(), StringType(), UUIDType(),
    BinaryType(), FixedType(3), ListType(1, StringType(), element_required=False), StructType(),
]  # fmt: skip


@fuzz
@given(raw=params)
def test_any_scan_parameters_are_a_scan_or_a_refusal_with_its_place(raw) -> None:
    """The location begins where parameters are; a canonical form is JSON and parses to an equal spec."""
    found = parse_scan_params(raw)
    if isinstance(found, Refused):
        assert Reason.BAD_REQUEST is found.reason
        assert ("body", "transform", "params") == found.loc[:3]
        json.dumps(found.loc)
        return
    assert isinstance(found, ScanSpec)
    assert json.loads(json.dumps(found.canonical(), allow_nan=False)) == found.canonical()
    assert found == parse_scan_params(raw)


@fuzz
@given(given_filters=st.lists(filters, min_size=1, max_size=4), data=st.data())
def test_the_order_of_anded_filters_is_no_part_of_a_scan(given_filters, data) -> None:
    """A repeated filter does not count, either: the canonical form, and so the artifact, is the same."""
    found = parse_scan_params({"filters": given_filters})
    others = data.draw(st.permutations(given_filters))
    other = parse_scan_params({"filters": [*others, others[0]]})
    assert isinstance(found, Refused) == isinstance(other, Refused)
    if isinstance(found, ScanSpec) and isinstance(other, ScanSpec):
        assert found.canonical() == other.canonical()


@fuzz
@given(one=wire_values, other=wire_values)
def test_values_that_differ_never_share_a_canonical_form(one, other) -> None:
    """1, "1", 1.0 and True are four different values."""
    try:
        left, right = parse_value(one), parse_value(other)
    except ValueFormatError:
        return
    same = type(left) is type(right) and left == right
    signed_zero = (
        isinstance(left, float) and math.copysign(1, left) != math.copysign(1, right)
        if same and left == 0
        else False
    )
    if canonical_value(left) == canonical_value(right):
        assert same
    elif same and not isinstance(left, Decimal):  # 1.0 and 1.00 may be told apart
        assert signed_zero


@fuzz
@given(kind=st.sampled_from(KINDS), raw=wire_values)
def test_any_value_is_a_literal_of_its_columns_type_or_none(kind, raw) -> None:
    """No other exception for any column; converting a literal again gives the same literal."""
    try:
        literal = to_literal(kind, parse_value(raw))
    except (ValueFormatError, LiteralTypeError):
        return
    if isinstance(
        kind, BooleanType | IntegerType | LongType | StringType | BinaryType | FixedType | DecimalType
    ):
        assert literal == to_literal(kind, literal)
    if isinstance(kind, IntegerType):
        assert -(2**31) <= literal < 2**31
    assert literal == literal  # noqa: PLR0124 - not NaN


@fuzz
@given(
    text=st.one_of(
        st.builds(
            "__{}__:{}".format, st.sampled_from(PREFIXES), st.builds("{}{}".format, payloads, st.just(SECRET))
        ),
        st.just(SECRET),
    ),
    kind=st.sampled_from(KINDS),
    op=st.sampled_from(sorted(OPERATORS)),
)
def test_no_refusal_repeats_the_value(text, kind, op) -> None:
    """A value may be one of a row's."""
    found = parse_scan_params({"filters": [{"column": "a", "op": op, "value": text}], "as_of": text})
    if isinstance(found, Refused):
        assert SECRET not in found.detail
    try:
        to_literal(kind, parse_value(text))
    except (ValueFormatError, LiteralTypeError) as error:
        assert SECRET not in str(error)


travelling = st.one_of(
    st.booleans(),
    st.integers(-(10**60), 10**60),
    st.floats(allow_nan=False),
    st.text(),
    prefixed,
    st.binary(max_size=16),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.datetimes(timezones=st.just(dt.timezone(dt.timedelta(hours=5, minutes=30)))),
    st.uuids(),
)


@fuzz
@given(value=travelling)
def test_what_the_client_sends_is_what_the_server_reads(value) -> None:
    """Value and type are kept over JSON."""
    sent = json.loads(json.dumps(encode_value(value)))
    expected = Timestamp.from_datetime(value) if isinstance(value, dt.datetime) else value
    found = parse_value(sent)
    assert expected == found
    assert type(expected) is type(found)
    (condition,) = encode_filters([ClientFilter("a", "in", [value])])
    spec = parse_scan_params({"filters": [condition]})
    assert isinstance(spec, ScanSpec)
    assert (expected,) == spec.filters[0].value

"""Scan parameters: strict parsing and one canonical form."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.outcomes import Reason, Refused
from strata.tables.scan.params import (
    MAX_CONDITIONS,
    MAX_VALUE_BYTES,
    MAX_VALUES,
    MAX_VALUES_BYTES,
    Filter,
    ScanSpec,
    parse_scan_params,
)
from strata.tables.scan.values import Timestamp, ValueFormatError, canonical_value, parse_value


def parse(params):
    spec = parse_scan_params(params)
    assert isinstance(spec, ScanSpec), spec
    return spec


def refuse(params):
    refused = parse_scan_params(params)
    assert isinstance(refused, Refused), refused
    assert Reason.BAD_REQUEST is refused.reason
    assert ("body", "transform", "params") == refused.loc[:3]
    return refused.loc[3:]


def test_the_wire_form_of_the_contract():
    """The example of the wire contract is parsed."""
    spec = parse(
        {
            "columns": ["id", "value"],
            "filters": [{"column": "id", "op": "<", "value": 100}],
            "snapshot_id": 123,
        }
    )
    assert ScanSpec(("id", "value"), (Filter("id", "<", 100),), 123) == spec


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        ({"colunms": []}, ()),
        ({"columns": "id"}, ("columns",)),
        ({"columns": [1]}, ("columns", 0)),
        ({"columns": [""]}, ("columns", 0)),
        ({"columns": ["a", "b", "a"]}, ("columns", 2)),
        ({"columns": {"a": 1}}, ("columns",)),
        ({"filters": {"column": "a"}}, ("filters",)),
        ({"filters": ["a"]}, ("filters", 0)),
        ({"filters": [{}]}, ("filters", 0, "column")),
        ({"filters": [{"column": 1, "op": "="}]}, ("filters", 0, "column")),
        ({"filters": [{"column": "a"}]}, ("filters", 0, "op")),
        ({"filters": [{"column": "a", "op": "like", "value": "x"}]}, ("filters", 0, "op")),
        ({"filters": [{"column": "a", "op": ["="], "value": "x"}]}, ("filters", 0, "op")),
        ({"filters": [{"column": "a", "op": "=", "value": None}]}, ("filters", 0, "value")),
        ({"filters": [{"column": "a", "op": "="}]}, ("filters", 0, "value")),
        ({"filters": [{"column": "a", "op": "is null", "value": 1}]}, ("filters", 0, "value")),
        ({"filters": [{"column": "a", "op": "in", "value": "ab"}]}, ("filters", 0, "value")),
        ({"filters": [{"column": "a", "op": "in", "value": [1, None]}]}, ("filters", 0, "value", 1)),
        ({"filters": [{"column": "a", "op": "in", "value": [float("nan")]}]}, ("filters", 0, "value", 0)),
        ({"snapshot_id": "1x"}, ("snapshot_id",)),
        ({"snapshot_id": ""}, ("snapshot_id",)),
        ({"snapshot_id": "-1"}, ("snapshot_id",)),
        ({"snapshot_id": "9223372036854775808"}, ("snapshot_id",)),
        ({"snapshot_id": "\u0661"}, ("snapshot_id",)),
        ({"snapshot_id": True}, ("snapshot_id",)),
        ({"snapshot_id": 2**63}, ("snapshot_id",)),
        ({"snapshot_id": -1}, ("snapshot_id",)),
        ({"ref": ""}, ("ref",)),
        ({"ref": 1}, ("ref",)),
        ({"as_of": "yesterday"}, ("as_of",)),
        ({"as_of": "2024-01-01T00:00:00"}, ("as_of",)),
        ({"as_of": 5}, ("as_of",)),
        ({"as_of": "9999-12-31T23:59:59-23:59"}, ("as_of",)),
        ({"as_of": "0001-01-01T00:00:00+23:59"}, ("as_of",)),
        ({"ref": "main", "snapshot_id": 1}, ("ref",)),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(params, loc):
    """Unknown or malformed input is refused with its location; nothing is guessed or ignored."""
    assert loc == refuse(params)


@pytest.mark.parametrize("number", [0, 2**53 + 1, 2**63 - 1])
def test_a_snapshot_id_may_be_a_text(number):
    """JavaScript's numbers have 53 bits; the text means the same snapshot and has the same identity."""
    assert parse_scan_params({"snapshot_id": number}) == parse_scan_params({"snapshot_id": str(number)})
    assert number == parse_scan_params({"snapshot_id": str(number)}).snapshot_id


def test_none_columns_and_no_columns_differ():
    """``null`` and absence mean all columns, an empty list means none."""
    assert parse({}) == parse({"columns": None})
    assert parse({}).canonical() != parse({"columns": []}).canonical()


def test_the_order_of_columns_is_part_of_the_identity():
    """The same columns in another order are another result."""
    assert parse({"columns": ["a", "b"]}).canonical() != parse({"columns": ["b", "a"]}).canonical()


def test_the_order_of_filters_and_members_is_not():
    """The order and repetition of filters and members do not count."""
    a, b = {"column": "a", "op": "in", "value": [1, 2]}, {"column": "b", "op": "<", "value": 3}
    c = {"column": "a", "op": "in", "value": [2, 1, 2]}
    assert parse({"filters": [a, b]}).canonical() == parse({"filters": [b, c, a]}).canonical()


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, "1"), (1, 1.0), (1, True), ("a", "__bytes__:YQ=="), ("2024-01-01", "__date__:2024-01-01")],
)
def test_values_of_different_types_have_different_identities(one, other):
    """1, "1", 1.0 and true are four values."""

    def form(value):
        return parse({"filters": [{"column": "a", "op": "=", "value": value}]}).canonical()

    assert form(one) != form(other)


def test_the_canonical_form_is_json():
    """The canonical form is JSON-serialisable, as the provenance hash needs."""
    value = f"__uuid__:{uuid.UUID(int=1)}"
    spec = parse({"filters": [{"column": "a", "op": "=", "value": value}], "as_of": "2024-01-01T00:00:00Z"})
    assert spec.canonical() == json.loads(json.dumps(spec.canonical()))


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("plain", "plain"),
        ("__str__:__date__:x", "__date__:x"),
        ("__date__:2024-02-29", dt.date(2024, 2, 29)),
        ("__time__:01:02:03.000004", dt.time(1, 2, 3, 4)),
        ("__time__:01:02", dt.time(1, 2)),
        ("__datetime__:1970-01-01T00:00:01", Timestamp(10**9, zoned=False)),
        ("__datetime__:1970-01-01 00:00:01.5", Timestamp(1_500_000_000, zoned=False)),
        ("__datetime__:1970-01-01T01:00:00+01:00", Timestamp(0, zoned=True)),
        ("__timestamptz__:1969-12-31T23:59:59.999999999Z", Timestamp(-1, zoned=True)),
        ("__timestamp__:2024-01-01T00:00:00.123456789", Timestamp(1704067200123456789, zoned=False)),
        ("__decimal__:-1.50", Decimal("-1.50")),
        ("__uuid__:00000000-0000-0000-0000-000000000001", uuid.UUID(int=1)),
        ("__bytes__:AP8=", b"\x00\xff"),
        ("__binary__:", b""),
        ("__int__:123456789012345678901", 123456789012345678901),
        ("__float__:inf", float("inf")),
        (3, 3),
        (2.5, 2.5),
        (False, False),
    ],
)
def test_typed_values(sent, value):
    """Each prefix gives exactly its value, to the nanosecond."""
    assert value == parse_value(sent)
    assert type(value) is type(parse_value(sent))


@pytest.mark.parametrize(
    "sent",
    [
        "__date__:2024-13-01",
        "__date__:20240101",
        "__time__:24:00",
        "__time__:25:00",
        "__time__:01:02:03+01:00",
        "__datetime__:2024-01-01",
        "__datetime__:2024-01-01T24:00:00",
        "__datetime__:2024-01-01T00:00:00.1234567891",
        "__timestamp__:2024-01-01T00:00:00Z",
        "__timestamptz__:2024-01-01T00:00:00",
        "__decimal__:Infinity",
        "__decimal__:1_0",
        "__decimal__:" + "9" * 300,
        "__uuid__:{00000000-0000-0000-0000-000000000001}",
        "__bytes__:A",
        "__int__:1.0",
        "__float__:x",
        "__unknown__:1",
        None,
        [],
        {},
        float("nan"),
        object(),
    ],
)
def test_a_bad_typed_value_is_named_and_not_repeated(sent):
    """The error says what is wrong, without the value."""
    with pytest.raises(ValueFormatError) as caught:
        parse_value(sent)
    assert not isinstance(sent, str) or sent.partition(":")[2] not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.from_regex(r"__[a-z]{3,8}__:.*"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["columns", "filters", "snapshot_id", "ref", "as_of"])
filters = st.fixed_dictionaries(
    {"column": json_values, "op": st.sampled_from(["=", "in", "is null", "x"])},
    optional={"value": json_values},
)


@given(st.dictionaries(names, json_values | st.lists(json_values | filters, max_size=3)))
def test_any_json_gives_a_spec_or_a_refusal_and_never_an_error(params):
    """Any JSON gives a spec with a canonical form, or a refusal; never an internal error."""
    spec = parse_scan_params(params)
    if isinstance(spec, ScanSpec):
        json.dumps(spec.canonical(), allow_nan=False)
    else:
        assert Reason.BAD_REQUEST is spec.reason


@given(st.datetimes(timezones=st.sampled_from([None, dt.UTC])))
def test_datetimes_from_python_and_from_the_wire_agree(moment):
    """A datetime and its ``isoformat`` text give the same value."""
    assert canonical_value(moment) == canonical_value(parse_value(f"__datetime__:{moment.isoformat()}"))


def test_more_filters_or_values_than_can_be_read_at_once_are_refused():
    """A megabyte could hold half a million values, which would block the event loop for a second."""
    condition = {"column": "a", "op": "=", "value": 1}
    assert MAX_CONDITIONS == len(parse({"filters": [condition] * MAX_CONDITIONS}).filters)
    assert ("filters",) == refuse({"filters": [condition] * (MAX_CONDITIONS + 1)})
    half = {"column": "a", "op": "in", "value": list(range(MAX_VALUES // 2))}
    assert 2 == len(parse({"filters": [half, half]}).filters)
    assert ("filters",) == refuse({"filters": [half, half, {"column": "a", "op": "not in", "value": [1]}]})


@pytest.mark.parametrize(
    "value",
    [
        "x" * (MAX_VALUE_BYTES + 1),
        "\u20ac" * (MAX_VALUE_BYTES // 3 + 1),
        "\ud800" * MAX_VALUE_BYTES,
        b"x" * 20_000,
        1 << 200_000,
    ],
    ids=["ascii", "utf8", "surrogates", "bytes", "integer"],
)
@pytest.mark.parametrize("op", ["=", "in"])
def test_a_value_is_bounded_in_bytes(value: object, op: str) -> None:
    """A large value is refused before it is parsed, whatever its type, and is not in the refusal."""
    filters = [
        {"column": "c", "op": "=", "value": 1},
        {"column": "c", "op": op, "value": [value] if op == "in" else value},
    ]
    refused = parse_scan_params({"filters": filters})
    assert isinstance(refused, Refused)
    assert (Reason.TOO_LARGE, "filter_values_too_large") == (refused.reason, refused.code)
    assert ("body", "transform", "params", "filters", 1, "value") == refused.loc
    assert str(MAX_VALUE_BYTES) in refused.detail
    assert len(refused.detail) < 200


def test_all_values_together_are_bounded_in_bytes() -> None:
    """The values of all filters count, reached exactly and refused one byte beyond."""
    fill = ["x" * MAX_VALUE_BYTES] * (MAX_VALUES_BYTES // MAX_VALUE_BYTES - 1)
    filters = [{"column": "c", "op": "in", "value": fill[:5]}, {"column": "d", "op": "in", "value": fill[5:]}]

    def with_last(size: int) -> object:
        return parse_scan_params({"filters": [*filters, {"column": "e", "op": "=", "value": "x" * size}]})

    assert isinstance(with_last(MAX_VALUE_BYTES), ScanSpec)
    filters.append({"column": "f", "op": "=", "value": "y"})
    refused = with_last(MAX_VALUE_BYTES)
    assert isinstance(refused, Refused)
    assert (Reason.TOO_LARGE, "filter_values_too_large") == (refused.reason, refused.code)

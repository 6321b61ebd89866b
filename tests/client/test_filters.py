import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from strata.client.filters import Filter, encode_filters, encode_moment, encode_value
from strata.tables.scan.values import Timestamp, canonical_value, parse_value

EST = dt.timezone(dt.timedelta(hours=-5))


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (True, True),
        (7, 7),
        (2**63 - 1, 2**63 - 1),
        (2**63, "__int__:9223372036854775808"),
        (np.int64(7), 7),
        (1.5, 1.5),
        (np.float32(1.5), 1.5),
        (float("-inf"), "__float__:-inf"),
        ("EWR", "EWR"),
        ("__date__:2013-01-01", "__str__:__date__:2013-01-01"),
        (dt.date(2013, 2, 8), "__date__:2013-02-08"),
        (dt.datetime(2013, 2, 8, 5), "__datetime__:2013-02-08T05:00:00"),  # noqa: DTZ001 - a naive one travels too
        (dt.datetime(2013, 2, 8, 5, tzinfo=EST), "__datetime__:2013-02-08T05:00:00-05:00"),
        (dt.time(5, 17), "__time__:05:17:00"),
        (Decimal("12.50"), "__decimal__:12.50"),
        (uuid.UUID(int=1), "__uuid__:00000000-0000-0000-0000-000000000001"),
        (b"\x00\xff", "__bytes__:AP8="),
        (bytearray(b"a"), "__bytes__:YQ=="),
        (pa.scalar(dt.date(2013, 1, 1)), "__date__:2013-01-01"),
    ],
)
def test_each_type_of_value_travels_in_its_own_form(value, wire):
    """Types are kept, with the prefixes of the wire contract."""
    encoded = encode_value(value)

    assert wire == encoded
    assert type(wire) is type(encoded)


@pytest.mark.parametrize(
    "value",
    [
        True,
        12,
        2**80,
        -0.25,
        "plain",
        "__uuid__:not one",
        b"\x00",
        Decimal("-1E+3"),
        uuid.UUID(int=5),
        dt.date(1969, 12, 31),
        dt.time(23, 59, 59, 999999),
    ],
)
def test_the_server_reads_the_value_that_was_meant(value):
    """The server's parser inverts the client's encoding, so a filter has exactly the caller's value."""
    assert canonical_value(value) == canonical_value(parse_value(encode_value(value)))


def test_datetimes_arrive_exact_with_and_without_zone():
    """Aware datetimes keep their point in time, naive ones their local time."""
    aware = dt.datetime(2013, 2, 8, 5, 1, 2, 3, tzinfo=EST)
    naive = aware.replace(tzinfo=None)

    assert Timestamp.from_datetime(aware) == parse_value(encode_value(aware))
    assert Timestamp.from_datetime(naive) == parse_value(encode_value(naive))


@pytest.mark.parametrize(
    "value", [float("nan"), np.float64("nan"), Decimal("NaN"), Decimal("Infinity"), None]
)
def test_a_comparison_with_nan_or_none_is_refused_before_it_is_sent(value):
    """No row equals NaN or None, so such a filter is an error and not an empty result."""
    with pytest.raises(ValueError, match="filter value"):
        encode_value(value)


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, 1j])
def test_a_value_that_cannot_travel_is_a_type_error(value):
    """No value is silently converted to its repr."""
    with pytest.raises(TypeError, match=type(value).__name__):
        encode_value(value)


def test_filters_may_be_values_tuples_or_mappings():
    """All three forms encode equally."""
    expected = [{"column": "month", "op": "=", "value": 2}]

    assert expected == encode_filters([Filter("month", "=", 2)])
    assert expected == encode_filters([("month", "=", 2)])
    assert expected == encode_filters([{"column": "month", "op": "=", "value": 2}])


def test_memberships_encode_every_member():
    """The members of a list are typed one by one."""
    encoded = encode_filters([("day", "not in", [dt.date(2013, 1, 1), "x"])])

    assert [{"column": "day", "op": "not in", "value": ["__date__:2013-01-01", "x"]}] == encoded


def test_null_checks_carry_no_value():
    """`is null` is sent without a value, and refuses one."""
    assert [{"column": "a", "op": "is null"}] == encode_filters([("a", "is null")])
    with pytest.raises(ValueError, match="takes no value"):
        encode_filters([("a", "is null", 1)])


@pytest.mark.parametrize("members", ["EWR", b"EWR", 3, None])
def test_a_string_is_no_list_of_its_letters(members):
    """`in "EWR"` would mean E, W and R."""
    with pytest.raises(ValueError, match="takes a list"):
        encode_filters([("origin", "in", members)])


def test_an_unknown_operator_or_key_is_an_error_at_once():
    """A misspelled filter is never sent without its condition."""
    with pytest.raises(ValueError, match="op"):
        Filter("a", "==", 1)
    with pytest.raises(TypeError, match="valeu"):
        encode_filters([{"column": "a", "op": "=", "valeu": 1}])


def test_time_travel_needs_a_moment_not_a_clock_reading():
    """A datetime without time zone may mean different times to client and server."""
    assert encode_moment(dt.datetime(2013, 1, 1, tzinfo=EST)) == "2013-01-01T00:00:00-05:00"
    with pytest.raises(ValueError, match="time zone"):
        encode_moment(dt.datetime(2013, 1, 1))  # noqa: DTZ001 - that is the mistake

"""Filter values against column types: exact, or refused."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest
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
    TimestampNanoType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from strata.tables.scan.literals import LiteralTypeError, to_literal
from strata.tables.scan.values import Timestamp

UTC = dt.UTC


@pytest.mark.parametrize(
    ("kind", "value", "literal"),
    [
        (BooleanType(), True, True),
        (IntegerType(), -(2**31), -(2**31)),
        (LongType(), 2**63 - 1, 2**63 - 1),
        (DoubleType(), 2**53, float(2**53)),
        (DoubleType(), 0.1, 0.1),
        (DoubleType(), float("inf"), float("inf")),
        (FloatType(), 0.1, 0.10000000149011612),
        (FloatType(), 1, 1.0),
        (DecimalType(5, 2), Decimal("1.5"), Decimal("1.50")),
        (DecimalType(5, 2), Decimal("1.500"), Decimal("1.50")),
        (DecimalType(5, 2), 999, Decimal("999.00")),
        (DecimalType(5, 2), "-1.25", Decimal("-1.25")),
        (DecimalType(38, 0), Decimal(10**38 - 1), Decimal(10**38 - 1)),
        (DateType(), dt.date(1969, 12, 31), -1),
        (DateType(), "1970-01-02", 1),
        (TimeType(), dt.time(0, 0, 1), 1_000_000),
        (TimestampType(), Timestamp(1_000, zoned=False), 1),
        (TimestampType(), "1970-01-01T00:00:00.000001", 1),
        (TimestamptzType(), dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), 0),
        (TimestampNanoType(), Timestamp(1, zoned=False), 1),
        (StringType(), "__x", "__x"),
        (UUIDType(), uuid.UUID(int=1), b"\x00" * 15 + b"\x01"),
        (UUIDType(), str(uuid.UUID(int=1)), b"\x00" * 15 + b"\x01"),
        (BinaryType(), b"x", b"x"),
        (FixedType(2), b"xy", b"xy"),
    ],
)
def test_a_value_of_the_columns_type_is_taken_exactly(kind, value, literal):
    """A value of the column's type is converted to its normal form."""
    assert literal == to_literal(kind, value)
    assert type(literal) is type(to_literal(kind, value))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (BooleanType(), 1),
        (IntegerType(), True),
        (IntegerType(), 2**31),
        (IntegerType(), 1.0),
        (IntegerType(), "1"),
        (LongType(), 2**63),
        (LongType(), -(2**63) - 1),
        (DoubleType(), 2**53 + 1),
        (DoubleType(), 10**400),
        (DoubleType(), True),
        (DoubleType(), "1.0"),
        (DoubleType(), Decimal("0.1")),
        (FloatType(), 1e300),
        (DecimalType(5, 2), 1.5),
        (DecimalType(5, 2), Decimal("1.555")),
        (DecimalType(5, 2), Decimal(1000)),
        (DecimalType(5, 2), Decimal("1e1000")),
        (DecimalType(5, 2), Decimal("Infinity")),
        (DecimalType(5, 2), "x"),
        (DateType(), dt.datetime(2024, 1, 1, tzinfo=UTC)),
        (DateType(), 5),
        (DateType(), "2024-1-1"),
        (TimeType(), "x"),
        (TimeType(), dt.time(1, tzinfo=UTC)),
        (TimestampType(), Timestamp(1, zoned=False)),
        (TimestampType(), Timestamp(0, zoned=True)),
        (TimestampType(), dt.date(2024, 1, 1)),
        (TimestamptzType(), Timestamp(0, zoned=False)),
        (TimestampNanoType(), "9999-01-01T00:00:00"),
        (StringType(), 1),
        (StringType(), b"x"),
        (StringType(), "\ud800"),
        (UUIDType(), "x"),
        (UUIDType(), b"0123456789abcdef"),
        (BinaryType(), "x"),
        (FixedType(2), b"x"),
        (ListType(1, LongType()), 1),
        (LongType(), None),
        (LongType(), [1]),
    ],
)
def test_any_other_value_is_refused_and_never_rounded_clamped_or_repeated(kind, value):
    """A value of another type or range is refused; the message does not repeat it."""
    with pytest.raises(LiteralTypeError) as caught:
        to_literal(kind, value)
    assert "1.555" not in str(caught.value)
    assert str(kind) in str(caught.value) or isinstance(kind, (DecimalType, StringType, ListType))

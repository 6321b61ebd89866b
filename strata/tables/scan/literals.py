"""Convert filter values to literals of a column's type, exactly.

A value that the column's type cannot hold is an error; it is never rounded, truncated or clamped. The one
exception is Iceberg's own: a number compared with a ``float`` column is rounded to 32 bits, so that
``x = 0.1`` finds the rows where 0.1 was written.

The normal form of a literal is that of Iceberg's statistics and partition values: ``int`` for integers,
dates (days), times (microseconds) and timestamps (micro- or nanoseconds), ``float``, ``Decimal``, ``str`` and
``bytes``.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from strata.tables.scan.params import MANY, MEMBERSHIPS, NULL_CHECKS
from strata.tables.scan.values import (
    Timestamp,
    ValueFormatError,
    parse_date,
    parse_decimal,
    parse_time,
    parse_timestamp,
    parse_uuid,
)

Literal = bool | int | float | str | bytes | Decimal

_INT_BITS = 32
_LONG_BITS = 64
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_MAX_DECIMAL_DIGITS = 300


class LiteralTypeError(ValueError):
    """A filter value does not have the column's type; the message never repeats the value."""


def to_literal(kind: IcebergType, value: object) -> Literal:
    """Return ``value`` as a literal of the Iceberg type ``kind``.

    Raises:
        LiteralTypeError: If ``kind`` cannot represent the value exactly, or has no literals.
    """
    try:
        convert = _CONVERTERS[type(kind)]
    except KeyError:
        raise LiteralTypeError(f"columns of type {kind} take only 'is null' and 'is not null'") from None
    if isinstance(value, dt.datetime):
        value = Timestamp.from_datetime(value)
    try:
        return convert(kind, value)
    except ValueFormatError as error:
        raise LiteralTypeError(f"the value for a {kind} column {error}") from None


def literals_of(kind: IcebergType, op: str, value: object) -> tuple[Literal, ...]:
    """Return the literals of a filter on a column of type ``kind``; none for the null checks.

    Raises:
        LiteralTypeError: If ``kind`` cannot represent a value exactly.
    """
    if op in NULL_CHECKS:
        return ()
    values: Sequence[object] = (value,)
    if op in MEMBERSHIPS:
        assert isinstance(value, Sequence)
        values = value
    at_once = _AT_ONCE.get(type(kind)) if len(values) >= MANY else None
    found = None if at_once is None else at_once(kind, values)
    return tuple(to_literal(kind, one) for one in values) if found is None else found


def storage_type(kind: IcebergType) -> Any:
    """Return the Arrow type in which literals of ``kind`` are compared; a UUID is its 16 bytes."""
    if isinstance(kind, DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, FixedType):
        return pa.binary(len(kind))
    return _STORAGE[type(kind)]


def narrow(number: float) -> float:
    """Round to 32 bits, as a float column stores it; raises OverflowError beyond its range."""
    rounded: float = struct.unpack("<f", struct.pack("<f", number))[0]
    return rounded


def _boolean(kind: IcebergType, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(kind)


def _integer(kind: IcebergType, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(kind)
    bits = _INT_BITS if isinstance(kind, IntegerType) else _LONG_BITS
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise LiteralTypeError(f"the value is out of the range of a {kind} column")
    return value


def _floating(kind: IcebergType, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(kind)
    try:
        number = float(value)
    except OverflowError:
        raise LiteralTypeError(f"the value is out of the range of a {kind} column") from None
    if number != number:  # noqa: PLR0124 - NaN is the one number unequal to itself
        raise LiteralTypeError("the value is NaN, which no row equals, precedes or follows")
    if isinstance(value, int) and int(number) != value:
        raise LiteralTypeError(f"the value has more digits than a {kind} column can hold")
    if isinstance(kind, FloatType):
        try:
            number = narrow(number)
        except OverflowError:
            raise LiteralTypeError(f"the value is out of the range of a {kind} column") from None
    return number


def _decimal(kind: IcebergType, value: object) -> Decimal:
    assert isinstance(kind, DecimalType)
    if isinstance(value, str):
        value = parse_decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise _wrong(kind, "an integer, or a decimal written as __decimal__:…")
    with localcontext() as context:
        context.prec = _MAX_DECIMAL_DIGITS
        try:
            number = Decimal(value)
            scaled = number.quantize(Decimal(1).scaleb(-kind.scale))
        except InvalidOperation:
            raise LiteralTypeError(f"the value is out of the range of a {kind} column") from None
        if scaled != number:
            raise LiteralTypeError(f"the value has more than the {kind.scale} decimals of its column")
        if abs(scaled) >= Decimal(10) ** (kind.precision - kind.scale):
            raise LiteralTypeError(f"the value is out of the range of a {kind} column")
        return scaled


def _integers(kind: IcebergType, values: Sequence[Any]) -> tuple[int, ...] | None:
    """Convert values at once; None unless all fit, so that each is looked at and the first is named."""
    if set(map(type, values)) != {int}:
        return None
    bits = _INT_BITS if isinstance(kind, IntegerType) else _LONG_BITS
    fit = -(1 << (bits - 1)) <= min(values) and max(values) < 1 << (bits - 1)
    return tuple(values) if fit else None


def _date(kind: IcebergType, value: object) -> int:
    if isinstance(value, str):
        value = parse_date(value)
    if not isinstance(value, dt.date):
        raise _wrong(kind, "a date")
    return value.toordinal() - _EPOCH_ORDINAL


def _time(kind: IcebergType, value: object) -> int:
    if isinstance(value, str):
        value = parse_time(value)
    if not isinstance(value, dt.time) or value.utcoffset() is not None:
        raise _wrong(kind, "a time without an offset")
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def _timestamp(kind: IcebergType, value: object) -> int:
    if isinstance(value, str):
        value = parse_timestamp(value)
    if not isinstance(value, Timestamp):
        raise _wrong(kind, "a date and time")
    zoned = isinstance(kind, (TimestamptzType, TimestamptzNanoType))
    if value.zoned != zoned:
        needs = "needs an offset from UTC" if zoned else "must not have an offset from UTC"
        raise LiteralTypeError(f"the value for a {kind} column {needs}")
    if isinstance(kind, (TimestampNanoType, TimestamptzNanoType)):
        if not -(1 << 63) <= value.nanos < 1 << 63:
            raise LiteralTypeError(f"the value is out of the range of a {kind} column")
        return value.nanos
    micros, rest = divmod(value.nanos, 1_000)
    if rest:
        raise LiteralTypeError(f"the value is finer than the microseconds of a {kind} column")
    return micros


def _timestamps(kind: IcebergType, values: Sequence[Any]) -> tuple[int, ...] | None:
    """Convert values at once; None unless all are timestamps that fit, as above."""
    zoned = isinstance(kind, (TimestamptzType, TimestamptzNanoType))
    if set(map(type, values)) != {Timestamp} or any(value.zoned is not zoned for value in values):
        return None
    nanos = [value.nanos for value in values]
    if isinstance(kind, (TimestampNanoType, TimestamptzNanoType)):
        return tuple(nanos) if min(nanos) >= -(1 << 63) and max(nanos) < 1 << 63 else None
    return None if any(value % 1_000 for value in nanos) else tuple([value // 1_000 for value in nanos])


def _string(kind: IcebergType, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(kind)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LiteralTypeError("the value is not valid Unicode") from None
    return value


def _uuid(kind: IcebergType, value: object) -> bytes:
    if isinstance(value, str):
        value = parse_uuid(value)
    if not isinstance(value, uuid.UUID):
        raise _wrong(kind, "a UUID")
    return value.bytes


def _binary(kind: IcebergType, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise _wrong(kind, "bytes, written as __bytes__:<base64>")
    if isinstance(kind, FixedType) and len(value) != len(kind):
        raise LiteralTypeError(f"the value for a {kind} column has another length")
    return value


def _wrong(kind: IcebergType, wanted: str | None = None) -> LiteralTypeError:
    return LiteralTypeError(f"the value for a {kind} column must be {wanted or f'a {kind}'}")


_CONVERTERS: dict[type, Callable[[IcebergType, object], Literal]] = {
    BooleanType: _boolean,
    IntegerType: _integer,
    LongType: _integer,
    FloatType: _floating,
    DoubleType: _floating,
    DecimalType: _decimal,
    DateType: _date,
    TimeType: _time,
    TimestampType: _timestamp,
    TimestamptzType: _timestamp,
    TimestampNanoType: _timestamp,
    TimestamptzNanoType: _timestamp,
    StringType: _string,
    UUIDType: _uuid,
    BinaryType: _binary,
    FixedType: _binary,
}

_AT_ONCE: dict[type, Callable[[IcebergType, Sequence[Any]], tuple[int, ...] | None]] = {
    IntegerType: _integers,
    LongType: _integers,
    TimestampType: _timestamps,
    TimestamptzType: _timestamps,
    TimestampNanoType: _timestamps,
    TimestamptzNanoType: _timestamps,
}

_STORAGE: dict[type, Any] = {
    BooleanType: pa.bool_(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    FloatType: pa.float32(),
    DoubleType: pa.float64(),
    DateType: pa.date32(),
    TimeType: pa.time64("us"),
    TimestampType: pa.timestamp("us"),
    TimestamptzType: pa.timestamp("us", tz="UTC"),
    TimestampNanoType: pa.timestamp("ns"),
    TimestamptzNanoType: pa.timestamp("ns", tz="UTC"),
    StringType: pa.large_string(),
    UUIDType: pa.binary(16),
    BinaryType: pa.large_binary(),
}

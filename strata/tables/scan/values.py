"""Parse filter values from their wire form: JSON scalars, and strings with a type prefix.

``__datetime__:``, ``__timestamp__:`` and ``__timestamptz__:`` carry ISO 8601 with up to nine fraction digits,
``__date__:`` and ``__time__:`` ISO 8601, ``__decimal__:`` a decimal number, ``__uuid__:`` a UUID,
``__bytes__:`` and ``__binary__:`` base64, ``__int__:`` and ``__float__:`` numbers too wide for JSON, and
``__str__:`` any text, for strings that themselves look like a prefixed value.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import math
import re
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import attrs
import pyarrow as pa
import pyarrow.compute as pc

NANOS_PER_SECOND = 1_000_000_000
_PREFIX = re.compile(r"__([a-z0-9_]+?)__:(.*)", re.DOTALL)
_DATETIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|z|[+-]\d{2}:?\d{2}(?::?\d{2})?)?"
)
_TIME = re.compile(r"(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?")
_INTEGER = re.compile(r"[+-]?\d{1,64}")
_PLAIN = r"\A(1[7-9]|2[01])\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?\z"
_PLAIN_UTC = _PLAIN.replace(r"\z", r"Z\z")
_DATETIME_PREFIX = "__datetime__:"
_MOMENT = {False: "timestamp", True: "timestamptz"}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MIDNIGHT = "24"  # an hour that Python reads from 3.14 on, as a time even as 00:00 of the same day


class ValueFormatError(ValueError):
    """A filter value is malformed; the message never repeats the value."""


@attrs.frozen
class Timestamp:
    """A point in time, exact to the nanosecond.

    Attributes:
        nanos: Nanoseconds since 1970-01-01T00:00:00; in UTC when ``zoned``, else in local time.
        zoned: Whether an offset was given (Iceberg ``timestamptz``) or not (``timestamp``).
    """

    nanos: int
    zoned: bool

    def __repr__(self) -> str:  # twice as fast as the generated one; 10,000 of them are a cache's key
        return f"Timestamp(nanos={self.nanos}, zoned={self.zoned})"

    @classmethod
    def from_datetime(cls, moment: dt.datetime) -> Timestamp:
        """Return the same point in time; an aware ``moment`` is converted to UTC."""
        zoned = moment.utcoffset() is not None
        since = (moment if zoned else moment.replace(tzinfo=dt.UTC)) - _EPOCH
        micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        return cls(micros * 1_000, zoned)


Value = bool | int | float | str | bytes | Decimal | dt.date | dt.time | uuid.UUID | Timestamp


def parse_value(raw: object) -> Value:
    """Convert one JSON value to a typed value.

    Raises:
        ValueFormatError: For null, containers, NaN and malformed prefixed strings.
    """
    if isinstance(raw, str):
        match = _PREFIX.fullmatch(raw)
        if match is None:
            return raw
        parser = _PARSERS.get(match.group(1))
        if parser is None:
            raise ValueFormatError("has an unknown type prefix; write a literal string as __str__:…")
        return parser(match.group(2))
    if isinstance(raw, dt.datetime):
        return Timestamp.from_datetime(raw)
    if isinstance(raw, float):
        return _not_nan(raw)
    if isinstance(raw, (bool, int, bytes, Decimal, dt.date, dt.time, uuid.UUID, Timestamp)):
        return raw
    if raw is None:
        raise ValueFormatError("is null; use the operators 'is null' and 'is not null'")
    raise ValueFormatError("must be a single value")


def parse_values(raw: Sequence[object]) -> tuple[Value, ...] | None:
    """Convert many JSON values at once, as :func:`parse_value` does one after the other.

    Returns None for a list that takes a look at each value: one of other types than integers, texts without
    a prefix, or dates and times of one common form.
    """
    kinds = set(map(type, raw))
    if kinds == {int}:
        return tuple(cast("Sequence[int]", raw))
    if kinds != {str}:
        return None
    texts = cast("Sequence[str]", raw)
    if not any(text.startswith("__") for text in texts):
        return tuple(texts)
    if not all(text.startswith(_DATETIME_PREFIX) for text in texts):
        return None
    return _parse_moments([text[len(_DATETIME_PREFIX) :] for text in texts])


def _parse_moments(texts: Sequence[str]) -> tuple[Timestamp, ...] | None:
    """Parse dates and times with Arrow, which does not hold the interpreter; None if one is not plain.

    Plain ones are in UTC or without an offset, all alike, and of a year of which nanoseconds have 64 bits.
    """
    try:
        found = pa.array(texts, pa.string())
        zoned = texts[0].endswith("Z")
        pattern = _PLAIN_UTC if zoned else _PLAIN
        if not pc.all(pc.match_substring_regex(found, pattern)).as_py():
            return None
        nanos = pc.cast(found, pa.timestamp("ns", "UTC" if zoned else None))
    except (ValueError, UnicodeEncodeError):
        return None  # a day that does not exist, for instance: the caller finds which
    numbers = memoryview(nanos.buffers()[1]).cast("q")[: len(texts)].tolist()
    return tuple([Timestamp(number, zoned) for number in numbers])


def canonical_values(values: Sequence[Value]) -> list[list[str]]:
    """Return the distinct canonical values of a list, sorted.

    Raises:
        TypeError: If one is no filter value.
    """
    kinds = set(map(type, values))
    if kinds == {int}:
        return [["int", text] for text in sorted(set(map(str, values)))]
    if kinds == {Timestamp}:
        moments = {(_MOMENT[value.zoned], str(value.nanos)) for value in cast("Sequence[Timestamp]", values)}
        return [list(one) for one in sorted(moments)]
    return [list(one) for one in sorted({tuple(canonical_value(value)) for value in values})]


def canonical_value(value: Value) -> list[str]:
    """Return ``[type, text]``, different for any two values that some column tells apart.

    Raises:
        TypeError: If ``value`` is no filter value.
    """
    if isinstance(value, dt.datetime):
        value = Timestamp.from_datetime(value)
    if isinstance(value, Timestamp):
        return [_MOMENT[value.zoned], str(value.nanos)]
    # bool precedes int, its base class.
    for kind, (name, write) in _FORMS.items():
        if isinstance(value, kind):
            return [name, write(value)]
    raise TypeError("no filter value")


def parse_timestamp(text: str) -> Timestamp:
    """Parse ISO 8601 with up to nine fraction digits; ``fromisoformat`` would drop three.

    Raises:
        ValueFormatError: If the text has another form or names no existing time.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueFormatError("is not an ISO 8601 date and time")
    date, hour, minute, second, fraction, zone = match.groups()
    if hour == _MIDNIGHT:
        raise ValueFormatError("is not an existing date and time")
    try:
        moment = dt.datetime.fromisoformat(f"{date}T{hour}:{minute}:{second or '00'}{_offset(zone)}")
        whole = Timestamp.from_datetime(moment)
    except (ValueError, OverflowError):
        raise ValueFormatError("is not an existing date and time") from None
    return Timestamp(whole.nanos + int((fraction or "0").ljust(9, "0")), whole.zoned)


def parse_date(text: str) -> dt.date:
    """Parse ``YYYY-MM-DD``; raises :class:`ValueFormatError` for another form or no existing date."""
    if _DATE.fullmatch(text) is None:
        raise ValueFormatError("is not a date of the form YYYY-MM-DD")
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ValueFormatError("is not an existing date") from None


def parse_time(text: str) -> dt.time:
    """Parse ``HH:MM[:SS[.ffffff]]`` without offset; raises :class:`ValueFormatError` for anything else."""
    if _TIME.fullmatch(text) is None:
        raise ValueFormatError("is not a time of the form HH:MM:SS.ffffff")
    if text.startswith(_MIDNIGHT):
        raise ValueFormatError("is not an existing time")
    try:
        return dt.time.fromisoformat(text)
    except ValueError:
        raise ValueFormatError("is not an existing time") from None


def parse_decimal(text: str) -> Decimal:
    """Parse a finite decimal number; raises :class:`ValueFormatError` for anything else."""
    if len(text) > 256 or _DECIMAL.fullmatch(text) is None:  # noqa: PLR2004 - Iceberg decimals have 38 digits
        raise ValueFormatError("is not a decimal number")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueFormatError("is not a decimal number") from None


def parse_uuid(text: str) -> uuid.UUID:
    """Parse the 36- or 32-character form; raises :class:`ValueFormatError` for anything else."""
    try:
        if len(text) not in {32, 36}:
            raise ValueError  # noqa: TRY301 - braces and urn: prefixes are not accepted
        return uuid.UUID(text)
    except ValueError:
        raise ValueFormatError("is not a UUID") from None


def _parse_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueFormatError("is not base64") from None


def _parse_int(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise ValueFormatError("is not an integer")
    return int(text)


def _parse_float(text: str) -> float:
    try:
        return _not_nan(float(text))
    except ValueFormatError:
        raise
    except ValueError:
        raise ValueFormatError("is not a number") from None


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueFormatError("is NaN, which no row equals, precedes or follows")
    return value


def _parse_zoned(text: str) -> Timestamp:
    stamp = parse_timestamp(text)
    if not stamp.zoned:
        raise ValueFormatError("needs an offset from UTC")
    return stamp


def _parse_unzoned(text: str) -> Timestamp:
    stamp = parse_timestamp(text)
    if stamp.zoned:
        raise ValueFormatError("must not have an offset from UTC")
    return stamp


def _offset(zone: str | None) -> str:
    return "+00:00" if zone in {"Z", "z"} else zone or ""


_PARSERS: dict[str, Callable[[str], Value]] = {
    "datetime": parse_timestamp,
    "timestamp": _parse_unzoned,
    "timestamptz": _parse_zoned,
    "date": parse_date,
    "time": parse_time,
    "decimal": parse_decimal,
    "uuid": parse_uuid,
    "bytes": _parse_bytes,
    "binary": _parse_bytes,
    "int": _parse_int,
    "float": _parse_float,
    "str": str,
}

_FORMS: dict[type, tuple[str, Callable[[Any], str]]] = {
    bool: ("bool", str),
    int: ("int", str),
    float: ("float", float.hex),
    str: ("str", str),
    bytes: ("bytes", bytes.hex),
    Decimal: ("decimal", str),
    dt.date: ("date", dt.date.isoformat),
    dt.time: ("time", dt.time.isoformat),
    uuid.UUID: ("uuid", str),
}

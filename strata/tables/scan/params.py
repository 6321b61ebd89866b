"""Parse the parameters of a scan strictly, and put them into a canonical form."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeGuard

import attrs

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.scan.values import (
    NANOS_PER_SECOND,
    Timestamp,
    Value,
    ValueFormatError,
    canonical_value,
    canonical_values,
    parse_value,
    parse_values,
)

COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})
MEMBERSHIPS = frozenset({"in", "not in"})
NULL_CHECKS = frozenset({"is null", "is not null"})
OPERATORS = COMPARISONS | MEMBERSHIPS | NULL_CHECKS
_KEYS = frozenset({"columns", "filters", "snapshot_id", "ref", "as_of", "limit"})
_FILTER_KEYS = frozenset({"column", "op", "value"})
_LOC = ("body", "transform", "params")

MAX_COLUMNS = 10_000
"""Maximum columns that a scan names; more are refused, since each is looked up."""

MAX_CONDITIONS = 1_000
"""Maximum filters of a scan; more are refused, as above."""

MAX_VALUES = 10_000
"""Maximum members of all ``in`` and ``not in`` lists of a scan together; more are refused, as above."""

MAX_VALUE_BYTES = 16 * 1024
"""Maximum bytes of one filter value, of a text in UTF-8; a larger one is refused. Values are kept with every
result, and compared with every row group."""

MAX_VALUES_BYTES = 512 * 1024
"""Maximum bytes of all filter values of a scan together; more are refused. 10,000 values of 50 bytes fit."""

_SCALAR_BYTES = 16

WIDE = 256
"""Columns, filters and values beyond which parsing and resolving a scan takes longer than the event loop may;
a text counts for each :data:`_CHARACTERS` of it."""

MANY = 64
"""Values of a list from which they are parsed at once."""

_CHARACTERS = 64
_MAX_SNAPSHOT_ID = 2**63 - 1
_MAX_LIMIT = 2**63 - 1
_DIGITS = re.compile("[0-9]{1,19}", re.ASCII)
_NANOS_PER_MICRO = 1_000


@attrs.frozen
class Filter:
    """One condition on a column; all filters of a scan hold for every row of its result.

    Attributes:
        column: Full name; a field of a struct is ``struct.field``.
        op: One of :data:`OPERATORS`.
        value: A typed value (:data:`strata.tables.scan.values.Value`); a tuple of them for ``in`` and
            ``not in``; ``None`` for the null checks.
    """

    column: str
    op: str
    value: object = None


@attrs.frozen
class ScanSpec:
    """The part of a table to read.

    Attributes:
        columns: Names in the order of the result; ``None``: all columns; ``()``: none, only a row count.
        filters: AND-ed conditions.
        snapshot_id: Read this snapshot.
        ref: Read the current snapshot of this branch or tag.
        as_of: Read the snapshot that was current at this time (timezone-aware).
        limit: Return at most this number of rows, the first in the order of the table's files; ``None``: all.
    """

    columns: tuple[str, ...] | None = None
    filters: tuple[Filter, ...] = ()
    snapshot_id: int | None = None
    ref: str | None = None
    as_of: dt.datetime | None = None
    limit: int | None = None

    def canonical(self) -> dict[str, Any]:
        """Return a JSON-serialisable form, equal for two specs only if they are equivalent for every table.

        The order of filters and of the members of ``in`` does not count; the types of values do (1, "1" and
        1.0 differ).
        """
        forms = [_canonical_filter(condition) for condition in self.filters]
        if len(forms) > 1:  # distinct and in order; the text of one alone is not needed
            distinct = {json.dumps(form, sort_keys=True): form for form in forms}
            forms = [distinct[key] for key in sorted(distinct)]
        # Left out where there is none, so that results of before there were limits keep their identity.
        limit = {} if self.limit is None else {"limit": self.limit}
        return limit | {
            "columns": None if self.columns is None else list(self.columns),
            "filters": forms,
            "snapshot_id": self.snapshot_id,
            "ref": self.ref,
            "as_of": None if self.as_of is None else str(Timestamp.from_datetime(self.as_of).nanos),
        }


def is_wide(params: Mapping[str, object]) -> bool:
    """Test whether parameters, of whatever form, have more than :data:`WIDE` columns, filters and values."""
    columns, filters = params.get("columns"), params.get("filters")
    columns = columns if isinstance(columns, (list, tuple)) else ()
    filters = filters if isinstance(filters, (list, tuple)) else ()
    if len(columns) + len(filters) > WIDE:
        return True
    width = len(filters)
    for item in columns:
        width += _width(item)
    for item in filters:
        if isinstance(item, Mapping):
            width += _width(item.get("value"))
            if width > WIDE:
                return True
    return width > WIDE


def _width(value: object) -> int:
    """Return how many values a value is, of which a long text is several; no more than are worth counting."""
    if isinstance(value, str):
        return 1 + len(value) // _CHARACTERS
    if not isinstance(value, (list, tuple)):
        return 1
    if len(value) > WIDE:
        return len(value)
    return len(value) + sum(len(item) // _CHARACTERS for item in value if isinstance(item, str))


def parse_scan_params(params: Mapping[str, object]) -> ScanSpec | Refused:
    """Parse ``transform.params`` of ``scan@v1``.

    Returns a refusal, with the location in the body: BAD_REQUEST for unknown keys, wrong types, and more
    columns, filters or values than allowed; UNPROCESSABLE for a limit that is no number of rows; TOO_LARGE
    for values of more than :data:`MAX_VALUE_BYTES` or :data:`MAX_VALUES_BYTES`.
    """
    try:
        _refuse_unknown(params, _KEYS, ())
        spec = ScanSpec(
            columns=_parse_columns(params.get("columns")),
            filters=_parse_filters(params.get("filters")),
            snapshot_id=_parse_snapshot_id(params.get("snapshot_id")),
            ref=_parse_ref(params.get("ref")),
            as_of=_parse_as_of(params.get("as_of")),
            limit=_parse_limit(params["limit"]) if "limit" in params else None,
        )
        chosen = [name for name in ("snapshot_id", "ref", "as_of") if getattr(spec, name) is not None]
        if len(chosen) > 1:
            _refuse(f"{' and '.join(chosen)} exclude each other", chosen[-1])
    except RefusalError as refusal:
        return refusal.refused
    return spec


def _parse_columns(raw: object) -> tuple[str, ...] | None:
    if raw is None:
        return None
    if not _is_list(raw):
        _refuse("columns must be a list of names", "columns")
    if len(raw) > MAX_COLUMNS:
        _refuse(f"more than {MAX_COLUMNS} columns", "columns")
    names: dict[str, None] = {}
    for index, name in enumerate(raw):
        if not isinstance(name, str) or not name:
            _refuse("a column name must be a non-empty string", "columns", index)
        if name in names:
            _refuse("a column is named twice", "columns", index)
        names[name] = None
    return tuple(names)


def _parse_filters(raw: object) -> tuple[Filter, ...]:
    if raw is None:
        return ()
    if not _is_list(raw):
        _refuse("filters must be a list", "filters")
    if len(raw) > MAX_CONDITIONS:
        _refuse(f"more than {MAX_CONDITIONS} filters", "filters")
    values = [item.get("value") if isinstance(item, Mapping) else None for item in raw]
    if sum(len(value) for value in values if _is_list(value)) > MAX_VALUES:
        _refuse(f"more than {MAX_VALUES} values in the lists of all filters", "filters")
    _check_bytes(values)
    return tuple(_parse_filter(item, index) for index, item in enumerate(raw))


def _check_bytes(values: Sequence[object]) -> None:
    """Refuse filter values that are too large, of which each is a value or a list of values."""
    total = 0
    for index, value in enumerate(values):
        for one in value if _is_list(value) else (value,):
            size = _bytes_of(one)
            if size > MAX_VALUE_BYTES:
                _refuse_large(
                    f"A filter value has more than {MAX_VALUE_BYTES} bytes.", "filters", index, "value"
                )
            total += size
    if total > MAX_VALUES_BYTES:
        _refuse_large(f"The filter values have more than {MAX_VALUES_BYTES} bytes in all.", "filters")


def _bytes_of(value: object) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    return value.bit_length() // 8 if isinstance(value, int) else _SCALAR_BYTES


def _parse_filter(raw: object, index: int) -> Filter:
    if not isinstance(raw, Mapping):
        _refuse("a filter must be an object with column, op and value", "filters", index)
    _refuse_unknown(raw, _FILTER_KEYS, ("filters", index))
    column, op, value = raw.get("column"), raw.get("op"), raw.get("value")
    if not isinstance(column, str) or not column:
        _refuse("the column of a filter must be a non-empty string", "filters", index, "column")
    if not isinstance(op, str) or op not in OPERATORS:
        _refuse(f"op must be one of {', '.join(sorted(OPERATORS))}", "filters", index, "op")
    if op in NULL_CHECKS:
        if value is not None:
            _refuse(f"'{op}' takes no value", "filters", index, "value")
        return Filter(column, op)
    if op in MEMBERSHIPS:
        if not _is_list(value):
            _refuse(f"'{op}' takes a list of values", "filters", index, "value")
        members = parse_values(value) if len(value) >= MANY else None
        if members is None:
            members = tuple(_parse_one(item, "filters", index, "value", at) for at, item in enumerate(value))
        return Filter(column, op, members)
    return Filter(column, op, _parse_one(value, "filters", index, "value"))


def _parse_one(raw: object, *loc: str | int) -> Value:
    try:
        return parse_value(raw)
    except ValueFormatError as error:
        _refuse(f"the filter value {error}", *loc)


def _parse_snapshot_id(raw: object) -> int | None:
    if raw is None:
        return None
    if isinstance(raw, str) and _DIGITS.fullmatch(raw):  # JavaScript's numbers have 53 bits
        raw = int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= _MAX_SNAPSHOT_ID:
        _refuse("snapshot_id must be a 64-bit integer, or its digits as a text", "snapshot_id")
    return raw


def _parse_ref(raw: object) -> str | None:
    if raw is not None and not (isinstance(raw, str) and raw):
        _refuse("ref must be the name of a branch or tag", "ref")
    return raw


def _parse_as_of(raw: object) -> dt.datetime | None:
    if raw is None:
        return None
    try:
        stamp = parse_value(raw)
        if isinstance(stamp, str):
            stamp = parse_value(f"__datetime__:{stamp}")
    except ValueFormatError as error:
        _refuse(f"as_of {error}", "as_of")
    if not isinstance(stamp, Timestamp) or not stamp.zoned:
        _refuse("as_of must be an ISO 8601 date and time with an offset from UTC", "as_of")
    # Snapshot times are in milliseconds: fractions of a microsecond cannot select another snapshot.
    seconds, rest = divmod(stamp.nanos, NANOS_PER_SECOND)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    try:
        return epoch + dt.timedelta(seconds=seconds, microseconds=rest // _NANOS_PER_MICRO)
    except OverflowError:  # within the years 1 to 9999 in its own offset, but not in UTC
        _refuse("as_of is outside the years 1 to 9999 in UTC", "as_of")


def _parse_limit(raw: object) -> int | None:
    if raw is None:
        return None
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= _MAX_LIMIT:
        detail = f"Bad scan parameter: limit must be a whole number of rows from 0 to {_MAX_LIMIT}"
        raise RefusalError(Refused(Reason.UNPROCESSABLE, detail, loc=(*_LOC, "limit")))
    return raw


def _canonical_filter(condition: Filter) -> dict[str, Any]:
    value: Any = None
    if condition.op in MEMBERSHIPS:
        members: Sequence[Value] = condition.value  # type: ignore[assignment]  # the parser made it a tuple
        value = canonical_values(members)
    elif condition.op in COMPARISONS:
        value = canonical_value(condition.value)  # type: ignore[arg-type]  # the parser typed it
    return {"column": condition.column, "op": condition.op, "value": value}


def _is_list(raw: object) -> TypeGuard[Sequence[object]]:
    return isinstance(raw, Sequence) and not isinstance(raw, (str, bytes))


def _refuse_unknown(given: Mapping[str, object], known: frozenset[str], loc: tuple[str | int, ...]) -> None:
    unknown = sorted(str(key) for key in given if key not in known)
    if unknown:
        # Truncated: the key is the caller's text.
        _refuse(f"unknown parameter {unknown[0][:64]!r}; known are {', '.join(sorted(known))}", *loc)


def _refuse_large(detail: str, *loc: str | int) -> NoReturn:
    refused = Refused(Reason.TOO_LARGE, detail, "filter_values_too_large", loc=(*_LOC, *loc))
    raise RefusalError(refused)


def _refuse(why: str, *loc: str | int) -> NoReturn:
    raise RefusalError(Refused(Reason.BAD_REQUEST, f"Bad scan parameter: {why}", loc=(*_LOC, *loc)))

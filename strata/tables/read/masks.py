"""Mask columns as a REST catalog demands (Iceberg REST catalog specification, ``ReadRestrictions``).

Each action gives a value of its column's own type; a null stays null, except under ``mask-to-fixed-value``.
"""

from __future__ import annotations

import hashlib
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import IcebergType, NestedField, StructType

from strata.tables.scan.read_restrictions import Masking
from strata.tables.scan.schema_index import Columns

FIXED_TEXT = "XXXXXXXX"
"""What ``mask-to-fixed-value`` makes of a text; of any other type, the zero of its representation."""

_SHOWN = 4
_DIGIT, _HIDDEN = "[0-9]", r"[^0-9(),.\-@]"
_INT_BYTES, _LONG_BYTES = 4, 8
_DAYS_PER_ERA, _YEARS_PER_ERA = 146_097, 400


@attrs.frozen
class Masks:
    """Applies the masks of a scan.

    Attributes:
        masking: The masks.
    """

    masking: Masking

    def apply(self, batch: pa.RecordBatch, schema: Columns) -> pa.RecordBatch:
        """Return a batch with its fields masked; its columns are those of ``schema``, in order."""
        if not batch.num_columns:
            return batch
        columns = [
            self._masked(column, field) for column, field in zip(batch.columns, schema.fields, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _masked(self, array: Any, field: NestedField) -> Any:
        action = self.masking.actions.get(field.field_id)
        if action is not None:
            return self._act(action, array)
        if not isinstance(field.field_type, StructType) or not self._touches(field.field_type):
            return array
        kinds = [array.type.field(at) for at in range(array.type.num_fields)]
        children = [self._masked(array.field(at), child) for at, child in enumerate(field.field_type.fields)]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=kinds, mask=mask)

    def _touches(self, struct: IcebergType) -> bool:
        return isinstance(struct, StructType) and any(
            field.field_id in self.masking.actions or self._touches(field.field_type)
            for field in struct.fields
        )

    def _act(self, action: str, array: Any) -> Any:
        match action:
            case "mask-alphanum":
                return _redacted(array)
            case "show-first-4":
                first, rest = (
                    pc.utf8_slice_codeunits(array, 0, _SHOWN),
                    pc.utf8_slice_codeunits(array, _SHOWN, None),
                )
                return _joined(first, _redacted(rest), array.type)
            case "show-last-4":
                first = pc.utf8_slice_codeunits(array, 0, -_SHOWN)
                return _joined(_redacted(first), pc.utf8_slice_codeunits(array, -_SHOWN, None), array.type)
            case "replace-with-null":
                return pa.nulls(len(array), array.type)
            case "mask-to-fixed-value":
                return fixed_values(array.type, len(array))
            case "truncate-to-year":
                return _truncated(array, months=False)
            case "truncate-to-month":
                return _truncated(array, months=True)
            case "sha-256-global":
                return _hashed(array, b"")
            case "sha-256-query-local":
                return _hashed(array, self.masking.salt)
        raise AssertionError(f"an action that was not refused: {action}")


def _redacted(array: Any) -> Any:
    hidden = pc.replace_substring_regex(array, pattern=_HIDDEN, replacement="x")
    return pc.replace_substring_regex(hidden, pattern=_DIGIT, replacement="n")


def _joined(first: Any, last: Any, kind: Any) -> Any:
    return pc.binary_join_element_wise(first, last, pa.scalar("", kind))


def fixed_values(kind: Any, length: int) -> Any:
    """Return an array of the value that conceals any value of an Arrow type, none of them null."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(fixed_values(kind.storage_type, length))
    if pa.types.is_struct(kind):
        children = [fixed_values(kind.field(at).type, length) for at in range(kind.num_fields)]
        if not children:
            return pa.Array.from_buffers(kind, length, [None])
        return pa.StructArray.from_arrays(children, fields=[kind.field(at) for at in range(kind.num_fields)])
    if pa.types.is_nested(kind):
        return pa.array([[]] * length, kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        value: Any = FIXED_TEXT
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        value = b""
    else:  # of fixed width, with zeros in every bit
        zeros = pa.py_buffer(bytes((length * kind.bit_width + 7) // 8))
        return pa.Array.from_buffers(kind, length, [None, zeros])
    return pa.repeat(pa.scalar(value, kind), length)


def _truncated(array: Any, *, months: bool) -> Any:
    """Cut dates and times to their month or year, in UTC, in all years that 64 bits hold."""
    kind = array.type
    is_date = pa.types.is_date32(kind)
    least = -(2**31) if is_date else -(2**63)  # of the first year that the type reaches into, it has no start
    per_day = 1 if is_date else 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    memo: dict[int, int] = {}
    found: list[int | None] = []
    for value in array.cast(pa.int32() if is_date else pa.int64()).to_pylist():
        if value is None:
            found.append(None)
            continue
        day = value // per_day
        first = memo.get(day)
        if first is None:
            first = memo[day] = _first_day(day, months=months)
        found.append(max(least, first * per_day))
    return pa.array(found, pa.int32() if is_date else pa.int64()).cast(kind)


def _first_day(day: int, *, months: bool) -> int:
    """Return the first day of the month or year of a day since 1970, in the proleptic Gregorian calendar."""
    era, within = divmod(day + 719_468, _DAYS_PER_ERA)  # from 1 March of year 0
    year = (within - within // 1_460 + within // 36_524 - within // 146_096) // 365
    day_of_year = within - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153  # 0 is March
    if months:
        return day - (day_of_year - (153 * month + 2) // 5)
    # January and February belong to the year before, which began in March.
    calendar_year = era * _YEARS_PER_ERA + year + (month >= 10)  # noqa: PLR2004 - January, as 0 is March
    before = calendar_year - 1
    return 365 * before + before // 4 - before // 100 + before // 400 - 719_162


def _hashed(array: Any, salt: bytes) -> Any:
    kind = array.type
    width = _INT_BYTES if pa.types.is_int32(kind) else _LONG_BYTES if pa.types.is_int64(kind) else 0
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    found: list[Any] = []
    for value in array.to_pylist():
        if value is None:
            found.append(None)
            continue
        data = value.to_bytes(width, "little", signed=True) if width else value.encode() if is_text else value
        digest = hashlib.sha256(salt + data)
        if width:
            found.append(int.from_bytes(digest.digest()[:width], "little", signed=True))
        else:
            found.append(digest.hexdigest() if is_text else digest.digest())
    return pa.array(found, kind)

"""Prune files and row groups by their column statistics.

Statistics that are missing, cannot be decoded or cannot be compared are unknown and prune nothing.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from strata.tables.plan.manifests import Metrics
from strata.tables.scan.constants import normal_constant
from strata.tables.scan.predicates import Predicate, Statistics, might_match, must_match
from strata.tables.scan.values import Timestamp

# Column types whose Parquet statistics are ordered as Iceberg orders the type. Nanosecond timestamps are left
# out: pyarrow returns them as pandas or plain values, depending on whether pandas is installed.
_ORDERED_IN_PARQUET = (
    BooleanType,
    IntegerType,
    LongType,
    FloatType,
    DoubleType,
    DecimalType,
    DateType,
    TimeType,
    TimestampType,
    TimestamptzType,
    StringType,
    BinaryType,
)
_PARQUET_MR = re.compile(r"parquet-mr version (\d+)\.(\d+)")

_WIDENED = ((IntegerType, LongType), (FloatType, DoubleType), (DecimalType, DecimalType))


def metrics_might_match(metrics: Metrics, predicates: Sequence[Predicate], rows: int) -> bool:
    """Test one file by its column statistics; ``False`` if no row can match all predicates.

    Args:
        metrics: The column statistics.
        predicates: The predicates.
        rows: Rows of the file.
    """
    return all(might_match(predicate, _file_statistics(metrics, predicate, rows)) for predicate in predicates)


def has_old_decimal_bounds(created_by: str | None) -> bool:
    """Test whether a file's writer may have ordered the bounds of decimals by their signed bytes.

    parquet-mr did before 1.10, and wrote them to the fields of a footer that Arrow reads for decimals
    (parquet.thrift, "Statistics": ``min`` and ``max`` are in the signed order of the physical type).

    Args:
        created_by: The footer's ``created_by``.
    """
    found = _PARQUET_MR.match(created_by or "")
    return not created_by or (found is not None and (int(found[1]), int(found[2])) < (1, 10))


def metrics_must_match(metrics: Metrics, predicate: Predicate, rows: int) -> bool:
    """Test one file of ``rows`` rows by its statistics; ``True`` only if every row matches the predicate."""
    return must_match(predicate, _file_statistics(metrics, predicate, rows))


def row_group_must_match(
    group: pq.RowGroupMetaData, predicate: Predicate, kind: IcebergType, leaf: int, *, old_decimals: bool
) -> bool:
    """Test one row group as :func:`row_group_might_match` does; ``True`` only if every row matches."""
    statistics = _chunk_statistics(group.column(leaf), kind, predicate.kind, old_decimals=old_decimals)
    return must_match(predicate, statistics)


def row_group_might_match(
    group: pq.RowGroupMetaData,
    predicates: Sequence[tuple[Predicate, IcebergType, int]],
    *,
    old_decimals: bool = False,
) -> bool:
    """Test one row group by the statistics of its column chunks; ``False`` if no row can match.

    Args:
        group: The row group.
        predicates: Triples of a predicate, the column's Iceberg type in the file, and its Parquet leaf index.
        old_decimals: Whether bounds of decimals stored as bytes are unknown (:func:`has_old_decimal_bounds`).
    """
    return all(
        might_match(
            predicate, _chunk_statistics(group.column(leaf), kind, predicate.kind, old_decimals=old_decimals)
        )
        for predicate, kind, leaf in predicates
    )


def decode_bound(kind: IcebergType, bound: bytes | None) -> Any:
    """Decode a bound in Iceberg's single-value serialization; ``None`` if missing, damaged or of a UUID.

    Iceberg's Java library up to 1.10 orders UUIDs by their two signed halves (apache/iceberg, issue 14216).
    """
    if bound is None or not isinstance(kind, PrimitiveType) or isinstance(kind, UUIDType):
        return None
    try:
        return normal_constant(kind, from_bytes(kind, bound))
    except Exception:  # noqa: BLE001 - a bound that cannot be decoded is unknown
        return None


def _file_statistics(metrics: Metrics, predicate: Predicate, rows: int) -> Statistics:
    field_id = predicate.field_id
    values, nulls, nans = (counts.get(field_id) for counts in (metrics.values, metrics.nulls, metrics.nans))
    return Statistics(
        lower=decode_bound(predicate.kind, metrics.lower.get(field_id)),
        upper=decode_bound(predicate.kind, metrics.upper.get(field_id)),
        has_null=_has_null(values, nulls, rows),
        all_null=values is not None and nulls is not None and 0 < values == nulls,
        all_nan=values is not None and nans is not None and 0 < values == nans + (nulls or 0),
        has_nan=None if nans is None else nans > 0,
    )


def _has_null(values: int | None, nulls: int | None, rows: int) -> bool | None:
    """Whether a column has nulls; None: unknown.

    Iceberg's Java library counts the rows of a null struct neither as values nor as nulls of its fields.
    """
    if nulls is None or nulls > 0:
        return None if nulls is None else True
    return False if values == rows else None


def _chunk_statistics(
    chunk: pq.ColumnChunkMetaData, kind: IcebergType, wanted: IcebergType, *, old_decimals: bool
) -> Statistics:
    found = chunk.statistics if chunk.is_stats_set else None
    if found is None:
        return Statistics()
    lower = upper = None
    ordered = isinstance(kind, _ORDERED_IN_PARQUET) and _same_order(kind, wanted)
    if old_decimals and isinstance(kind, DecimalType):
        ordered = chunk.physical_type not in {"BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"}
    if found.has_min_max and ordered:
        lower, upper = _parquet_bound(kind, found), _parquet_bound(kind, found, upper=True)
    nulls = found.null_count if found.has_null_count else None
    return Statistics(
        lower=lower,
        upper=upper,
        has_null=None if nulls is None else nulls > 0,
        all_null=nulls is not None and 0 < chunk.num_values == nulls,
    )


def _same_order(kind: IcebergType, wanted: IcebergType) -> bool:
    """Test whether bounds of the file's type compare with literals of the table's; a date is no timestamp."""
    pair = (type(kind), type(wanted))
    return pair[0] is pair[1] or pair in _WIDENED


def _parquet_bound(kind: IcebergType, found: pq.Statistics, *, upper: bool = False) -> Any:
    try:
        value = found.max if upper else found.min
        if isinstance(kind, (TimestampType, TimestamptzType)):
            # Units finer than microseconds come as a subclass of datetime and count as unknown.
            return Timestamp.from_datetime(value).nanos // 1_000 if type(value) is dt.datetime else None
        return normal_constant(kind, value)
    except (ValueError, OverflowError):
        # A string bound may be cut inside a character, a timestamp exceed Python's years.
        return None

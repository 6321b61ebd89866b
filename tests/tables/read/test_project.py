"""Files of other writers: every Arrow type a column may be stored as, compared with pyiceberg's reader."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa
import pytest
from pyiceberg.exceptions import ResolveError
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from strata.outcomes import Reason, Refused
from strata.tables.read.project import Rows, project_field

MICRO = dt.datetime(2020, 1, 1, 0, 0, 0, 1)  # noqa: DTZ001 - a local time, as Iceberg's timestamp is
LONGS = ListType(2, LongType(), element_required=False)
MAPPING = [{"field-id": 1, "names": ["a"], "fields": [{"field-id": 2, "names": ["element", "b"]}]}]

CASES = {
    "dictionary": (StringType(), pa.array(["x", "y", None, "x"]).dictionary_encode(), {}),
    "string view": (StringType(), pa.array(["x", None], pa.string_view()), {}),
    "large string": (StringType(), pa.array(["x", None], pa.large_string()), {}),
    "large binary": (BinaryType(), pa.array([b"x", None], pa.large_binary()), {}),
    "nanoseconds": (TimestampType(), pa.array([-1000, 1500, None], pa.timestamp("ns")), {}),
    "milliseconds": (TimestampType(), pa.array([-1, 1500, None], pa.timestamp("ms")), {}),
    "zoned nanoseconds": (TimestamptzType(), pa.array([-1000, 1500], pa.timestamp("ns", "UTC")), {}),
    "int96": (TimestampType(), pa.array([MICRO, None]), {"use_deprecated_int96_timestamps": True}),
    "naive as zoned": (TimestamptzType(), pa.array([MICRO, None]), {}),
    "zoned as naive": (TimestampType(), pa.array([MICRO, None], pa.timestamp("us", "UTC")), {}),
    "uint8": (IntegerType(), pa.array([255, None], pa.uint8()), {}),
    "uint32": (LongType(), pa.array([2**32 - 1, None], pa.uint32()), {}),
    "int8 as long": (LongType(), pa.array([-1, None], pa.int8()), {}),
    "half float": (FloatType(), pa.array([1.5, None], pa.float16()), {}),
    "float as double": (DoubleType(), pa.array([0.1, None], pa.float32()), {}),
    "date64": (DateType(), pa.array([86_400_000, None], pa.date64()), {}),
    "fixed": (FixedType(2), pa.array([b"xy", None], pa.binary(2)), {}),
    "uuid": (UUIDType(), pa.array([b"x" * 16, None], pa.uuid()), {}),
    "fixed as uuid": (UUIDType(), pa.array([b"x" * 16, None], pa.binary(16)), {}),
    "decimal in an integer": (
        DecimalType(9, 2),
        pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
        {"store_decimal_as_integer": True},
    ),
    "wider decimal": (DecimalType(20, 2), pa.array([Decimal("1.25"), None], pa.decimal128(5, 2)), {}),
    "large list": (LONGS, pa.array([[1, None], None, []], pa.large_list(pa.int64())), {}),
    "fixed-size list": (LONGS, pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), {}),
    "list of narrower": (LONGS, pa.array([[1], None], pa.list_(pa.int32())), {}),
    "dictionary in a struct": (
        StructType(NestedField(2, "b", StringType(), required=False)),
        pa.StructArray.from_arrays([pa.array(["x", None]).dictionary_encode()], ["b"]),
        {},
    ),
}


def replaced(warehouse, kind, array, **options):
    """Return a table with one data file that another writer wrote, without field ids."""
    schema = Schema(NestedField(1, "a", kind, required=False))
    warehouse.create(schema, properties={"schema.name-mapping.default": json.dumps(MAPPING)})
    warehouse.add_file(pa.table({"a": array}), **options)


@pytest.mark.parametrize("case", CASES)
def test_a_column_stored_as_another_arrow_type_reads_as_the_oracle_reads_it(warehouse, case):
    """Values are equal and have the table's Arrow type, whatever type the file has."""
    kind, array, options = CASES[case]
    replaced(warehouse, kind, array, **options)
    oracle = warehouse.table().scan().to_arrow_batch_reader().read_all()
    ours = warehouse.scan()
    assert repr(oracle.to_pylist()) == repr(ours.to_pylist())
    assert [str(field.type) for field in oracle.schema] == [str(field.type) for field in ours.schema]
    ours.validate(full=True)


NANOS = [-(2**63), -1001, -1000, -1, 0, 999, 2**63 - 1]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_nanoseconds_before_1970_are_cut_towards_the_past(warehouse, zone):
    """As microseconds, -1 ns is -1 µs; pyiceberg's reader makes it 0, which a filter ``< 1970`` would miss."""
    replaced(
        warehouse, TimestamptzType() if zone else TimestampType(), pa.array(NANOS, pa.timestamp("ns", zone))
    )
    assert [nanos // 1000 for nanos in NANOS] == warehouse.scan().column("a").cast(pa.int64()).to_pylist()


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (IntegerType(), pa.array([5], pa.int64())),
        (IntegerType(), pa.array(["5"])),
        (StringType(), pa.array([5])),
        (DecimalType(5, 3), pa.array([Decimal("1.25")], pa.decimal128(5, 2))),
        (DecimalType(5, 2), pa.array([Decimal("1.25")], pa.decimal128(9, 2))),
        (LongType(), pa.array([[5]])),
        (LONGS, pa.array([5])),
        (TimestampType(), pa.array([5], pa.time64("us"))),
    ],
)
def test_a_column_that_cannot_become_the_tables_type_is_refused(warehouse, kind, array):
    """No narrowing, parsing or rescaling."""
    replaced(warehouse, kind, array)
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.UNSUPPORTED is refused.reason
    assert "other-0.parquet does not fit the table's schema: its column 'a' is " in refused.detail


def test_a_required_column_absent_from_a_file_is_an_error_and_not_null():
    """Without a default there is no value to fill in."""
    want = NestedField(1, "a", LongType(), required=True)
    with pytest.raises(ResolveError):
        project_field(None, None, want, pa.int64(), Rows(3))


def test_sliced_nested_arrays_keep_their_values():
    """The offset of a slice counts when a list or map is rebuilt."""
    element = StructType(NestedField(3, "x", IntegerType(), required=False))
    wider = StructType(NestedField(3, "x", LongType(), required=False))
    have = NestedField(1, "l", ListType(2, element, element_required=False), required=False)
    want = NestedField(1, "l", ListType(2, wider, element_required=False), required=False)
    array = pa.array([[{"x": 1}], None, [{"x": 2}, None], []], pa.list_(pa.struct([("x", pa.int32())])))
    kind = pa.large_list(pa.field("element", pa.struct([("x", pa.int64())])))
    for start in range(4):
        part = array.slice(start, 2)
        assert part.to_pylist() == project_field(part, have, want, kind, Rows(len(part))).to_pylist()

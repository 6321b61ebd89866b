"""Schema evolution by field id, name mappings, defaults and partitions, against pyiceberg's reader."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
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
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from strata.tables import parse_scan_params, plan_files, resolve_scan


def optional(field_id, name, kind):
    return NestedField(field_id, name, kind, required=False)


def check(warehouse, **scan):
    """Compare with the oracle, rows and order; returns the rows."""
    oracle = warehouse.table().scan(**scan).to_arrow_batch_reader().read_all()
    ours = warehouse.scan({})
    assert repr(oracle.to_pylist()) == repr(ours.to_pylist())
    assert oracle.schema.names == ours.schema.names
    for theirs, own in zip(oracle.schema, ours.schema, strict=True):
        assert str(theirs.type) == str(own.type)
        assert theirs.nullable == own.nullable
    return ours.to_pylist()


def test_add_drop_rename_reorder_and_widen(warehouse):
    """All evolutions of flat columns at once, over files from before and after each."""
    schema = Schema(
        optional(1, "i", IntegerType()),
        optional(2, "f", FloatType()),
        optional(3, "d", DecimalType(5, 2)),
        optional(4, "gone", StringType()),
        optional(5, "s", StringType()),
    )
    warehouse.create(schema)
    warehouse.append([{"i": 1, "f": 1.5, "d": Decimal("1.25"), "gone": "g", "s": "a"}])
    with warehouse.table().update_schema() as update:
        update.update_column("i", LongType())
        update.update_column("f", DoubleType())
        update.update_column("d", DecimalType(9, 2))
        update.delete_column("gone")
        update.rename_column("s", "text")
        update.add_column("added", DateType())
        update.move_first("added")
    warehouse.append(
        [{"added": dt.date(2024, 1, 2), "i": 1 << 40, "f": 0.1, "d": Decimal("1234567.25"), "text": None}]
    )
    rows = check(warehouse)
    assert ["added", "i", "f", "d", "text"] == list(rows[0])


def test_a_required_column_made_optional_takes_nulls(warehouse):
    """Files of both kinds give one nullable column."""
    warehouse.create(Schema(NestedField(1, "id", LongType(), required=True)))
    table = warehouse.table()
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    table.append(pa.Table.from_pylist([{"id": 1}], schema=schema))
    assert not warehouse.scan({}).schema.field("id").nullable
    with table.update_schema() as update:
        update.make_column_optional("id")
    warehouse.append([{"id": None}])
    assert warehouse.scan({}).schema.field("id").nullable
    check(warehouse)


def test_nested_fields_evolve_by_id_inside_structs_lists_and_maps(warehouse):
    """Added, dropped, renamed, reordered and widened fields at every level; nulls stay nulls."""
    point = StructType(optional(2, "x", IntegerType()), optional(3, "y", StringType()))
    element = StructType(optional(6, "a", IntegerType()), optional(7, "b", FloatType()))
    value = StructType(optional(11, "v", IntegerType()))
    schema = Schema(
        optional(1, "p", point),
        optional(4, "l", ListType(5, element, element_required=False)),
        optional(8, "m", MapType(9, StringType(), 10, value, value_required=False)),
    )
    warehouse.create(schema)
    rows = [
        {"p": {"x": 1, "y": "q"}, "l": [{"a": 1, "b": 0.5}, None], "m": [("k", {"v": 1}), ("n", None)]},
        {"p": None, "l": [], "m": []},
        {"p": {"x": None, "y": None}, "l": [{"a": None, "b": None}], "m": [("k", {"v": None})]},
    ]
    warehouse.append(rows)
    with warehouse.table().update_schema() as update:
        update.update_column(("p", "x"), LongType())
        update.delete_column(("p", "y"))
        update.add_column(("p", "z"), StringType())
        update.move_first(("p", "z"))
        update.rename_column(("l", "element", "a"), "alpha")
        update.update_column(("l", "element", "b"), DoubleType())
        update.add_column(("m", "value", "w"), BooleanType())
    warehouse.append(
        [{"p": {"z": "z", "x": 1 << 40}, "l": [{"alpha": 7, "b": 0.1}], "m": [("k", {"v": 2, "w": True})]}]
    )
    check(warehouse)


def test_a_null_list_of_structs_stays_null_when_its_fields_evolve(warehouse):
    """Rebuilding a list keeps null apart from empty."""
    element = StructType(optional(3, "a", IntegerType()))
    value = StructType(optional(7, "v", IntegerType()))
    warehouse.create(
        Schema(
            optional(1, "l", ListType(2, element, element_required=False)),
            optional(4, "m", MapType(5, StringType(), 6, value, value_required=False)),
        )
    )
    rows = [{"l": None, "m": None}, {"l": [], "m": []}, {"l": [{"a": 1}], "m": [("k", {"v": 1})]}]
    # pyiceberg's writer makes null lists of structs empty, so the file is written as other engines do.
    file_schema = schema_to_pyarrow(warehouse.table().schema())
    warehouse.add_file(pa.Table.from_pylist(rows, schema=file_schema))
    with warehouse.table().update_schema() as update:
        update.add_column(("l", "element", "b"), StringType())
        update.add_column(("m", "value", "w"), StringType())
    assert [None, [], [{"a": 1, "b": None}]] == [row["l"] for row in warehouse.rows()]
    assert [None, [], [("k", {"v": 1, "w": None})]] == [row["m"] for row in warehouse.rows()]


def test_a_struct_that_is_absent_from_a_file_is_null(warehouse):
    """An added struct is null, not a struct of nulls."""
    warehouse.create(Schema(optional(1, "id", LongType())))
    warehouse.append([{"id": 1}])
    with warehouse.table().update_schema() as update:
        update.add_column("s", StructType(optional(3, "a", LongType())))
    warehouse.append([{"id": 2, "s": {"a": 1}}])
    check(warehouse)


def test_files_without_ids_are_read_by_the_name_mapping(warehouse):
    """``add_files`` brings files without field ids; a renamed column still finds its old name."""
    warehouse.create(Schema(optional(1, "id", LongType()), optional(2, "name", StringType())))
    path = warehouse.directory / "bare.parquet"
    pq.write_table(pa.table({"name": ["a", "b"], "id": [1, 2]}), path)
    warehouse.table().add_files([f"file://{path}"])
    with warehouse.table().update_schema() as update:
        update.rename_column("name", "title")
    warehouse.append([{"id": 3, "title": "c"}])
    assert ["c", "a", "b"] == [row["title"] for row in check(warehouse)]


def test_a_changed_name_mapping_changes_the_version_and_the_cache_identity(warehouse):
    """The name mapping decides what a file without ids holds, so both depend on it."""
    warehouse.create(Schema(optional(1, "id", LongType()), optional(2, "name", StringType())))
    fields = ({"field-id": at, "names": [name]} for at, name in ((1, "id"), (2, "%s"), (9, "%s")))
    mapping = json.dumps(list(fields))
    table = warehouse.table()
    with table.transaction() as transaction:
        transaction.set_properties({"schema.name-mapping.default": mapping % ("name", "other")})
    warehouse.add_file(pa.table({"name": ["a"], "other": ["o"], "id": [1]}))
    before, scan = warehouse.plan({}).files[0], warehouse.resolve({})
    assert [{"id": 1, "name": "a"}] == warehouse.rows()
    with warehouse.table().transaction() as transaction:
        transaction.set_properties({"schema.name-mapping.default": mapping % ("other", "name")})
    assert [{"id": 1, "name": "o"}] == warehouse.rows()
    assert before.file_key != warehouse.plan({}).files[0].file_key
    assert scan.version != warehouse.resolve({}).version


def test_columns_missing_from_files_take_their_identity_partition_value(warehouse):
    """Hive-style files leave partition columns out; filters on them work without projecting them."""
    warehouse.create(
        Schema(optional(1, "id", LongType()), optional(2, "day", DateType())),
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day")),
    )
    expected = [{"id": 1, "day": dt.date(2024, 1, 1)}, {"id": 2, "day": dt.date(2024, 1, 2)}]
    field = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})
    for row in expected:
        day = Record((row["day"] - dt.date(1970, 1, 1)).days)
        warehouse.add_file(pa.table([[row["id"]]], schema=pa.schema([field])), partition=day)
    assert expected == sorted(warehouse.rows(), key=lambda row: row["id"])
    assert [2] == warehouse.where("day", "=", "2024-01-02")
    assert [1, 2] == warehouse.where("day", ">", "2023-01-01")


STRINGS = ListType(23, StringType(), element_required=False)
EVERY_TYPE = Schema(
    optional(1, "b", BooleanType()),
    optional(2, "i", IntegerType()),
    optional(3, "l", LongType()),
    optional(4, "f", FloatType()),
    optional(5, "d", DoubleType()),
    optional(6, "n", DecimalType(20, 3)),
    optional(7, "da", DateType()),
    optional(8, "t", TimeType()),
    optional(9, "ts", TimestampType()),
    optional(10, "tz", TimestamptzType()),
    optional(11, "s", StringType()),
    optional(12, "u", UUIDType()),
    optional(13, "fx", FixedType(3)),
    optional(14, "bi", BinaryType()),
    optional(15, "li", ListType(16, LongType(), element_required=False)),
    optional(17, "m", MapType(18, StringType(), 19, DoubleType(), value_required=False)),
    optional(20, "st", StructType(optional(21, "a", FixedType(2)), optional(22, "b", STRINGS))),
)


def naive(*fields):
    """Generate local dates and times, as of an Iceberg ``timestamp``."""
    return dt.datetime(*fields)  # noqa: DTZ001 - without a zone on purpose


def every_type_rows():
    full = {
        "b": True,
        "i": -1,
        "l": 1 << 40,
        "f": 0.1,
        "d": float("inf"),
        "n": Decimal("-12345678901234567.125"),
        "da": dt.date(1960, 2, 29),
        "t": dt.time(1, 2, 3, 4),
        "ts": naive(1960, 1, 1, 0, 0, 0, 1),
        "tz": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "s": "größer",
        "u": b"0123456789abcdef",
        "fx": b"xyz",
        "bi": b"\x00\xff",
        "li": [1, None],
        "m": [("k", 1.0), ("n", None)],
        "st": {"a": b"zz", "b": ["x", None]},
    }
    return [full, dict.fromkeys(full), full]


def test_every_type_reads_as_the_oracle_reads_it(warehouse):
    """Values, nulls and Arrow types of every Iceberg type of version 2."""
    warehouse.create(EVERY_TYPE, row_group=2)
    warehouse.append(every_type_rows())
    check(warehouse)


def test_every_type_absent_from_a_file_is_null(warehouse):
    """Columns added later, of every type."""
    warehouse.create(Schema(optional(1, "id", LongType())))
    warehouse.append([{"id": 1}])
    with warehouse.table().update_schema() as update:
        for field in EVERY_TYPE.fields:
            update.add_column(f"new_{field.name}", field.field_type)
    check(warehouse)


@pytest.mark.parametrize(
    ("source", "transform"),
    [
        ("i", IdentityTransform()),
        ("i", BucketTransform(4)),
        ("i", TruncateTransform(3)),
        ("s", TruncateTransform(1)),
        ("s", BucketTransform(3)),
        ("day", YearTransform()),
        ("day", MonthTransform()),
        ("day", DayTransform()),
        ("ts", DayTransform()),
        ("ts", HourTransform()),
        ("n", BucketTransform(3)),
        ("n", TruncateTransform(50)),
        ("n", IdentityTransform()),
        ("u", BucketTransform(3)),
    ],
)
def test_partition_pruning_loses_no_row_under_any_transform(warehouse, source, transform):
    """Every transform, every operator and several bounds: pruned rows equal those of a filter in Python."""
    schema = Schema(
        optional(1, "id", LongType()),
        optional(2, "i", IntegerType()),
        optional(3, "s", StringType()),
        optional(4, "day", DateType()),
        optional(5, "ts", TimestampType()),
        optional(6, "n", DecimalType(9, 2)),
        optional(7, "u", UUIDType()),
    )
    field_id = schema.find_field(source).field_id
    spec = PartitionSpec(PartitionField(field_id, 1000, transform, "part"))
    warehouse.create(schema, partition_spec=spec)
    rows = [
        {
            "id": at,
            "i": at - 5,
            "s": "äbc"[at % 3] * (at % 4),
            "day": dt.date(1969, 12, 28) + dt.timedelta(days=at * 17),
            "ts": naive(1969, 12, 31, 20, 30) + dt.timedelta(minutes=at * 47),
            "n": Decimal(at * 33 - 150) / 100,
            "u": bytes([at]) * 16,
        }
        for at in range(12)
    ]
    rows.append(dict.fromkeys(rows[0]) | {"id": 12})
    warehouse.append(rows)

    def sent(value):
        match value:
            case Decimal():
                return f"__decimal__:{value}"
            case bytes():
                return f"__uuid__:{uuid.UUID(bytes=value)}"
            case dt.datetime() | dt.date():
                return value.isoformat()
            case _:
                return value

    tests = {
        "=": lambda a, b: a == b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "!=": lambda a, b: a != b,
    }
    for at in (0, 3, 5, 11):
        bound = rows[at][source]
        for op, test in tests.items():
            expected = [row["id"] for row in rows if row[source] is not None and test(row[source], bound)]
            assert expected == warehouse.where(source, op, sent(bound)), (op, bound)
    members = [rows[1][source], rows[7][source]]
    expected = [row["id"] for row in rows if row[source] in members]
    assert expected == warehouse.where(source, "in", [sent(member) for member in members])
    assert [12] == warehouse.where(source, "is null")


def test_partition_pruning_reads_fewer_files(warehouse):
    """Pruning takes effect: fewer files are read."""
    warehouse.create(
        Schema(optional(1, "id", LongType())),
        partition_spec=PartitionSpec(PartitionField(1, 1000, TruncateTransform(10), "tens")),
    )
    warehouse.append([{"id": at} for at in range(0, 100, 5)])
    plan = warehouse.plan({"filters": [{"column": "id", "op": "<", "value": 20}]})
    assert 2 == len(plan.files)
    assert 10 == len(warehouse.plan({}).files)


def test_the_partition_spec_may_change_even_to_a_dropped_column(warehouse):
    """Files of an old spec with a dropped source column are read and filtered."""
    warehouse.create(
        Schema(optional(1, "id", LongType()), optional(2, "k", StringType())),
        partition_spec=PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "k")),
    )
    warehouse.append([{"id": 1, "k": "a"}, {"id": 2, "k": "b"}])
    with warehouse.table().update_spec() as update:
        update.remove_field("k")
    with warehouse.table().update_schema() as update:
        update.delete_column("k")
    warehouse.append([{"id": 3}])
    assert [1, 2, 3] == sorted(row["id"] for row in warehouse.rows())
    assert [3] == warehouse.where("id", ">", 2)


def test_an_initial_default_fills_files_from_before_the_column(warehouse):
    """Filters use the initial default (version 3), not null."""
    warehouse.create(Schema(optional(1, "id", LongType())))
    warehouse.append([{"id": 1}])
    scan = warehouse.resolve({})
    added = [
        NestedField(2, "n", LongType(), required=True, initial_default=7),
        NestedField(3, "s", StringType(), required=False, initial_default="dflt"),
    ]
    schema = Schema(*scan.table.metadata.schema().fields, *added, schema_id=99)
    metadata = scan.table.metadata.model_copy(
        update={"schemas": [*scan.table.metadata.schemas, schema], "current_schema_id": 99}
    )
    table = attrs.evolve(scan.table, metadata=metadata)

    def rows(params):
        return warehouse.run(plan_files(resolve_scan(table, parse_scan_params(params)))).to_pylist()

    assert [{"id": 1, "n": 7, "s": "dflt"}] == rows({})
    assert 1 == len(rows({"filters": [{"column": "n", "op": "=", "value": 7}]}))
    assert [] == rows({"filters": [{"column": "s", "op": "is null"}]})
    assert [] == rows({"filters": [{"column": "n", "op": "<", "value": 7}]})

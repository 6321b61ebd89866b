"""Data files as other engines write them: the specification's values, where pyiceberg's reader has others."""

from __future__ import annotations

import datetime as dt
import json
import struct
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from strata.outcomes import Reason, Refused

MAPPING = "schema.name-mapping.default"
EPOCH_JULIAN = 2440588
"""The Julian day of 1970-01-01 (Parquet format, "INT96")."""


def optional(field_id: int, name: str, kind: IcebergType) -> NestedField:
    return NestedField(field_id, name, kind, required=False)


ID = optional(1, "id", LongType())


def with_ids(data: pa.Table) -> pa.Table:
    """Number the columns from 1, as ids of the file."""
    fields = [field.with_metadata({"PARQUET:field_id": str(at)}) for at, field in enumerate(data.schema, 1)]
    return pa.table(data.columns, schema=pa.schema(fields))


def mapped(warehouse, *fields: NestedField, mapping: object = None) -> None:
    """Create a table whose name mapping is that of its own schema, or another one."""
    table = warehouse.create(Schema(*fields))
    text = table.schema().name_mapping.model_dump_json() if mapping is None else json.dumps(mapping)
    with table.transaction() as change:
        change.set_properties({MAPPING: text})


# -- INT96


def int96_file(warehouse, moments: list[tuple[int, int]]) -> None:
    """Append a file of INT96 timestamps as Spark and Hive write it.

    pyarrow cannot write those beyond its nanoseconds: it writes marks, which are replaced in the file.

    Args:
        warehouse: Its table ``t`` has the columns ``id`` and ``at``.
        moments: Days since 1970 and nanoseconds of the day.
    """
    marks = pa.array(range(1, len(moments) + 1), pa.timestamp("ns"))
    path = warehouse._new_path("t", "parquet")
    local = Path(path.removeprefix("file://"))
    options = {"use_deprecated_int96_timestamps": True, "compression": "none", "use_dictionary": False}
    data = with_ids(pa.table({"id": range(len(moments)), "at": marks}))
    pq.write_table(data, local, write_statistics=False, **options)
    content = local.read_bytes()
    for mark, (day, nanos) in enumerate(moments, 1):
        old = struct.pack("<qi", mark, EPOCH_JULIAN)
        assert 1 == content.count(old)
        content = content.replace(old, struct.pack("<qi", nanos, EPOCH_JULIAN + day))
    local.write_bytes(content)
    warehouse.commit_file(path)


DAY_MICROS = 86_400_000_000
MOMENTS = {
    "1500-01-01": ((-171_655, 0), -171_655 * DAY_MICROS),
    "0001-01-01": ((-719_162, 0), -719_162 * DAY_MICROS),
    "a nanosecond before 1970": ((-1, 86_399_999_999_999), -1),
    "2024-01-01T00:00:00.000001999": ((19_723, 1_999), 19_723 * DAY_MICROS + 1),
    "9999-12-31": ((2_932_896, 0), 2_932_896 * DAY_MICROS),
}


@pytest.mark.parametrize("kind", [TimestampType(), TimestamptzType()], ids=str)
def test_int96_timestamps_are_what_their_bytes_say(warehouse, kind):
    """In all years, cut to microseconds towards the past; as nanoseconds they wrap before 1677, after 2262."""
    warehouse.create(Schema(ID, optional(2, "at", kind)))
    int96_file(warehouse, [moment for moment, _ in MOMENTS.values()])
    right = [micros for _, micros in MOMENTS.values()]
    assert right == warehouse.scan().column("at").cast(pa.int64()).to_pylist()
    zone = "+00:00" if kind == TimestamptzType() else ""
    assert [4] == warehouse.where("at", ">=", f"9999-12-31T00:00:00{zone}")
    assert [0, 1] == warehouse.where("at", "<", f"1600-01-01T00:00:00{zone}")
    assert [2] == warehouse.where("at", "=", f"1969-12-31T23:59:59.999999{zone}")


def test_statistics_of_int96_prune_nothing(warehouse):
    """Their order is not defined; writers that keep them mean bytes."""
    warehouse.create(Schema(ID, optional(2, "at", TimestampType())))
    moments = pa.array([dt.datetime(2024, 1, at) for at in (1, 2, 3)], pa.timestamp("us"))  # noqa: DTZ001
    data = with_ids(pa.table({"id": [1, 2, 3], "at": moments}))
    warehouse.add_file(data, use_deprecated_int96_timestamps=True, row_group_size=1)
    assert [2] == warehouse.where("at", "=", "2024-01-02T00:00:00")
    assert [1] == warehouse.where("at", "<", "2024-01-02T00:00:00")
    assert [] == warehouse.where("at", "is null")


# -- hints of Arrow's types


MOMENT = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
HINTS = {
    "New York": (TimestamptzType(), pa.timestamp("us", "America/New_York"), MOMENT),
    "an offset": (TimestamptzType(), pa.timestamp("us", "+02:00"), MOMENT),
    "milliseconds of Berlin": (TimestamptzType(), pa.timestamp("ms", "Europe/Berlin"), MOMENT),
    "decimal32": (DecimalType(5, 2), pa.decimal32(5, 2), Decimal("1.25")),
    "decimal64": (DecimalType(12, 2), pa.decimal64(12, 2), Decimal("1.25")),
    "JSON": (StringType(), pa.json_(pa.string()), '{"a": 1}'),
    "duration": (LongType(), pa.duration("us"), 5),
    "list view": (ListType(2, LongType(), element_required=False), pa.list_view(pa.int64()), [1, None]),
    "large list view": (
        ListType(2, LongType(), element_required=False),
        pa.large_list_view(pa.int64()),
        [1, None],
    ),
    "decimal32 in a struct": (
        StructType(optional(2, "element", DecimalType(5, 2))),
        pa.struct([("element", pa.decimal32(5, 2))]),
        {"element": Decimal("1.25")},
    ),
}
NAMES = [{"field-id": 1, "names": ["x"], "fields": [{"field-id": 2, "names": ["element"]}]}]


def hinted(kind: pa.DataType, value: object) -> pa.Array:
    if isinstance(kind, pa.JsonType):
        return pa.ExtensionArray.from_storage(kind, pa.array([value, None], kind.storage_type))
    return pa.array([value, None], kind)


@pytest.mark.parametrize("case", HINTS)
def test_a_files_parquet_types_count_and_no_hint_of_arrow_types(warehouse, case):
    """The footer's Arrow schema tells pyarrow what the writer had; the values are those of Parquet's types."""
    kind, arrow, value = HINTS[case]
    warehouse.create(Schema(optional(1, "x", kind)), properties={MAPPING: json.dumps(NAMES)})
    warehouse.add_file(pa.table({"x": hinted(arrow, value)}), store_decimal_as_integer=True)
    found = warehouse.scan()
    assert [value, None] == found.column("x").to_pylist()
    assert warehouse.resolve({}).arrow_schema == found.schema


def test_a_damaged_hint_does_not_matter(warehouse):
    """The Parquet schema is whole."""
    warehouse.create(Schema(ID))
    path = warehouse._new_path("t", "parquet")
    local = Path(path.removeprefix("file://"))
    pq.write_table(with_ids(pa.table({"id": [1]})), local)
    before, key, after = local.read_bytes().rpartition(b"ARROW:schema")
    local.write_bytes(before + key + after[:8] + b"!" * 8 + after[16:])
    warehouse.commit_file(path, record_count=1)
    assert [{"id": 1}] == warehouse.rows()


def test_a_value_that_is_the_hints_key_stays_in_the_statistics(warehouse):
    """Only the footer's metadata is passed over, not the same text in a row group's bounds."""
    warehouse.create(Schema(optional(1, "x", DecimalType(5, 2)), optional(2, "s", StringType())))
    texts = ["ARROW:schema", "ARROW:schema"]
    data = pa.table({"x": pa.array([Decimal(1), None], pa.decimal32(5, 2)), "s": texts})
    warehouse.add_file(with_ids(data), store_decimal_as_integer=True)
    only = {"filters": [{"column": "s", "op": "=", "value": "ARROW:schema"}]}
    assert [Decimal("1.00"), None] == warehouse.scan(only).column("x").to_pylist()


# -- columns that the table does not know


EXTRAS = {
    "a column": pa.array(["x", "y"]),
    "a list": pa.array([["x"], None]),
    "a struct": pa.array([{"a": 1}, None]),
    "a map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    "a type that Iceberg has not": pa.array([5, None], pa.time32("ms")),
    "nulls only": pa.nulls(2),
}


@pytest.mark.parametrize("ids", [False, True], ids=["mapping", "ids"])
@pytest.mark.parametrize("extra", EXTRAS)
def test_a_column_that_neither_id_nor_mapping_knows_is_passed_over(warehouse, extra, ids):
    """Column projection asks for the table's columns; others of the file need no id."""
    mapped(warehouse, ID, optional(2, "s", StringType()))
    known = pa.table({"id": [1, 2], "s": ["a", "b"]})
    data = (with_ids(known) if ids else known).add_column(
        1, pa.field("extra", EXTRAS[extra].type), EXTRAS[extra]
    )
    warehouse.add_file(data)
    assert [{"id": 1, "s": "a"}, {"id": 2, "s": "b"}] == warehouse.rows()
    assert [2] == warehouse.where("s", ">", "a")


def test_a_field_that_the_mapping_does_not_know_is_passed_over_at_every_level(warehouse):
    """Its neighbours keep their values, whatever its place and type."""
    inner = StructType(optional(3, "a", IntegerType()), optional(4, "b", StringType()))
    items = ListType(6, StructType(optional(7, "a", LongType())), element_required=False)
    pairs = MapType(9, StringType(), 10, StructType(optional(11, "a", LongType())), value_required=False)
    mapped(warehouse, optional(2, "st", inner), optional(5, "l", items), optional(8, "m", pairs))
    struct_type = pa.struct(
        [("x", pa.time32("ms")), ("a", pa.int32()), ("y", pa.int32()), ("b", pa.string())]
    )
    structs = pa.array([{"x": 1, "a": 1, "y": 2, "b": "q"}, None], struct_type)
    element = pa.struct([("x", pa.string()), ("a", pa.int64())])
    lists = pa.array([[{"x": "p", "a": 7}, None], None], pa.list_(element))
    maps = pa.array([[("k", {"x": "p", "a": 7})], None], pa.map_(pa.string(), element))
    warehouse.add_file(pa.table({"st": structs, "l": lists, "m": maps}))
    full = {"st": {"a": 1, "b": "q"}, "l": [{"a": 7}, None], "m": [("k", {"a": 7})]}
    assert [full, {"st": None, "l": None, "m": None}] == warehouse.rows()
    assert [full] == warehouse.rows({"filters": [{"column": "st.b", "op": "=", "value": "q"}]})


def test_a_struct_of_which_the_file_has_no_field_is_there_all_the_same(warehouse):
    """Where the file's struct is null, so is the table's; elsewhere its fields are null."""
    mapped(warehouse, ID, optional(2, "st", StructType(optional(3, "a", IntegerType()))))
    warehouse.add_file(pa.table({"id": [1, 2], "st": pa.array([{"other": 1}, None])}))
    assert [{"id": 1, "st": {"a": None}}, {"id": 2, "st": None}] == warehouse.rows()


def test_a_file_with_no_column_of_the_table_has_rows_of_nulls(warehouse):
    """Every column is absent."""
    mapped(warehouse, ID)
    warehouse.add_file(pa.table({"other": [1, 2]}))
    assert [{"id": None}, {"id": None}] == warehouse.rows()


def test_a_mapping_may_name_a_column_without_an_id(warehouse):
    """Fields that are not in the table's schema may omit ``field-id`` ("Name Mapping Serialization")."""
    mapped(warehouse, ID, mapping=[{"field-id": 1, "names": ["id", "nr"]}, {"names": ["extra"]}])
    warehouse.add_file(pa.table({"extra": ["x"], "nr": [1]}))
    assert [{"id": 1}] == warehouse.rows()


def test_a_column_that_the_mapping_leaves_out_is_absent(warehouse):
    """A column is never found by its name alone."""
    mapped(warehouse, ID, optional(2, "s", StringType()), mapping=[{"field-id": 1, "names": ["id"]}])
    warehouse.add_file(pa.table({"id": [1], "s": ["x"]}))
    assert [{"id": 1, "s": None}] == warehouse.rows()


def test_a_column_without_id_beside_others_with_ids_is_found_by_the_mapping(warehouse):
    """The mapping is for columns without ids ("Column Projection"); an id in the file goes before it."""
    mapped(warehouse, ID, optional(2, "s", StringType()))
    both = pa.schema(
        [
            pa.field("old", pa.int64(), metadata={"PARQUET:field_id": "1"}),
            ("s", pa.string()),
            ("id", pa.int64()),
        ]
    )
    warehouse.add_file(pa.table([[1], ["x"], [7]], schema=both))
    assert [{"id": 1, "s": "x"}] == warehouse.rows()


# -- refusals that say what is not supported


def refusal(warehouse, *words: str, **params: object) -> None:
    refused = warehouse.try_scan(params)
    assert isinstance(refused, Refused), refused
    assert Reason.UNSUPPORTED is refused.reason
    for word in ("other-0.parquet", *words):
        assert word in refused.detail


def test_a_column_of_a_type_that_iceberg_has_not_is_refused_and_no_other(warehouse):
    """The refusal names column, file and type; the other columns are read."""
    mapped(warehouse, ID, optional(2, "s", StringType()))
    warehouse.add_file(pa.table({"id": [1], "s": pa.array([5], pa.time32("ms"))}))
    refusal(warehouse, "'s'", "time32[ms]", "string")
    refusal(warehouse, "'s'", columns=["id"], filters=[{"column": "s", "op": "=", "value": "x"}])
    assert [{"id": 1}] == warehouse.rows({"columns": ["id"]})


def test_a_column_of_nulls_of_no_type_is_null(warehouse):
    """pandas writes a column of None without a type; it is any type's null."""
    mapped(
        warehouse,
        ID,
        optional(2, "s", StringType()),
        optional(3, "st", StructType(optional(4, "a", DateType()))),
    )
    warehouse.add_file(pa.table({"id": [1], "s": pa.nulls(1), "st": pa.nulls(1)}))
    assert [{"id": 1, "s": None, "st": None}] == warehouse.rows()
    assert [1] == warehouse.where("s", "is null")


def test_elements_that_the_mapping_does_not_know_are_refused(warehouse):
    """The list is the table's, its elements are not: they are not passed over as nulls."""
    strings = ListType(3, StringType(), element_required=False)
    mapped(warehouse, ID, optional(2, "l", strings), mapping=[{"field-id": 2, "names": ["l"]}])
    warehouse.add_file(pa.table({"l": [["x"]]}))
    refusal(warehouse, "'l'", "name mapping")


def test_a_mapping_that_is_no_json_is_refused_only_where_it_is_needed(warehouse):
    """Files with ids need none."""
    warehouse.create(Schema(ID), properties={MAPPING: "{no"})
    warehouse.add_file(pa.table({"id": [1]}))
    refusal(warehouse, MAPPING)
    warehouse.create(Schema(ID), "u", properties={MAPPING: "{no"})
    warehouse.add_file(with_ids(pa.table({"id": [1]})), "u")
    assert [{"id": 1}] == warehouse.rows(name="u")


def test_two_columns_of_one_id_are_refused(warehouse):
    """Which of them the table means cannot be known."""
    mapped(warehouse, ID, mapping=[{"field-id": 1, "names": ["id", "nr"]}])
    warehouse.add_file(pa.table({"id": [1], "nr": [2]}))
    refusal(warehouse, "one field id")


def test_a_date_is_read_as_a_timestamp(warehouse):
    """Version 3 promotes a date column to a timestamp ("Schema Evolution"); bounds of dates prune nothing."""
    mapped(warehouse, ID, optional(2, "d", TimestampType()))
    days = pa.array([dt.date(2024, 1, 2), dt.date(1969, 12, 31), None])
    warehouse.add_file(pa.table({"id": [1, 2, 3], "d": days}), row_group_size=1)
    naive = [dt.datetime(2024, 1, 2), dt.datetime(1969, 12, 31), None]  # noqa: DTZ001 - Iceberg's local times
    assert naive == [row["d"] for row in warehouse.rows()]
    assert [2] == warehouse.where("d", "<", "1970-01-01T00:00:00")
    assert [1] == warehouse.where("d", "=", "2024-01-02T00:00:00")


# -- files that are not as their manifest says


@pytest.mark.parametrize("where", [{}, {"filters": [{"column": "id", "op": "=", "value": 9}]}])
@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"record_count": 3}, "has 2 rows, but the table's manifest says 3"),
        ({"record_count": 1}, "has 2 rows, but the table's manifest says 1"),
        ({"record_count": -1}, "has rows, but the table's manifest says -1"),
        ({"file_size_in_bytes": 7}, " bytes, but the table's manifest says 7"),
    ],
)
def test_a_file_that_is_not_as_its_manifest_says_is_refused_by_name(warehouse, stated, said, where):
    """Which of both is right cannot be known; also where a filter leaves out all of its rows."""
    warehouse.create(Schema(ID))
    path = warehouse.add_file(with_ids(pa.table({"id": [1, 2]})))
    copy = path.replace("other-0", "copy")
    Path(copy.removeprefix("file://")).write_bytes(Path(path.removeprefix("file://")).read_bytes())
    warehouse.commit_file(copy, **stated)
    refused = warehouse.try_scan(where)
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert "data file copy.parquet" in refused.detail
    assert said in refused.detail


@pytest.mark.parametrize("kind", ["positions", "vector", "equal"])
def test_a_delete_file_of_another_size_is_refused_by_name(warehouse, kind):
    """It is not the file that was committed, and may give back rows that were deleted."""
    warehouse.create(Schema(ID))
    path = warehouse.add_file(with_ids(pa.table({"id": [1, 2]})))
    match kind:
        case "positions":
            warehouse.delete_positions({path: [0]})
        case "vector":
            warehouse.delete_vector(path, [0])
        case _:
            warehouse.delete_equal(pa.table({"id": [2]}), field_ids=[1])
    [delete] = Path(path.removeprefix("file://")).parent.glob("other-1.*")
    delete.write_bytes(delete.read_bytes() + b"PAR1")
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert f"delete file {delete.name} has " in refused.detail


def test_an_equality_delete_without_its_key_is_refused_by_name(warehouse):
    """A key inside a struct that the file lacks is not null there."""
    warehouse.create(Schema(ID, optional(2, "st", StructType(optional(3, "a", LongType())))))
    structs = pa.array([None, {"b": 1}])
    warehouse.append([{"id": 1, "st": {"a": 1}}])
    fields = [pa.field("st", structs.type, metadata={"PARQUET:field_id": "2"})]
    keys = pa.table([structs], schema=pa.schema(fields))
    warehouse.delete_equal(keys, field_ids=[3], in_file=False)
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert "delete file other-0.parquet" in refused.detail

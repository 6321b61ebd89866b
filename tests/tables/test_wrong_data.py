"""Every way to answer with wrong rows that was observed in comparable servers, for tables."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, StructType

from strata.outcomes import Reason, Refused
from strata.tables import ScanSpec, apply_residual, expand_file, parse_scan_params, read_row_group
from strata.tables.scan.nested import leaf_of

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "x", DoubleType(), required=False),
    NestedField(3, "name", StringType(), required=False),
)


@pytest.fixture
def filled(warehouse):
    """Write ten rows in row groups of four."""
    warehouse.create(SCHEMA, row_group=4)
    warehouse.append([{"id": at, "x": at / 2, "name": f"n{at}"} for at in range(10)])
    return warehouse


def test_no_columns_and_all_columns_have_different_identities(filled):
    """``columns: []`` and no ``columns`` share neither canonical form, segment fields nor result."""
    nothing, everything = parse_scan_params({"columns": []}), parse_scan_params({})
    assert isinstance(nothing, ScanSpec)
    assert isinstance(everything, ScanSpec)
    assert nothing.canonical() != everything.canonical()
    assert () == filled.plan({"columns": []}).segment_fields
    assert 3 == len(filled.plan({}).segment_fields)


def test_no_columns_gives_the_right_number_of_rows(filled):
    """An empty projection returns rows without columns, as many as the table has."""
    table = filled.scan({"columns": []})
    assert (10, 0) == (table.num_rows, table.num_columns)


def test_no_columns_under_a_filter_on_a_column_not_projected(filled):
    """Only the rows that pass the filter are counted."""
    table = filled.scan({"columns": [], "filters": [{"column": "id", "op": ">=", "value": 7}]})
    assert (3, 0) == (table.num_rows, table.num_columns)


def test_filters_select_rows_and_not_only_row_groups(filled):
    """``id = 5`` returns one row, not its whole row group."""
    assert [{"id": 5, "x": 2.5, "name": "n5"}] == filled.rows(
        {"filters": [{"column": "id", "op": "=", "value": 5}]}
    )


def test_reading_a_row_group_applies_no_filter_so_that_cached_segments_are_whole(filled):
    """A cached segment does not depend on the filter; only ``apply_residual`` does."""
    plan = filled.plan({"filters": [{"column": "id", "op": "=", "value": 5}]})
    (task,) = expand_file(plan, plan.files[0])
    batches = read_row_group(plan, task, batch_rows=100)
    assert [4, 5, 6, 7] == [value for batch in batches for value in batch.column("id").to_pylist()]
    assert [5] == [
        value for batch in apply_residual(plan, task, batches) for value in batch.column("id").to_pylist()
    ]


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        ({"filters": [{"column": "nope", "op": "=", "value": 1}]}, ("filters", 0, "column")),
        ({"columns": ["nope"]}, ("columns", 0)),
        ({"column": ["id"]}, ()),
        ({"filters": [{"column": "id", "op": "=", "value": 1, "extra": 1}]}, ("filters", 0)),
        ({"filters": [{"column": "ID", "op": "=", "value": 1}]}, ("filters", 0, "column")),
        ({"filters": [{"column": "id", "op": "==", "value": 1}]}, ("filters", 0, "op")),
    ],
)
def test_an_unknown_column_parameter_or_operator_is_refused_with_its_place(filled, params, loc):
    """A misspelled column, parameter or operator is refused with its location."""
    refused = filled.resolve(params)
    assert isinstance(refused, Refused)
    assert Reason.BAD_REQUEST is refused.reason
    assert ("body", "transform", "params", *loc) == refused.loc


def test_a_comparison_with_nan_is_refused_instead_of_pruning_everything(filled):
    """NaN in a comparison is refused by name, since no row compares with NaN."""
    refused = filled.resolve({"filters": [{"column": "x", "op": "<", "value": math.nan}]})
    assert isinstance(refused, Refused)
    assert "NaN" in refused.detail


@pytest.mark.parametrize("row_group", [1, 2, 5])
def test_not_equal_keeps_rows_of_row_groups_whose_statistics_hide_nan(warehouse, row_group):
    """Statistics omit NaN: a row group of 1.0 and NaN looks like all 1.0, and ``!=`` keeps its NaN row."""
    warehouse.create(SCHEMA, row_group=row_group)
    values = [1.0, math.nan, 1.0, None, 2.0]
    warehouse.append([{"id": at, "x": value, "name": None} for at, value in enumerate(values)])
    assert [1, 4] == warehouse.where("x", "!=", 1.0)
    assert [1] == warehouse.where("x", "not in", [1.0, 2.0])


def test_comparisons_find_rows_next_to_nan(warehouse):
    """A NaN in the row group neither hides other rows nor matches a comparison."""
    warehouse.create(SCHEMA, row_group=2)
    values = [math.nan, 5.0, 3.0, math.nan, math.nan, math.nan]
    warehouse.append([{"id": at, "x": value, "name": None} for at, value in enumerate(values)])
    assert [1, 2] == warehouse.where("x", ">", 0)
    assert [2] == warehouse.where("x", "<", 4)
    assert [1] == warehouse.where("x", "=", 5.0)
    assert [] == warehouse.where("x", ">", 5.0)


def test_a_column_that_is_not_found_is_an_error_and_not_the_last_column(filled):
    """``get_field_index`` returns -1 for an unknown name, which as an index means the last column."""
    plan = filled.plan({"columns": ["name"], "filters": [{"column": "id", "op": "=", "value": 5}]})
    (task,) = expand_file(plan, plan.files[0])
    batches = read_row_group(plan, task, batch_rows=100)
    (kept,) = apply_residual(plan, task, batches)
    assert ["n5"] == kept.column("name").to_pylist()
    struct = pa.array([{"a": 1, "z": 2}])
    with pytest.raises(LookupError):
        leaf_of(struct, ("s", "nope"))


def test_a_filtered_struct_field_is_found_by_name_and_never_the_last_one(warehouse):
    """The filter on ``s.a`` tests ``s.a``, though ``s.z`` is the last field."""
    struct = StructType(
        NestedField(2, "a", LongType(), required=False), NestedField(3, "z", LongType(), required=False)
    )
    warehouse.create(
        Schema(NestedField(1, "id", LongType(), required=False), NestedField(4, "s", struct, required=False))
    )
    warehouse.append(
        [{"id": 0, "s": {"a": 1, "z": 2}}, {"id": 1, "s": {"a": 2, "z": 1}}, {"id": 2, "s": None}]
    )
    assert [0] == warehouse.where("s.a", "=", 1)
    assert [2] == warehouse.where("s.a", "is null")


def test_a_dropped_and_recreated_table_never_serves_the_old_rows(warehouse):
    """The version and every file key change with the table's UUID, even if the files look the same."""
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 1, "x": None, "name": "old"}])
    before, old_plan = warehouse.resolve({}), warehouse.plan({})
    warehouse.catalog.drop_table("db.t")
    assert Reason.NOT_FOUND is warehouse.resolve({}).reason
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 2, "x": None, "name": "new"}])
    after = warehouse.resolve({})
    assert before.version != after.version
    assert before.plan_key != after.plan_key
    assert old_plan.files[0].file_key != warehouse.plan({}).files[0].file_key
    assert [{"id": 2, "x": None, "name": "new"}] == warehouse.rows()


def test_a_recreated_table_over_the_very_same_file_name_reads_the_new_rows(warehouse):
    """Footer and file keys include the table: a file replaced under the same name and size is read again."""
    path = warehouse.directory / "outside.parquet"

    def create(value):
        warehouse.create(SCHEMA)
        pq.write_table(pa.table({"id": pa.array([value], pa.int64())}), path)
        warehouse.table().add_files([f"file://{path}"])

    create(1)
    assert [1] == [row["id"] for row in warehouse.rows()]
    first = warehouse.plan({}).files[0]
    warehouse.catalog.drop_table("db.t")
    create(2)
    second = warehouse.plan({}).files[0]
    assert (first.path, first.file_size) == (second.path, second.file_size)
    assert first.file_key != second.file_key
    assert [2] == [row["id"] for row in warehouse.rows()]


def test_a_dropped_and_readded_column_does_not_bring_back_its_old_values(warehouse):
    """A column of the same name is another field: columns are matched by id."""
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 1, "x": 1.0, "name": "old"}])
    with warehouse.table().update_schema() as update:
        update.delete_column("name")
    with warehouse.table().update_schema() as update:
        update.add_column("name", StringType())
    warehouse.append([{"id": 2, "x": None, "name": "new"}])
    assert {1: None, 2: "new"} == {row["id"]: row["name"] for row in warehouse.rows()}
    assert [2] == warehouse.where("name", "is not null")
    assert [] == warehouse.where("name", "=", "old")


def test_the_row_count_is_known_before_reading_when_it_can_be(filled):
    """The row count is exact without filters and deletes, and unknown otherwise."""
    assert 10 == filled.plan({}).exact_rows
    assert filled.plan({"filters": [{"column": "id", "op": "<", "value": 3}]}).exact_rows is None


def test_a_missing_data_file_is_refused_by_name_and_without_its_path(filled):
    """The refusal is no internal error and names no directory of the server."""
    (path,) = filled.data_files()
    Path(path.removeprefix("file://")).unlink()
    refused = filled.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert Path(path).name in refused.detail
    assert str(filled.directory) not in refused.detail


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_truncated_data_file_is_refused_by_name(filled, keep):
    """A damaged file is refused, whether its footer or its pages are missing."""
    (path,) = filled.data_files()
    local = Path(path.removeprefix("file://"))
    whole = local.read_bytes()
    local.write_bytes(whole[: int(len(whole) * keep) if keep < 1 else keep])
    refused = filled.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert str(filled.directory) not in refused.detail


def test_a_file_that_vanishes_between_plan_and_read_is_refused(filled):
    """With a cached footer and missing pages, the read is refused."""
    plan = filled.plan({})
    tasks = expand_file(plan, plan.files[0])
    Path(plan.files[0].path.removeprefix("file://")).unlink()
    refused = read_row_group(plan, tasks[0], batch_rows=10)
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason


def test_a_commit_between_plan_and_read_changes_nothing(filled):
    """A plan reads the files of its snapshot, whatever is committed meanwhile."""
    plan = filled.plan({})
    filled.table().overwrite(pa.table({"id": pa.array([99], pa.int64())}))
    rows = sum(
        batch.num_rows
        for task in expand_file(plan, plan.files[0])
        for batch in read_row_group(plan, task, batch_rows=10)
    )
    assert 10 == rows
    assert [99] == [row["id"] for row in filled.rows()]


def test_a_missing_manifest_or_metadata_file_is_refused_by_name(filled):
    """The refusal names the missing file and no directory."""
    metadata = Path(filled.table().metadata_location.removeprefix("file://"))
    for manifest in metadata.parent.glob("*-m0.avro"):
        manifest.unlink()
    refused = filled.try_plan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    shutil.rmtree(metadata.parent)
    fresh = type(filled)(filled.directory)
    refused = fresh.resolve({})
    fresh.close()
    assert isinstance(refused, Refused)
    assert metadata.name in refused.detail
    assert str(filled.directory) not in refused.detail


@pytest.mark.parametrize(
    "value",
    [
        "text",
        1.5,
        True,
        None,
        [],
        {},
        [1],
        2**63,
        "__datetime__:yesterday",
        "__decimal__:1e",
        "__uuid__:x",
        "__date__:2024-02-30",
        "__nope__:1",
        "__bytes__:?",
        "__decimal__:NaN",
        "__float__:nan",
    ],
)
def test_a_filter_value_of_a_wrong_form_is_refused_and_not_repeated(filled, value):
    """A malformed value is the client's error (400), never an internal error, and is not repeated."""
    refused = filled.resolve({"filters": [{"column": "id", "op": "=", "value": value}]})
    assert isinstance(refused, Refused)
    assert Reason.BAD_REQUEST is refused.reason
    assert ("filters", 0, "value") == refused.loc[3:6]
    assert "yesterday" not in refused.detail


@pytest.mark.parametrize("rows", [4, 9, 11, 0])
@pytest.mark.parametrize(
    "params", [{}, {"columns": []}, {"filters": [{"column": "id", "op": ">=", "value": 0}]}]
)
def test_another_file_in_a_data_files_place_is_refused(filled, rows: int, params: dict) -> None:
    """Files are immutable: one with another number of rows is not the table's, also where a filter hides it."""
    (path,) = filled.data_files()
    local = path.removeprefix("file://")
    schema = pq.read_schema(local)
    content = pa.Table.from_pylist([{"id": at, "x": 0.0, "name": "n"} for at in range(rows)])
    pq.write_table(content.cast(schema) if rows else schema.empty_table(), local)

    refused = filled.try_scan(params)
    assert isinstance(refused, Refused)
    assert (Reason.DATA_UNREADABLE, "data_unreadable") == (refused.reason, refused.code)

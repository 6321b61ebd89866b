"""Merge-on-read deletes: positions, deletion vectors and equality."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType

from strata.outcomes import Reason, Refused

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "kind", StringType(), required=False),
    NestedField(3, "x", DoubleType(), required=False),
)
BY_KIND = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "kind"))


def _ids(warehouse, params=None):
    return [row["id"] for row in warehouse.rows(params)]


def _fill(warehouse, count=10, **kwargs):
    warehouse.create(SCHEMA, row_group=4, **kwargs)
    warehouse.append([{"id": at, "kind": "ab"[at % 2], "x": float(at)} for at in range(count)])


def test_position_deletes_count_from_the_start_of_the_file_across_row_groups(warehouse):
    """A position counts from the file's start, so rows of earlier row groups count."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [0, 5, 9]})
    assert [1, 2, 3, 4, 6, 7, 8] == _ids(warehouse)
    assert warehouse.table().scan().to_arrow().column("id").to_pylist() == _ids(warehouse)


ROW = pa.StructArray.from_arrays([pa.array([7, 8]), pa.array(["p", None])], ["id", "kind"])
ORDERS = {
    "row first": ["row", "file_path", "pos"],
    "row between": ["pos", "row", "file_path"],
    "row last": ["file_path", "pos", "row"],
    "reversed": ["pos", "file_path"],
}


@pytest.mark.parametrize("ids", [False, True], ids=["names", "ids"])
@pytest.mark.parametrize("order", ORDERS)
def test_columns_of_position_deletes_are_found_in_any_order(warehouse, order, ids):
    """Also behind the optional ``row``, a struct of several Parquet columns ("Position Delete Files")."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    given = {
        "file_path": (pa.array([path, path]).cast(pa.binary()), "2147483546"),
        "pos": (pa.array([0, 5], pa.int32()), "2147483545"),
        "row": (ROW, "2147483544"),
    }
    columns = [given[name][0] for name in ORDERS[order]]
    fields = [
        pa.field(name, given[name][0].type, metadata={"PARQUET:field_id": given[name][1]} if ids else None)
        for name in ORDERS[order]
    ]
    warehouse.delete_by_positions(pa.table(columns, schema=pa.schema(fields)), like=path)
    assert [1, 2, 3, 4, 6, 7, 8, 9] == _ids(warehouse)


def test_positions_apply_before_the_filter(warehouse):
    """Deleted rows stay deleted under a filter that would keep them."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [5]})
    assert [4, 6] == _ids(warehouse, {"filters": [{"column": "id", "op": "in", "value": [4, 5, 6]}]})


def test_position_deletes_do_not_reach_files_added_later(warehouse):
    """A delete applies only to data that is not newer than the delete."""
    _fill(warehouse, 3)
    (old,) = warehouse.data_files()
    warehouse.delete_positions({old: [0]})
    warehouse.append([{"id": 0, "kind": "a", "x": 0.0}])
    assert [0, 1, 2] == sorted(_ids(warehouse))


def test_one_delete_file_for_several_data_files(warehouse):
    """A delete file of a partition names many files; each gets its own positions."""
    _fill(warehouse, 3)
    warehouse.append([{"id": at, "kind": "a", "x": 0.0} for at in (10, 11)])
    files = warehouse.data_files()
    warehouse.delete_positions({files[0]: [0], files[1]: [1]})
    left = warehouse.table().scan().to_arrow().column("id").to_pylist()
    assert left == _ids(warehouse)
    assert 3 == len(left)


def test_position_deletes_stay_in_their_partition(warehouse):
    """Two partitions, a delete in one."""
    _fill(warehouse, partition_spec=BY_KIND)
    first = warehouse.data_files()[0]
    warehouse.delete_positions({first: [0]})
    expected = warehouse.table().scan().to_arrow().column("id").to_pylist()
    assert expected == _ids(warehouse)
    assert 9 == len(expected)


def test_a_deletion_vector_is_read_at_its_offset(warehouse):
    """The vector is found inside its Puffin file by offset and length."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    warehouse.delete_vector(path, [1, 4, 8])
    assert [0, 2, 3, 5, 6, 7, 9] == _ids(warehouse)


def test_a_damaged_deletion_vector_is_refused_by_name(warehouse):
    """The checksum detects a flipped byte; deleted rows never come back silently."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    vector = warehouse.delete_vector(path, [1, 4, 8], flip=20)
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert Path(vector).name in refused.detail
    assert str(warehouse.directory) not in refused.detail


def test_a_missing_delete_file_is_refused_by_name(warehouse):
    """Without its delete file a data file cannot be read exactly."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    delete = warehouse.delete_positions({path: [0]})
    Path(delete.removeprefix("file://")).unlink()
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Path(delete).name in refused.detail
    assert str(warehouse.directory) not in refused.detail


def test_all_rows_deleted_gives_no_rows(warehouse):
    """A file with all rows deleted is an empty result, not an error."""
    _fill(warehouse, 3)
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [0, 1, 2]})
    assert [] == _ids(warehouse)
    assert 0 == warehouse.scan({"columns": []}).num_rows


def test_no_columns_still_counts_deletes(warehouse):
    """``columns: []`` returns as many rows as are not deleted."""
    _fill(warehouse)
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [0, 5]})
    assert 8 == warehouse.scan({"columns": []}).num_rows


def test_equality_deletes_remove_equal_rows(warehouse):
    """Rows with keys equal to a row of the delete file are removed, nulls and NaN included."""
    warehouse.create(SCHEMA, row_group=2)
    values = [1.0, None, math.nan, 2.0, -0.0]
    warehouse.append([{"id": at, "kind": "a", "x": value} for at, value in enumerate(values)])
    keys = pa.table({"x": pa.array([None, math.nan, 2.0], pa.float64())})
    warehouse.delete_equal(keys, field_ids=[3])
    assert [0, 4] == _ids(warehouse, {"columns": ["id"]})


def test_equality_deletes_compare_all_their_keys(warehouse):
    """With two keys both must be equal, in one row of the delete file."""
    _fill(warehouse, 4)
    keys = pa.table({"id": pa.array([0, 1, 2], pa.int64()), "kind": ["a", "a", "b"]})
    warehouse.delete_equal(keys, field_ids=[1, 2])
    assert [1, 2, 3] == _ids(warehouse, {"columns": ["id"]})


def test_equality_deletes_do_not_reach_rows_of_the_same_or_a_later_commit(warehouse):
    """Re-inserting a deleted key keeps it."""
    _fill(warehouse, 3)
    warehouse.delete_equal(pa.table({"id": pa.array([1], pa.int64())}), field_ids=[1])
    warehouse.append([{"id": 1, "kind": "new", "x": None}])
    assert [0, 1, 2] == sorted(_ids(warehouse))
    assert {"new"} == {row["kind"] for row in warehouse.rows() if row["id"] == 1}


def test_equality_deletes_follow_a_widened_and_renamed_column(warehouse):
    """Keys are matched by field id and compared in the table's type."""
    warehouse.create(Schema(NestedField(1, "n", IntegerType(), required=False)))
    warehouse.append([{"n": 1}, {"n": 2}])
    with warehouse.table().update_schema() as update:
        update.update_column("n", LongType())
        update.rename_column("n", "m")
    warehouse.delete_equal(pa.table({"m": pa.array([2], pa.int64())}), field_ids=[1])
    assert [{"m": 1}] == warehouse.rows()


def test_equality_deletes_are_read_before_and_after_their_key_is_widened(warehouse):
    """The remembered keys of one schema's type are not compared with the other's (time travel and now)."""
    warehouse.create(Schema(NestedField(1, "n", IntegerType(), required=False)))
    warehouse.append([{"n": 1}, {"n": 2}])
    warehouse.delete_equal(pa.table({"n": pa.array([2], pa.int32())}), field_ids=[1])
    before = {"snapshot_id": warehouse.table().metadata.current_snapshot_id}
    assert [{"n": 1}] == warehouse.rows()
    with warehouse.table().update_schema() as update:
        update.update_column("n", LongType())
    for params in ({}, before, {}):
        assert [{"n": 1}] == warehouse.rows(params)


def test_equality_deletes_without_ids_follow_a_changed_name_mapping(warehouse):
    """The remembered keys of a delete file belong to the name mapping that found them."""
    warehouse.create(Schema(NestedField(1, "n", LongType(), required=False)))
    warehouse.append([{"n": 1}, {"n": 2}])
    warehouse.delete_equal(pa.table({"x": [2], "y": [1]}), field_ids=[1], in_file=False)
    for names, left in (("xy", 1), ("yx", 2)):
        mapping = json.dumps([{"field-id": at, "names": [name]} for at, name in enumerate(names, 1)])
        with warehouse.table().transaction() as change:
            change.set_properties({"schema.name-mapping.default": mapping})
        assert [{"n": left}] == warehouse.rows()


def test_equality_deletes_on_a_column_the_data_file_lacks(warehouse):
    """A data file from before the column was added holds null there."""
    warehouse.create(Schema(NestedField(1, "n", IntegerType(), required=False)))
    warehouse.append([{"n": 1}])
    with warehouse.table().update_schema() as update:
        update.add_column("k", StringType())
    warehouse.append([{"n": 2, "k": "x"}])
    warehouse.delete_equal(pa.table({"k": pa.array([None], pa.string())}), field_ids=[2])
    assert [{"n": 2, "k": "x"}] == warehouse.rows()


def test_position_and_equality_deletes_add_up(warehouse):
    """A file can have both."""
    _fill(warehouse, 6)
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [0, 1]})
    warehouse.delete_equal(pa.table({"id": pa.array([4], pa.int64())}), field_ids=[1])
    assert [2, 3, 5] == _ids(warehouse)


@pytest.mark.parametrize("kind", ["positions", "vector", "equal"])
def test_deletes_change_the_cache_identity_of_the_file(warehouse, kind):
    """Rows cached before a delete are never used after it."""
    _fill(warehouse)
    before = warehouse.plan({}).files[0]
    match kind:
        case "positions":
            warehouse.delete_positions({before.path: [0]})
        case "vector":
            warehouse.delete_vector(before.path, [0])
        case "equal":
            warehouse.delete_equal(pa.table({"id": pa.array([0], pa.int64())}), field_ids=[1])
    after = warehouse.plan({}).files[0]
    assert before.path == after.path
    assert before.file_key != after.file_key

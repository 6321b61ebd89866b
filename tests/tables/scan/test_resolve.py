"""Snapshots, schemas, projections and versions."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, ListType, LongType, NestedField, StringType, StructType

from strata.outcomes import Reason, Refused
from strata.tables import Filter, ResolvedScan, ScanSpec, resolve_scan, segment_schema


def optional(field_id, name, kind):
    return NestedField(field_id, name, kind, required=False)


SCHEMA = Schema(
    optional(1, "id", LongType()),
    optional(2, "x", DoubleType()),
    optional(3, "s", StructType(optional(4, "a", LongType()), optional(5, "b", StringType()))),
    optional(6, "l", ListType(7, LongType(), element_required=False)),
)


def row(at):
    return {"id": at, "x": float(at), "s": {"a": at, "b": f"b{at}"}, "l": [at]}


@pytest.fixture
def history(warehouse):
    """Commit three snapshots: the first tagged, the second on a branch, a column added before the third."""
    warehouse.create(SCHEMA)
    snapshots = []
    for at in range(3):
        if at == 2:
            with warehouse.table().update_schema() as update:
                update.add_column("new", StringType())
        warehouse.append([row(at)])
        snapshots.append(warehouse.table().current_snapshot())
    with warehouse.table().manage_snapshots() as manage:
        manage.create_tag(snapshots[0].snapshot_id, "v1")
        manage.create_branch(snapshots[1].snapshot_id, "dev")
    warehouse.snapshots = snapshots
    return warehouse


def ids(warehouse, params):
    return sorted(one["id"] for one in warehouse.rows(params))


def test_reading_by_snapshot_branch_tag_and_time(history):
    """Each way of naming a snapshot reads that snapshot."""
    first, second, third = history.snapshots
    assert [0, 1, 2] == ids(history, {})
    assert [0] == ids(history, {"snapshot_id": first.snapshot_id})
    assert [0] == ids(history, {"ref": "v1"})
    assert [0, 1] == ids(history, {"ref": "dev"})
    assert [0, 1, 2] == ids(history, {"ref": "main"})
    for snapshot, expected in [(first, [0]), (second, [0, 1]), (third, [0, 1, 2])]:
        at = dt.datetime.fromtimestamp(snapshot.timestamp_ms / 1000, dt.UTC)
        assert expected == ids(history, {"as_of": at.isoformat()})


def test_a_branch_has_the_columns_of_the_table(history):
    """A branch goes on: its head has the table's schema, a tag its own (Iceberg's SnapshotUtil.schemaFor)."""
    assert "new" in history.scan({"ref": "dev"}).schema.names
    assert [None, None] == [one["new"] for one in history.rows({"ref": "dev", "columns": ["new"]})]
    assert "new" not in history.scan({"ref": "v1"}).schema.names


def test_an_old_snapshot_has_the_columns_it_had(history):
    """The schema is the snapshot's, as in pyiceberg's reader."""
    first, _, third = history.snapshots
    assert ["id", "x", "s", "l"] == history.scan({"snapshot_id": first.snapshot_id}).schema.names
    assert "new" in history.scan({"snapshot_id": third.snapshot_id}).schema.names
    refused = history.resolve({"snapshot_id": first.snapshot_id, "columns": ["new"]})
    assert Reason.BAD_REQUEST is refused.reason


@pytest.mark.parametrize("params", [{"snapshot_id": 1}, {"ref": "nope"}, {"as_of": "1999-01-01T00:00:00Z"}])
def test_an_unknown_snapshot_is_not_found(history, params):
    """An unknown snapshot never falls back to the current rows."""
    refused = history.resolve(params)
    assert isinstance(refused, Refused)
    assert Reason.NOT_FOUND is refused.reason


def test_an_empty_table_has_no_rows_and_its_schema(warehouse):
    """A table without a snapshot is an empty result, with or without a filter."""
    warehouse.create(SCHEMA)
    table = warehouse.scan({"columns": ["x", "id"]})
    assert (0, ["x", "id"]) == (table.num_rows, table.schema.names)
    assert 0 == warehouse.plan({}).exact_rows
    assert [] == warehouse.where("id", "=", 1)
    assert Reason.NOT_FOUND is warehouse.resolve({"as_of": "2999-01-01T00:00:00Z"}).reason


def test_columns_come_in_the_order_asked_for(history):
    """The projection's order is the request's, not the schema's."""
    assert ["l", "id"] == history.scan({"columns": ["l", "id"]}).schema.names
    assert [0, 1, 2] == sorted(history.scan({"columns": ["l", "id"]}).column("id").to_pylist())


def test_fields_of_a_struct_can_be_chosen(history):
    """``s.b`` gives the struct with one field; two of them give one column."""
    assert [{"s": {"b": "b0"}}] == history.rows({"columns": ["s.b"], "ref": "v1"})
    assert [{"s": {"a": 0, "b": "b0"}, "id": 0}] == history.rows(
        {"columns": ["s.b", "id", "s.a"], "ref": "v1"}
    )


@pytest.mark.parametrize("columns", [["s", "s.a"], ["s.a", "s"], ["s.a", "s.a"], ["id", "id"]])
def test_a_column_named_twice_is_refused(history, columns):
    """A column and one of its fields count as a repetition, too."""
    refused = history.resolve({"columns": columns})
    assert isinstance(refused, Refused)
    assert Reason.BAD_REQUEST is refused.reason
    assert ("columns", 1) == refused.loc[3:]


def test_columns_only_filtered_on_are_read_and_left_out(history):
    """Columns of filters follow the projected ones in a segment, and are not in the result."""
    plan = history.plan({"columns": ["x"], "filters": [{"column": "id", "op": ">", "value": 0}]})
    assert ["x", "id"] == segment_schema(plan, plan.segment_fields).names
    assert ["x"] == plan.scan.arrow_schema.names
    assert not plan.passthrough


def test_a_filter_on_a_sibling_field_widens_the_struct_for_reading_only(history):
    """``s.a`` is read for the filter, and the result has ``s`` with ``b`` only."""
    params = {"columns": ["s.b"], "filters": [{"column": "s.a", "op": "=", "value": 1}]}
    assert [{"s": {"b": "b1"}}] == history.rows(params)
    assert 1 == len(history.plan(params).segment_fields)


def test_a_filter_inside_a_list_is_refused_and_on_a_whole_one_only_for_null(history):
    """Lists have no single value to compare."""
    for condition in ({"column": "l.element", "op": "=", "value": 1}, {"column": "l", "op": "=", "value": 1}):
        refused = history.resolve({"filters": [condition]})
        assert isinstance(refused, Refused)
        assert Reason.BAD_REQUEST is refused.reason
    assert [0, 1, 2] == history.where("l", "is not null")


def test_the_version_names_table_snapshot_and_schema(history):
    """The version changes with whatever changes the rows, and with nothing else."""
    versions = [history.resolve({"snapshot_id": one.snapshot_id}).version for one in history.snapshots]
    assert 3 == len(set(versions))
    assert versions[2] == history.resolve({}).version == history.resolve({"columns": ["id"]}).version
    with history.table().transaction() as transaction:
        transaction.set_properties({"comment": "x"})
    assert versions[2] == history.resolve({}).version


def test_equal_looking_values_of_different_types_are_resolved_apart(history):
    """1 and true are equal in Python; as filter values one is an integer and the other is refused."""
    table = history.resolve({}).table
    scan = resolve_scan(table, ScanSpec(filters=(Filter("id", "=", 1),)))
    assert isinstance(scan, ResolvedScan)
    refused = resolve_scan(table, ScanSpec(filters=(Filter("id", "=", value=True),)))
    assert isinstance(refused, Refused)


def test_a_plan_serves_other_columns_of_the_same_filter(history):
    """The file list does not depend on the projection, and the plan keys are equal."""
    condition = [{"column": "id", "op": ">", "value": 0}]
    plan = history.plan({"filters": condition})
    scan = history.resolve({"columns": ["x"], "filters": condition})
    assert plan.plan_key == scan.plan_key
    again = plan.for_scan(scan)
    assert again.files is plan.files
    assert ["x"] == history.run(again).schema.names
    with pytest.raises(ValueError, match="different files"):
        plan.for_scan(history.resolve({}))


def test_result_types_are_those_of_pyicebergs_batch_reader(history):
    """Field for field, without field ids."""
    oracle = history.table().scan().to_arrow_batch_reader().schema
    ours = history.resolve({}).arrow_schema
    assert oracle.names == ours.names
    assert [str(field.type) for field in oracle] == [str(field.type) for field in ours]
    assert not any(field.metadata for field in ours)
    assert pa.large_string() == ours.field("s").type.field("b").type


def test_an_append_keeps_the_cache_identity_of_old_files(history):
    """File keys do not depend on the snapshot."""
    before = {file.path: file.file_key for file in history.plan({}).files}
    history.append([{**row(9), "new": "n"}])
    after = {file.path: file.file_key for file in history.plan({}).files}
    assert before.items() <= after.items()
    assert len(before) + 1 == len(after)


def test_sizes_bound_what_is_read(history):
    """``min_bytes`` never exceeds the Arrow bytes, and is positive when the rows are known."""
    plan = history.plan({"columns": ["id", "x"]})
    assert 3 * 16 == plan.min_bytes
    assert plan.min_bytes <= history.scan({"columns": ["id", "x"]}).nbytes
    assert plan.estimated_bytes >= plan.min_bytes
    assert history.plan({}).min_bytes <= history.scan({}).nbytes
    assert 0 == history.plan({"filters": [{"column": "id", "op": ">", "value": 0}]}).min_bytes

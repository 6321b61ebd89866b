import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFileContent
from pyiceberg.transforms import IdentityTransform

from strata.demo.positional import delete_rows

ROWS = pa.table(
    {"id": pa.array(range(20), pa.int64()), "part": pa.array([i % 2 for i in range(20)], pa.int32())}
)


@pytest.fixture
def table(tmp_path):
    catalog = SqlCatalog("strata", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path))
    catalog.create_namespace("db")
    table = catalog.create_table(
        "db.t", ROWS.schema, properties={"format-version": "2", "write.parquet.row-group-limit": "4"}
    )
    with table.update_spec() as update:
        update.add_field("part", IdentityTransform())
    table.append(ROWS)
    yield table
    catalog.engine.dispose()


def ids(table, **scan):
    return sorted(table.scan(**scan).to_arrow()["id"].to_pylist())


def test_exactly_the_rows_of_the_condition_are_gone_and_the_past_keeps_them(table):
    """Positions count from the file's start, across row groups, in each partition's own delete file."""
    before = table.current_snapshot().snapshot_id
    deleted = delete_rows(table, (pc.field("id") > 4) & (pc.field("id") < 15), columns=["id"])

    assert deleted == 10
    assert [0, 1, 2, 3, 4, 15, 16, 17, 18, 19] == ids(table)
    assert list(range(20)) == ids(table, snapshot_id=before)


def test_the_delete_is_one_snapshot_of_delete_files_and_rewrites_nothing(table):
    """One delete file per partition, with the specified field ids, counted in the snapshot's summary."""
    data_files = {task.file.file_path for task in table.scan().plan_files()}
    delete_rows(table, pc.field("id") < 4, columns=["id"])
    tasks = list(table.scan().plan_files())
    delete_files = {file for task in tasks for file in task.delete_files}
    summary = table.current_snapshot().summary.additional_properties

    assert data_files == {task.file.file_path for task in tasks}
    assert len(delete_files) == 2
    assert {file.content for file in delete_files} == {DataFileContent.POSITION_DELETES}
    assert (summary["added-position-deletes"], summary["added-delete-files"]) == ("4", "2")
    for file in delete_files:
        schema = pq.read_schema(file.file_path)
        assert [b"2147483546", b"2147483545"] == [field.metadata[b"PARQUET:field_id"] for field in schema]


def test_later_appends_are_not_touched_by_earlier_deletes(table):
    """A delete applies to existing files only, even where a new row meets the condition."""
    delete_rows(table, pc.field("id") < 18, columns=["id"])
    table.append(ROWS.slice(0, 1))

    assert [0, 18, 19] == ids(table)


def test_deleting_nothing_makes_no_snapshot(table):
    """A condition without rows leaves the table unchanged."""
    before = table.current_snapshot()

    assert delete_rows(table, pc.field("id") > 100, columns=["id"]) == 0
    assert before == table.current_snapshot()

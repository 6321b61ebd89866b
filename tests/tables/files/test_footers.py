"""Footers: the column layout shared by files is computed once, and never mistaken for another file's."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType, StructType

from strata.outcomes import RefusalError
from strata.tables import expand_file
from strata.tables.files import footers as footers_module
from strata.tables.files.footers import FooterCache

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "s", StructType(NestedField(3, "a", LongType(), required=False)), required=False),
)


@pytest.fixture
def worked_out(monkeypatch) -> list[pa.Schema]:
    """Collect the Arrow schemas for which a column layout was computed."""
    seen = []
    real = footers_module.file_fields

    def noted(schema, *args, **kwargs):
        seen.append(schema)
        return real(schema, *args, **kwargs)

    monkeypatch.setattr(footers_module, "file_fields", noted)
    return seen


def expand_all(warehouse) -> None:
    plan = warehouse.plan({})
    for file in plan.files:
        assert isinstance(expand_file(plan, file), tuple)


def test_the_columns_of_equal_files_are_worked_out_once(warehouse, worked_out):
    """One layout serves equal files of all tables; a file with one more column has its own."""
    for name in ("t", "u"):
        warehouse.create(SCHEMA, name)
        for at in range(3):
            warehouse.append([{"id": at, "s": {"a": at}}], name)
    plan = warehouse.plan({}, "u")
    expand_all(warehouse)
    assert 1 == len(worked_out)
    for file in plan.files:
        expand_file(plan, file)
    assert 1 == len(worked_out)
    with warehouse.table().update_schema() as change:
        change.add_column("more", StringType())
    warehouse.append([{"id": 9, "s": {"a": 9}, "more": "x"}])
    expand_all(warehouse)
    assert 2 == len(worked_out)
    assert ["x", None] == [row["more"] for row in warehouse.rows()][:2]


def test_another_id_or_format_version_is_another_column(warehouse, tmp_path):
    """Files may agree in all names and types and differ in field ids."""
    cache, table = FooterCache(), warehouse.create(SCHEMA)
    found = []
    for number, (field_id, version) in enumerate([(1, 2), (7, 2), (1, 3), (1, 2)]):
        path = tmp_path / f"{number}.parquet"
        field = pa.field("id", pa.timestamp("ns"), metadata={"PARQUET:field_id": str(field_id)})
        pq.write_table(pa.table({"id": pa.array([1000 * number], field.type)}, pa.schema([field])), path)
        metadata = table.metadata.model_copy(update={"format_version": version})
        [column] = cache.get((number,), table.io, str(path), path.stat().st_size, metadata).fields
        found.append((column.field_id, str(column.field_type)))
    assert [(1, "timestamp"), (7, "timestamp"), (1, "timestamp_ns"), (1, "timestamp")] == found


def test_a_file_whose_footer_contradicts_itself_is_refused(warehouse, monkeypatch):
    """A contradictory footer is refused, even if another file has its layout cached."""
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 1, "s": {"a": 1}}])
    table, [path] = warehouse.table(), warehouse.data_files()
    cache, size = FooterCache(), Path(path.removeprefix("file://")).stat().st_size
    assert (range(1), range(1, 2)) == cache.get((1,), table.io, path, size, table.metadata).leaves
    real = pq.ParquetFile

    class Short(real):
        @property
        def metadata(self):
            return pq.read_metadata(short)

    short = Path(warehouse.directory, "short.parquet")
    pq.write_table(pa.table({"id": [1]}), short)
    monkeypatch.setattr(footers_module.pq, "ParquetFile", Short)
    with pytest.raises(RefusalError) as refused:
        cache.get((2,), table.io, path, size, table.metadata)
    assert "data_unreadable" == refused.value.refused.code

"""Manifests read with cached Avro readers equal those that pyiceberg reads."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import read_manifest_list
from pyiceberg.types import LongType

from strata.outcomes import RefusalError
from strata.tables.files import avro
from strata.tables.plan.manifests import read_entries, read_manifests


@pytest.fixture
def table(tmp_path: Path):
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=str(tmp_path))
    catalog.create_namespace("db")
    made = catalog.create_table("db.t", schema=pa.schema([("id", pa.int64()), ("name", pa.string())]))
    for start in range(5):
        made.append(pa.table({"id": pa.array([start, start + 1]), "name": pa.array(["a", None])}))
    return made


def test_a_writers_schema_is_worked_out_once(table) -> None:
    """Manifests with equal headers share one reader and give pyiceberg's entries."""
    avro._reader.cache_clear()
    location = table.current_snapshot().manifest_list
    manifests = list(read_manifests(table.io, location))
    expected = list(read_manifest_list(table.io.new_input(location)))
    assert [m._data for m in expected] == [m._data for m in manifests]
    assert 5 == len(manifests)

    for manifest in manifests:
        [entry] = read_entries(table.io, manifest, metrics=True)
        [known] = manifest.fetch_manifest_entry(table.io)
        assert known.data_file.file_path == entry.path
        assert known.data_file.record_count == entry.record_count
        assert known.data_file.lower_bounds == entry.metrics.lower
        assert known.sequence_number == entry.sequence_number
    found = avro._reader.cache_info()
    assert (4, 2) == (found.hits, found.misses)


def test_another_writers_schema_is_another_reader(table) -> None:
    """A table may have manifests of two versions of a writer."""
    avro._reader.cache_clear()
    manifests = list(read_manifests(table.io, table.current_snapshot().manifest_list))
    with table.update_schema() as change:
        change.add_column("more", LongType())
    with table.update_spec() as change:
        change.add_identity("id")
    table.append(pa.table({"id": [7], "name": ["x"], "more": [1]}))
    newest = list(read_manifests(table.io, table.current_snapshot().manifest_list))
    [entry] = [e for m in newest for e in read_entries(table.io, m, metrics=False) if e.partition]
    assert (7,) == entry.partition
    for manifest in manifests:
        assert () == next(read_entries(table.io, manifest, metrics=False)).partition


def test_a_file_without_a_schema_is_refused(table, tmp_path: Path) -> None:
    """A truncated or foreign file is refused by name and crashes nothing."""
    path = tmp_path / "broken.avro"
    for content in (b"", b"Obj\x01", b"Obj\x01\x00" + bytes(16), b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(RefusalError):
            list(read_manifests(table.io, str(path)))

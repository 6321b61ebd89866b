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
        [entry] = read_entries(table.io, manifest, None, metrics=True)
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
    [entry] = [e for m in newest for e in read_entries(table.io, m, None, metrics=False) if e.partition]
    assert (7,) == entry.partition
    for manifest in manifests:
        assert () == next(read_entries(table.io, manifest, None, metrics=False)).partition


def test_a_file_without_a_schema_is_refused(table, tmp_path: Path) -> None:
    """A truncated or foreign file is refused by name and crashes nothing."""
    path = tmp_path / "broken.avro"
    for content in (b"", b"Obj\x01", b"Obj\x01\x00" + bytes(16), b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(RefusalError):
            list(read_manifests(table.io, str(path)))


def test_a_partition_of_doubles_keeps_all_of_their_bits(tmp_path: Path) -> None:
    """A value between two 32-bit numbers is found again by an equal filter on its partition."""
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path / 'c.db'}", warehouse=str(tmp_path))
    catalog.create_namespace("db")
    made = catalog.create_table("db.d", schema=pa.schema([("x", pa.float64())]))
    with made.update_spec() as change:
        change.add_identity("x")
    made.append(pa.table({"x": [1 / 3]}))
    [manifest] = read_manifests(made.io, made.current_snapshot().manifest_list)
    [entry] = read_entries(made.io, manifest, None, metrics=False)
    assert (1 / 3,) == entry.partition


def test_a_manifest_that_breaks_off_anywhere_is_refused(table) -> None:
    """No beginning of a manifest is taken for all of it, not even one that ends after a block.

    Avro's container has no end mark (Avro specification, "Object Container Files"); the manifest list says how
    long each manifest is.
    """
    manifest = next(read_manifests(table.io, table.current_snapshot().manifest_list))
    path = Path(manifest.manifest_path.removeprefix("file://"))
    whole = path.read_bytes()
    size = len(whole)
    for end in range(0, size, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(RefusalError, match=path.name):
            list(read_entries(table.io, manifest, None, metrics=True))


def test_a_manifest_list_that_breaks_off_in_a_block_is_refused(table) -> None:
    """A manifest list whose length is not known is whole only where it ends after a block's marker."""
    location = table.current_snapshot().manifest_list
    path = Path(location.removeprefix("file://"))
    whole = path.read_bytes()
    for end in range(whole.index(whole[-16:]) + 17, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(RefusalError, match=path.name):
            list(read_manifests(table.io, location))


def test_a_changed_byte_of_a_manifest_never_ends_the_process(table) -> None:
    """Every eleventh byte of a manifest changed in turn: it is read or refused by name."""
    manifest = next(read_manifests(table.io, table.current_snapshot().manifest_list))
    path = Path(manifest.manifest_path.removeprefix("file://"))
    whole = path.read_bytes()
    refused = []
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(read_entries(table.io, manifest, None, metrics=True))
        except RefusalError as error:
            refused.append(error.refused.detail)
    assert len(refused) > len(whole) // 22
    assert {f"The manifest {path.name} is missing or damaged"} == set(refused)


def test_names_of_records_are_not_spelt_out() -> None:
    """A schema of 60 records that each mention the one before twice would grow to 2⁶⁰."""
    kind: dict[str, object] = {"type": "record", "name": "r0", "fields": []}
    for at in range(1, 61):
        both = [{"name": "a", "type": kind}, {"name": "b", "type": f"r{at - 1}"}]
        kind = {"type": "record", "name": f"r{at}", "fields": both}
    assert kind == avro._spelt_out(kind, {})


def test_a_type_of_a_fixed_size_is_found_by_its_full_name() -> None:
    """With its namespace, inside lists and unions (Avro specification, "Names")."""
    fixed = {"type": "fixed", "name": "d", "namespace": "x.y", "size": 4}
    named = {"type": "array", "items": ["null", "x.y.d"]}
    found = avro._spelt_out([fixed, named, "d"], {})
    assert [fixed, {"type": "array", "items": ["null", fixed]}, fixed] == found

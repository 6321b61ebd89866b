"""A table that is read by reference names no file, address or class that its writers may not use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, ManifestFile
from pyiceberg.table import Table
from service_kit import Warehouse

from strata.cli.executor import executor as command
from strata.executor.cluster.places import OutsidePlaceError, table_at, warehouse_at
from strata.executor.cluster.tables import NotExactError, open_exact
from strata.executor.protocol.messages import (
    ICEBERG_FORMAT,
    BuildDescription,
    DescriptionError,
    InputHead,
    parse_description,
)
from strata.executor.sidecar.builds import BuildLimits, BuildRunner, DaftEngine
from strata.tables.files.confined import ConfinedFileIO

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64())})
ROOTED = pytest.mark.parametrize("rooted", ["warehouse", ""], ids=["warehouse", "location"])


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    path = tmp_path / "warehouse"
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


def opened(table: Table, location: str, root: str | None) -> Any:
    return open_exact(location, table.metadata.current_snapshot_id, {"s3.region": "here"}, root)


def changed(table: Table, change: Callable[[dict], None], name: str = "changed.metadata.json") -> str:
    """Return the location of a copy of a table's metadata file with a change."""
    found = Path(table.metadata_location.removeprefix("file://"))
    metadata = json.loads(found.read_text())
    change(metadata)
    other = found.with_name(name)
    other.write_text(json.dumps(metadata))
    return str(other)


@ROOTED
def test_the_properties_of_a_table_change_nothing(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rooted: str
) -> None:
    """No class of its is imported, and no address of its is used: Daft takes both from the file system."""
    evil = tmp_path / "site"
    evil.mkdir()
    (evil / "evil_io.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(evil))
    table = warehouse.create(ROWS)
    own = {"py-io-impl": "evil_io.Evil", "s3.endpoint": "http://evil", "s3.access-key-id": "x"}
    location = changed(table, lambda metadata: metadata["properties"].update(own))
    found = opened(table, location, str(warehouse.path) if rooted else None)
    assert ({} if rooted else {"s3.region": "here"}) == dict(found.io.properties)
    assert bool(rooted) == isinstance(found.io, ConfinedFileIO)
    assert 1 == len([*found.scan().plan_files()])
    assert "evil_io" not in sys.modules
    assert not (tmp_path / "ran").exists()


def test_no_class_is_named_by_properties(warehouse: Warehouse, tmp_path: Path) -> None:
    """Not by the operator's either: the command says so, and the engine refuses it."""
    table = warehouse.create(ROWS)
    with pytest.raises(NotExactError, match="py-io-impl"):
        open_exact(table.metadata_location, 1, {"py-io-impl": "evil_io.Evil"})
    (tmp_path / "properties").write_text('{"py-io-impl": "evil_io.Evil"}')
    arguments = ["--engine", "daft", "--properties", str(tmp_path / "properties")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda _: object())
        answer = CliRunner().invoke(command, arguments)
    assert (1, True) == (answer.exit_code, "py-io-impl" in answer.output)


@ROOTED
@pytest.mark.parametrize("what", ["metadata file", "manifest list", "manifest", "data file"])
def test_a_file_outside_is_not_opened(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rooted: str, what: str
) -> None:
    """Of another place, by a link, or by ``..``: its rows are sent instead."""
    table = warehouse.create(ROWS)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    [manifest] = snapshot.manifests(table.io)
    [entry] = manifest.fetch_manifest_entry(table.io)
    named = {
        "metadata file": table.metadata_location,
        "manifest list": snapshot.manifest_list,
        "manifest": manifest.manifest_path,
        "data file": entry.data_file.file_path,
    }
    inside = Path(named[what].removeprefix("file://"))
    outside = tmp_path / "elsewhere" / "metadata" / inside.name
    outside.parent.mkdir(parents=True)
    inside.rename(outside)
    root = str(warehouse.path) if rooted else None

    def refused(location: str) -> None:
        with pytest.raises(NotExactError, match=r"outside of its warehouse|not below its location|has \.\."):
            opened(table, location, root)

    steps = "../" * len(inside.parent.relative_to(tmp_path).parts)
    for path in (str(outside), f"{inside.parent}/{steps}elsewhere/metadata/{inside.name}"):
        if what == "metadata file":
            refused(path)
        elif what == "manifest list":
            own = {"manifest-list": path}
            refused(changed(table, lambda found, own=own: found["snapshots"][-1].update(own)))
        else:
            kind, name = (ManifestFile, "manifest_path") if what == "manifest" else (DataFile, "file_path")
            with monkeypatch.context() as patch:  # each manifest list, or each manifest, names it
                patch.setattr(kind, name, property(lambda _, path=path: path))
                refused(table.metadata_location)
    inside.symlink_to(outside)
    refused(table.metadata_location)


def test_a_table_of_another_warehouse_is_not_named(warehouse: Warehouse, tmp_path: Path) -> None:
    """Whole tables are confined, too; and a table is not wider than its own directory."""
    table = warehouse.create(ROWS)
    (tmp_path / "other").mkdir()
    with pytest.raises(NotExactError, match="outside"):
        opened(table, table.metadata_location, str(tmp_path / "other"))
    with pytest.raises(NotExactError, match="absolute"):
        opened(table, table.metadata_location, "")
    wide = changed(table, lambda metadata: metadata.update(location=str(warehouse.path)))
    with pytest.raises(NotExactError, match="location"):
        opened(table, wide, None)
    assert opened(table, wide, str(warehouse.path))


OUTSIDE = [
    "s3://bucket/db/other/data/a.parquet",
    "s3://bucket/db/table2/a.parquet",
    "s3://bucket/db/table/../other/a.parquet",
    "s3://bucket/db/table/%2e%2e/other/a.parquet",
    "s3://bucket/db/table/%252e%252e/other/a.parquet",
    "s3://bucket/db/table/x%2F..%2F..%2Fother",
    "s3://bucket/db/table/.\t./other/a.parquet",
    "s3://bucket/db/table\\..\\other",
    "s3://bucket/db/table/a?b",
    "s3://bucket2/db/table/a.parquet",
    "s3://user@bucket/db/table/a.parquet",
    "s3a://bucket/db/table/a.parquet",
    "S3://bucket/db/table/a.parquet",
    "http://bucket/db/table/a.parquet",
    "/db/table/a.parquet",
    "file:///db/table/a.parquet",
    "file://bucket/db/table/a.parquet",
    "file:/db/table/a.parquet",
    "//bucket/db/table/a.parquet",
    "db/table/a.parquet",
    "s3:///bucket/db/table/a.parquet",
    " s3://bucket/db/table/a.parquet",
    "s3://bucket/db/table/a.parquet ",
    "",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_a_table_in_a_store_has_its_own_directory(location: str) -> None:
    """Scheme, bucket and prefix; what two clients could read in two ways is outside."""
    place = table_at("s3://bucket/db/table/metadata/1.metadata.json")
    place.check_table("s3://bucket/db/table/")
    place.check("s3://bucket/db/table/data/day=2024%2F01/a.parquet")
    with pytest.raises(OutsidePlaceError):
        place.check(location)
    with pytest.raises(OutsidePlaceError):
        place.check_table("s3://bucket/db")


@pytest.mark.parametrize(
    "location", ["s3://bucket/metadata/1.json", "/metadata/1.json", "s3://bucket/db/1.json"]
)
def test_a_table_is_no_whole_bucket(location: str) -> None:
    """Nor the whole file system, nor a folder whose name says nothing."""
    with pytest.raises(OutsidePlaceError, match="metadata"):
        table_at(location)
    warehouse_at("/data").check("/data/db/1.json")


PROBE = """
import json, resource, sys
from pathlib import Path
from strata.executor.cluster.daft_job import bound
missing = bound(json.loads(sys.argv[1]))
found = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] for name in ("DATA", "FSIZE", "CPU")}
found["oom"] = int(Path("/proc/self/oom_score_adj").read_text())
print(json.dumps([missing, found]))
"""


@pytest.mark.parametrize("ray", [None, "127.0.0.1:6379"])
def test_the_process_of_a_query_is_bounded_unless_it_is_on_ray(tmp_path: Path, ray: str | None) -> None:
    """By the executor's memory, processor time and size of files, in the kernel."""
    limits = BuildLimits(seconds=20, threads=2, memory_bytes=1 << 30, spill_bytes=3 << 30)
    runner = BuildRunner(limits, tmp_path, DaftEngine(ray))
    job = runner._job(BuildDescription("b", "sql@v1", {"sql": "SELECT 1"}, []))
    run = subprocess.run(  # our own program
        [sys.executable, "-c", PROBE, json.dumps(job)], capture_output=True, text=True, check=True
    )
    missing, found = json.loads(run.stdout)
    assert [] == missing
    bounded = (3 << 30, 50, 1000)
    assert (ray is None) == (bounded == (found["FSIZE"], found["CPU"], found["oom"]))
    assert (ray is None) == ((2 << 30) <= found["DATA"] < (4 << 30))


def test_a_root_must_be_an_absolute_path() -> None:
    """An executor that is told of none that it understands reads nothing, instead of everything."""
    for root in ("", "data", None, 5, "/a"):
        table = {"metadata_location": "/a/metadata/1.json", "snapshot_id": 1, "root": root}
        sent = BuildDescription("b", "sql@v1", {}, [InputHead("input0", ICEBERG_FORMAT, table=table)])
        text = json.dumps(sent.as_json()).encode()
        if root == "/a":
            assert table == parse_description(text).inputs[0].table
            continue
        with pytest.raises(DescriptionError, match="root"):
            parse_description(text)

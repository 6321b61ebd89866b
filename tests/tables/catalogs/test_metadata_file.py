"""Metadata files of any release and engine are read; what a scan does not need cannot spoil them."""

import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import plan_files
from strata.tables.catalogs import json_pieces, metadata_file
from strata.tables.catalogs.metadata_file import read_metadata_file
from strata.tables.catalogs.unsupported import MOST_NESTED

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False), NestedField(2, "a", StringType(), required=False)
)
SPEC = PartitionSpec(
    PartitionField(2, 1000, IdentityTransform(), "a"), PartitionField(1, 1001, BucketTransform(4), "b")
)


@pytest.fixture
def written(warehouse) -> dict[str, Any]:
    """The JSON of a table of format version 1 with one snapshot."""
    warehouse.create(SCHEMA, properties={"format-version": "1"}, partition_spec=SPEC)
    table = warehouse.append([{"id": 1, "a": "x"}])
    return json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())


def read(folder: Path, found: dict[str, Any] | bytes, name: str = "m.metadata.json"):
    path = folder / name
    path.write_bytes(found if isinstance(found, bytes) else json.dumps(found).encode())
    return read_metadata_file(PyArrowFileIO().new_input(f"file://{path}"))


def refused(folder: Path, found: dict[str, Any] | bytes) -> str:
    with pytest.raises(RefusalError) as caught:
        read(folder, found)
    assert Reason.UNSUPPORTED is caught.value.refused.reason
    return caught.value.refused.detail


def test_statistics_of_any_kind_are_passed_over(tmp_path: Path, written: dict[str, Any]) -> None:
    """Puffin blob types are open (Iceberg specification, "Table Statistics"): Presto has its own."""
    blob = {"type": "presto-sum-data-size-bytes-v1", "fields": ["x"], "anything": {}}
    written["statistics"] = [{"snapshot-id": 1, "blob-metadata": [blob]}]
    written["partition-statistics"] = [{"statistics-path": 7}]
    assert 1 == len(read(tmp_path, written).metadata.snapshots)


def test_an_unknown_operation_of_a_snapshot_is_passed_over(tmp_path: Path, written: dict[str, Any]) -> None:
    """A snapshot's summary describes what was done, not what the table holds."""
    written["snapshots"][0]["summary"] = {"operation": "compact", "more": "x"}
    assert 1 == len(read(tmp_path, written).metadata.snapshots)


@pytest.mark.parametrize("name", ["v3.metadata.json.gz", "3.gz.metadata.json", "m.metadata.json"])
def test_a_packed_file_is_known_by_its_bytes(tmp_path: Path, written: dict[str, Any], name: str) -> None:
    """Hadoop tables end in ``.metadata.json.gz``, others in ``.gz.metadata.json``."""
    found = read(tmp_path, gzip.compress(json.dumps(written).encode()), name)
    assert written["table-uuid"] == str(found.metadata.table_uuid)


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than the limit is unpacked; neither is a file that breaks off taken for whole."""
    data = json.dumps(written).encode()
    monkeypatch.setattr(metadata_file, "MOST_BYTES", len(data) - 1)
    for found in (data, gzip.compress(data)):
        assert f"more than {len(data) - 1} bytes" in refused(tmp_path, found)
    monkeypatch.setattr(metadata_file, "MOST_BYTES", len(data))
    assert read(tmp_path, data).metadata.snapshots
    with pytest.raises(ValueError, match="breaks off"):
        read(tmp_path, gzip.compress(data)[:-9])
    assert read(tmp_path, gzip.compress(data)).metadata.snapshots
    packed = pa.Codec("zstd").compress(data, asbytes=True)
    assert read(tmp_path, packed).metadata.snapshots
    with pytest.raises(OSError, match="Truncated"):
        read(tmp_path, packed[:-9])
    monkeypatch.setattr(metadata_file, "MOST_BYTES", len(data) - 1)
    assert "has more" in refused(tmp_path, packed)


@pytest.mark.parametrize("key", list(metadata_file.MOST_ITEMS))
def test_more_items_than_can_be_read_are_refused(
    tmp_path: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A list of a metadata file is bounded, and the refusal says which and how."""
    if key.endswith("statistics"):
        written[key] = [{}]
    items = written[key]
    monkeypatch.setitem(metadata_file.MOST_ITEMS, key, len(items))
    assert read(tmp_path, written).metadata.snapshots
    if isinstance(items, dict):
        items["one-more"] = next(iter(items.values()), "x")
    else:
        items.append(items[0])
    assert f"more than {len(items) - 1} {key}" in refused(tmp_path, written)


def test_large_files_are_parsed_one_at_a_time(
    tmp_path: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes many times its bytes; one that has no turn in time is refused, and small ones need none."""
    monkeypatch.setattr(metadata_file, "TURN_SECONDS", 0.0)
    with metadata_file._one_large:
        assert read(tmp_path, written).metadata.snapshots
        monkeypatch.setattr(metadata_file, "LARGE_BYTES", 10)
        with pytest.raises(RefusalError) as caught:
            read(tmp_path, written)
        assert (Reason.UNAVAILABLE, "metadata_busy") == (
            caught.value.refused.reason,
            caught.value.refused.code,
        )
    assert read(tmp_path, written).metadata.snapshots
    assert "more than" in refused(tmp_path, written | {"snapshots": [{}] * 100_001})
    assert read(tmp_path, written).metadata.snapshots, "a refused file has given its turn back"


def test_a_packed_file_is_weighed_unpacked(warehouse) -> None:
    """Packed it may be a thousandth of what it takes in the cache."""
    warehouse.create(SCHEMA, properties={"padding": "x" * 500_000})
    table = warehouse.append([{"id": 1, "a": "x"}])
    path = Path(table.metadata_location.removeprefix("file://"))
    data = path.read_bytes()
    path.write_bytes(gzip.compress(data))
    catalogs = warehouse.catalogs
    assert not isinstance(catalogs.load(catalogs.resolve(warehouse.uri())), Refused)
    assert catalogs._tables.weight >= 16 * len(data) > 1000 * path.stat().st_size


@pytest.mark.parametrize("part", ["element", "key", "value", "field"])
def test_types_within_each_other_are_bounded(tmp_path: Path, written: dict[str, Any], part: str) -> None:
    """Each level takes of the stack of the thread that reads it, and of each that plans with it later."""

    def nested(levels: int) -> Any:
        kind: Any = "long"
        for at in range(levels - 1):
            match part:
                case "element":
                    kind = {
                        "type": "list",
                        "element": kind,
                        "element-id": 100 + at,
                        "element-required": False,
                    }
                case "field":
                    fields = [{"id": 100 + at, "name": "f", "type": kind, "required": False}]
                    kind = {"type": "struct", "fields": fields}
                case _:
                    ids = {"key-id": 100 + 2 * at, "value-id": 101 + 2 * at, "value-required": False}
                    kind = {"type": "map", "key": "int", "value": "int", **ids, part: kind}
        return kind

    for schema in (written["schema"], *written["schemas"]):
        schema["fields"][0]["type"] = nested(MOST_NESTED)
    assert read(tmp_path, written).metadata.schema().fields
    for schema in (written["schema"], *written["schemas"]):
        schema["fields"][0]["type"] = nested(MOST_NESTED + 1)
    assert f"more than {MOST_NESTED} types within each other" in refused(tmp_path, written)


@pytest.mark.parametrize(
    "odd",
    [
        *("[" * 500_000, '{"a":' * 500_000, "9" * 500_000, "-1e999999999", '"' + "\\ud800" * 100_000 + '"'),
        *('{"type": "list", "element": ' * 100_000, "NaN", '{"a": 1, "a": 2}', "[[[]" * 100_000),
    ],
)
@pytest.mark.parametrize("key", ["schemas", "snapshots", "properties", "current-schema-id", "location"])
def test_a_hostile_metadata_file_is_refused_and_ends_nothing(
    warehouse, written: dict[str, Any], key: str, odd: str
) -> None:
    """Nesting, numbers and texts of any size: the table is refused or read, and its file is named."""
    path = Path(warehouse.table().metadata_location.removeprefix("file://"))
    text = json.dumps({one: value for one, value in written.items() if one != key})
    path.write_text(f'{{"{key}": {odd}, {text[1:]}', encoding="utf-8")
    found = warehouse.resolve({})
    if isinstance(found, Refused):
        assert path.name in found.detail or found.reason is Reason.UNSUPPORTED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)
DEEP = {"schemas": 3, "a": 2}


def outcome_of(call: Any, *args: Any) -> str:
    try:
        return repr(call(*args))
    except ValueError:
        return "no JSON"


@given(
    st.dictionaries(st.sampled_from(["schemas", "a", "b"]), JSON) | JSON,
    st.sampled_from([None, 1]),
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 3), st.sampled_from(["", *'[]{},:" \n\u00a01a\\'])),
        max_size=2,
    ),
)
def test_json_in_pieces_is_json(value: Any, indent: int | None, changes: list[tuple[int, int, str]]) -> None:
    """The same values for a valid text, and no value where there is an error."""
    text = json.dumps(value, indent=indent)
    for at, length, put in changes:
        text = text[:at] + put + text[at + length :]
    expected = outcome_of(json.loads, text)
    with mock.patch.object(json_pieces, "LARGE", 0):
        assert expected == outcome_of(json_pieces.parse_json, text, DEEP)


def test_no_large_part_of_a_metadata_file_is_parsed_at_once(
    tmp_path: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that parses a text holds the interpreter; the largest is a column's or a snapshot's."""
    field, snapshot = written["schema"]["fields"][1], written["snapshots"][0]
    wide = [field | {"id": at + 3, "name": f"c{at}"} for at in range(3_000)]
    for schema in (written["schema"], *written["schemas"]):
        schema["fields"] += wide
    written["snapshots"] = [snapshot | {"snapshot-id": at + 1} for at in range(3_000)]
    written["current-snapshot-id"], written["refs"], written["snapshot-log"] = 1, {}, []
    sizes = []

    class Recording(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
            value, end = super().raw_decode(s, idx)
            sizes.append(end - idx)
            return value, end

    monkeypatch.setattr(json_pieces, "_AT_ONCE", Recording())
    found = read(tmp_path, written).metadata
    assert (3_002, 3_000) == (len(found.schema().fields), len(found.snapshots))
    assert max(sizes) < 2_000
    assert sum(sizes) > 600_000


def test_partition_fields_without_ids_are_numbered_from_1000(tmp_path: Path, written: dict[str, Any]) -> None:
    """As the first releases numbered them (Iceberg specification, "Partition Evolution", version 1)."""
    for fields in (written["partition-specs"][0]["fields"], written["partition-spec"]):
        for field in fields:
            del field["field-id"]
    del written["last-partition-id"]
    [spec] = read(tmp_path, written).metadata.partition_specs
    assert [("a", 1000), ("b", 1001)] == [(field.name, field.field_id) for field in spec.fields]


def test_a_snapshot_that_lists_its_manifests_is_planned_as_one_with_a_manifest_list(
    warehouse, tmp_path: Path, written: dict[str, Any]
) -> None:
    """Version 1 allows ``manifests`` in the place of ``manifest-list``; each manifest names its own spec."""
    [snapshot] = written["snapshots"]
    expected = warehouse.plan({})
    table = warehouse.table()
    listed = table.current_snapshot().manifests(table.io)
    snapshot["manifests"] = [manifest.manifest_path for manifest in listed]
    del snapshot["manifest-list"]
    file = read(tmp_path, written)
    assert {snapshot["snapshot-id"]: tuple(snapshot["manifests"])} == file.manifests

    scan = warehouse.resolve({"filters": [{"column": "a", "op": "=", "value": "x"}]})
    loaded = attrs.evolve(scan.table, metadata=file.metadata, inline_manifests=file.manifests)
    found = plan_files(attrs.evolve(scan, table=loaded))
    assert [task.path for task in expected.files] == [task.path for task in found.files]
    assert [{2: "x"}] == [dict(task.partition_values) for task in found.files]

"""What other engines write into manifests and statistics loses no row and brings none back."""

import io
import uuid
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.conversions import to_bytes
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    write_manifest,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform, VoidTransform
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    UUIDType,
)

from strata.outcomes import Reason, RefusalError
from strata.tables.plan.deletes import DeleteIndex
from strata.tables.plan.manifests import Entry, Metrics, read_entries, read_manifests
from strata.tables.plan.prune_by_statistics import (
    decode_bound,
    has_old_decimal_bounds,
    metrics_might_match,
    row_group_might_match,
)
from strata.tables.scan.predicates import Predicate

A = PartitionField(2, 1000, IdentityTransform(), "a")
B = PartitionField(3, 1001, IdentityTransform(), "b")
SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "a", StringType(), required=False),
    NestedField(3, "b", StringType(), required=False),
)


def entry(**more: object) -> Entry:
    plain = dict.fromkeys(field.name for field in attrs.fields(Entry))
    plain |= {"content": DataFileContent.DATA, "path": "d.parquet", "file_format": FileFormat.PARQUET}
    plain |= {"partition": (), "spec_id": 0, "sequence_number": 1, "record_count": 1, "size": 1}
    return Entry(**(plain | {"equality_ids": ()} | more))


@pytest.mark.parametrize(
    ("transforms", "applies"),
    [
        ([], True),
        ([VoidTransform()], True),
        ([VoidTransform(), VoidTransform()], True),
        ([VoidTransform(), BucketTransform(4)], False),
        ([IdentityTransform()], False),
    ],
)
def test_an_equality_delete_of_a_spec_with_one_partition_applies_to_all(
    transforms: list, *, applies: bool
) -> None:
    """A spec whose fields are all void is unpartitioned (Iceberg's PartitionSpec; apache/iceberg 14678)."""
    fields = [PartitionField(1, 1000 + at, one, f"f{at}") for at, one in enumerate(transforms)]
    specs = {0: PartitionSpec(A, spec_id=0), 1: PartitionSpec(*fields, spec_id=1)}
    index = DeleteIndex(specs)
    delete = {"content": DataFileContent.EQUALITY_DELETES, "equality_ids": (1,), "sequence_number": 2}
    index.add([entry(path="e.parquet", spec_id=1, partition=(None,) * len(fields), **delete)])
    found = index.for_data_file(entry(partition=("x",)))
    assert (["e.parquet"] if applies else []) == [delete.path for delete in found]


def manifest(folder: Path, spec: PartitionSpec, values: list[str]) -> SimpleNamespace:
    """Write a manifest of one file whose partition values are in the order of ``spec``."""
    path = f"file://{folder}/m.avro"
    file = DataFile.from_args(
        _table_format_version=2,
        content=DataFileContent.DATA,
        file_path="f.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(*values),
        record_count=1,
        file_size_in_bytes=1,
    )
    one = ManifestEntry.from_args(
        _table_format_version=2, status=ManifestEntryStatus.ADDED, snapshot_id=1, data_file=file
    )
    with write_manifest(2, spec, SCHEMA, PyArrowFileIO().new_output(path), 1, "null") as writer:
        writer.add_entry(one)
    return SimpleNamespace(
        manifest_path=path, manifest_length=0, sequence_number=1, partition_spec_id=spec.spec_id
    )


def test_partition_values_belong_to_fields_by_id(tmp_path: Path) -> None:
    """A writer may write them in any order (Iceberg specification, "Manifests", field 102)."""
    written = manifest(tmp_path, PartitionSpec(B, A), ["y", "x"])
    [found] = read_entries(PyArrowFileIO(), written, PartitionSpec(A, B), metrics=False)
    assert ("x", "y") == found.partition


def test_a_manifest_without_a_partition_value_is_refused_by_name(tmp_path: Path) -> None:
    """A value that was not written is unknown, not null."""
    written = manifest(tmp_path, PartitionSpec(A), ["x"])
    with pytest.raises(RefusalError) as caught:
        list(read_entries(PyArrowFileIO(), written, PartitionSpec(A, B), metrics=False))
    assert Reason.UNSUPPORTED == caught.value.refused.reason
    assert "The manifest m.avro lacks the values of partition field b" == caught.value.refused.detail


def metrics(**counts: int) -> Metrics:
    each = {name: {3: number} for name, number in counts.items()}
    return Metrics(*(each.get(name, {}) for name in ("values", "nulls", "nans", "lower", "upper")))


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ({"values": 1, "nulls": 0}, True),  # Java: the other row's struct is null
        ({"values": 2, "nulls": 0}, False),
        ({"values": 2, "nulls": 1}, True),
        ({"nulls": 0}, True),
        ({}, True),
    ],
)
def test_no_nulls_among_fewer_values_than_rows_proves_nothing(counts: dict[str, int], *, kept: bool) -> None:
    """Iceberg's Java library counts rows of a null struct neither as values nor as nulls of its fields."""
    is_null = Predicate(3, ("st", "y"), DoubleType(), "is null")
    assert kept == metrics_might_match(metrics(**counts), [is_null], rows=2)


def test_bounds_of_uuids_prune_nothing() -> None:
    """Java up to 1.10 orders them by two signed halves, in which 8… is below 0… (apache/iceberg 14216)."""
    low, high = uuid.UUID(int=1 << 127), uuid.UUID(int=5)
    bounds = Metrics({}, {}, {}, {1: to_bytes(UUIDType(), low)}, {1: to_bytes(UUIDType(), high)})
    wanted = Predicate(1, ("u",), UUIDType(), "=", (uuid.UUID(int=3).bytes,))
    assert metrics_might_match(bounds, [wanted], rows=9)
    assert decode_bound(UUIDType(), to_bytes(UUIDType(), low)) is None


@pytest.mark.parametrize(
    ("created_by", "old"),
    [
        ("parquet-mr version 1.8.2 (build c652)", True),
        ("parquet-mr version 1.9.0", True),
        ("parquet-mr version 1.10.0", False),
        ("parquet-mr version 1.13.1 (build db4)", False),
        ("parquet-cpp-arrow version 26.0.1", False),
        ("", True),
        (None, True),
    ],
)
def test_writers_whose_decimals_had_no_order(created_by: str | None, *, old: bool) -> None:
    """parquet-mr before 1.10 ordered decimals by signed bytes, in the fields that Arrow reads."""
    assert old == has_old_decimal_bounds(created_by)


@pytest.mark.parametrize(("precision", "pruned"), [(25, False), (9, True)])
def test_bounds_of_old_decimals_prune_only_integers(precision: int, *, pruned: bool) -> None:
    """Of old writers, decimals stored as bytes have bounds in no order, those stored as integers in theirs."""
    out = io.BytesIO()
    rows = pa.table({"d": pa.array([Decimal("1.00"), Decimal("2.00")], pa.decimal128(precision, 2))})
    pq.write_table(rows, out, store_decimal_as_integer=True)
    group = pq.ParquetFile(out).metadata.row_group(0)
    kind = DecimalType(precision, 2)
    beyond = (Predicate(1, ("d",), kind, "=", (Decimal("9.00"),)), kind, 0)
    assert not row_group_might_match(group, [beyond])
    assert pruned == (not row_group_might_match(group, [beyond], old_decimals=True))


def rewritten(io: PyArrowFileIO, kind, written: Schema, records: list[Record], path: str) -> list:
    with AvroOutputFile(io.new_output(path), written, "r", metadata={"format-version": "1"}) as out:
        out.write_block(records)
    return list(kind(path))


def test_a_manifest_list_of_2019_has_three_fields(tmp_path: Path) -> None:
    """Counts and summaries came later and are optional in version 1 (Iceberg specification, "Manifest Lists")."""
    fields = [field for field in MANIFEST_LIST_FILE_SCHEMAS[1].fields if field.field_id in {500, 501, 502}]
    io = PyArrowFileIO()
    path = f"file://{tmp_path}/list.avro"
    found = rewritten(io, lambda at: read_manifests(io, at), Schema(*fields), [Record("m.avro", 7, 3)], path)
    assert [("m.avro", 7, 3)] == [
        (one.manifest_path, one.manifest_length, one.partition_spec_id) for one in found
    ]
    assert [(None, None)] == [(one.added_rows_count, one.partitions) for one in found]


def test_fields_of_a_manifest_that_no_reader_knows_are_passed_over(tmp_path: Path) -> None:
    """Lists, maps and structs too, at any depth: ``sort_columns`` of 2019 was a list."""
    inner = StructType(
        NestedField(903, "deep", ListType(904, LongType(), element_required=True), required=True)
    )
    odd = [
        NestedField(900, "l", ListType(901, StringType(), element_required=True), required=True),
        NestedField(902, "s", inner, required=True),
        NestedField(
            905, "m", MapType(906, StringType(), 907, LongType(), value_required=True), required=True
        ),
    ]
    known = [
        NestedField(100, "file_path", StringType(), required=True),
        NestedField(101, "file_format", StringType(), required=True),
        NestedField(102, "partition", StructType(), required=True),
        NestedField(103, "record_count", LongType(), required=True),
        NestedField(104, "file_size_in_bytes", LongType(), required=True),
    ]
    file = StructType(known[0], odd[0], *known[1:3], odd[1], *known[3:], odd[2])
    written = Schema(
        NestedField(0, "status", IntegerType(), required=True),
        NestedField(2, "data_file", file, required=True),
    )
    record = Record(1, Record("f", ["a", "b"], "PARQUET", Record(), Record([1, 2]), 10, 20, {"k": 1}))
    path = f"file://{tmp_path}/m.avro"
    manifest = SimpleNamespace(manifest_path=path, manifest_length=0, sequence_number=0, partition_spec_id=0)
    io = PyArrowFileIO()
    [found] = rewritten(
        io, lambda _: read_entries(io, manifest, None, metrics=False), written, [record], path
    )
    assert ("f", 10, 20, ()) == (found.path, found.record_count, found.size, found.partition)

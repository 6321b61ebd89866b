"""Real Iceberg tables in a temporary warehouse, and scans of them end to end.

pyiceberg writes the tables. Position deletes, deletion vectors and equality deletes, which it cannot write,
are committed here entry by entry, as other engines do.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
from pyiceberg.typedef import Record
from pyroaring import BitMap64

from strata.outcomes import Refused
from strata.tables import (
    Catalogs,
    ResolvedScan,
    ScanPlan,
    apply_residual,
    expand_file,
    parse_scan_params,
    plan_files,
    read_row_group,
    resolve_scan,
    segment_schema,
)

PATH_FIELD = pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"})
POSITION_FIELD = pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"})


class Warehouse:
    """One warehouse on disk, written by pyiceberg and read by Strata."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.catalog = SqlCatalog(
            "strata", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}"
        )
        self.catalog.create_namespace_if_not_exists("db")
        self.catalogs = Catalogs(warehouses={"wh": directory}, catalogs={}, any_file_warehouse=False)
        self._count = itertools.count()

    def close(self) -> None:
        self.catalogs.close()
        self.catalog.close()

    def uri(self, name: str = "t") -> str:
        return f"file://{self.directory}#db.{name}"

    def create(
        self, schema: Schema | pa.Schema, name: str = "t", *, row_group: int | None = None, **kwargs: Any
    ) -> Table:
        properties = dict(kwargs.pop("properties", {}))
        if row_group is not None:
            properties["write.parquet.row-group-limit"] = str(row_group)
        return self.catalog.create_table(f"db.{name}", schema, properties=properties, **kwargs)

    def table(self, name: str = "t") -> Table:
        return self.catalog.load_table(f"db.{name}")

    def append(self, rows: Sequence[Mapping[str, Any]], name: str = "t") -> Table:
        table = self.table(name)
        table.append(pa.Table.from_pylist(list(rows), schema=schema_to_pyarrow(table.schema())))
        return table

    def data_files(self, name: str = "t") -> list[str]:
        """Paths of the current data files, in plan order."""
        return [task.path for task in self.plan({}, name).files]

    def add_file(
        self, data: pa.Table, name: str = "t", *, partition: Record | None = None, **options: Any
    ) -> str:
        """Append a Parquet file as another engine writes it, ids and options its own; returns its path."""
        path = self._new_path(name, "parquet")
        pq.write_table(data, path.removeprefix("file://"), **options)
        return self.commit_file(path, name, partition=partition or Record())

    def commit_file(self, path: str, name: str = "t", **stated: Any) -> str:
        """Append the Parquet file at ``path``; ``stated`` are its manifest's words instead of the truth."""
        local = Path(path.removeprefix("file://"))
        truth: dict[str, Any] = {"file_size_in_bytes": local.stat().st_size, "partition": Record()}
        if "record_count" not in stated:
            truth["record_count"] = pq.read_metadata(local).num_rows
        data_file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            **(truth | stated),
        )
        table = self.table(name)
        data_file.spec_id = table.metadata.default_spec_id
        with table.transaction() as change, change.update_snapshot().fast_append() as append:
            append.append_data_file(data_file)
        return path

    # -- deletes, as other engines write them

    def delete_positions(self, positions: Mapping[str, Iterable[int]], name: str = "t") -> str:
        """Commit one Parquet position delete file; returns its path."""
        pairs = sorted((path, at) for path, ats in positions.items() for at in ats)
        content = pa.Table.from_arrays(
            [
                pa.array([path for path, _ in pairs], pa.string()),
                pa.array([at for _, at in pairs], pa.int64()),
            ],
            schema=pa.schema([PATH_FIELD, POSITION_FIELD]),
        )
        return self.delete_by_positions(content, name, like=next(iter(positions)))

    def delete_by_positions(self, content: pa.Table, name: str = "t", *, like: str) -> str:
        """Commit a position delete file with this content in the partition of a data file; returns its path."""
        path = self._new_path(name, "parquet")
        pq.write_table(content, path.removeprefix("file://"))
        self._commit_delete(
            name,
            DataFileContent.POSITION_DELETES,
            path,
            file_format=FileFormat.PARQUET,
            records=content.num_rows,
            like=like,
        )
        return path

    def delete_vector(
        self, data_path: str, positions: Iterable[int], name: str = "t", *, flip: int = 0
    ) -> str:
        """Commit a deletion vector in a Puffin file, between other bytes; ``flip`` damages one byte of it."""
        body = b"\xd1\xd3\x39\x64" + BitMap64(positions).serialize()
        blob = len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        if flip:
            blob = blob[:flip] + bytes([blob[flip] ^ 1]) + blob[flip + 1 :]
        path = self._new_path(name, "puffin")
        Path(path.removeprefix("file://")).write_bytes(b"PFA1" + b"other" + blob + b"PFA1")
        extra = {"referenced_data_file": data_path, "content_offset": 9, "content_size_in_bytes": len(blob)}
        self._commit_delete(
            name,
            DataFileContent.POSITION_DELETES,
            path,
            file_format=FileFormat.PUFFIN,
            records=1,
            like=data_path,
            **extra,
        )
        return path

    def delete_equal(
        self,
        keys: pa.Table,
        name: str = "t",
        *,
        field_ids: Sequence[int],
        like: str | None = None,
        in_file: bool = True,
    ) -> str:
        """Commit an equality delete file that holds ``keys``, with these field ids, in the file or not."""
        fields = keys.schema
        if in_file:
            fields = [
                field.with_metadata({"PARQUET:field_id": str(field_id)})
                for field, field_id in zip(keys.schema, field_ids, strict=True)
            ]
        path = self._new_path(name, "parquet")
        pq.write_table(keys.cast(pa.schema(fields)), path.removeprefix("file://"))
        self._commit_delete(
            name,
            DataFileContent.EQUALITY_DELETES,
            path,
            file_format=FileFormat.PARQUET,
            records=keys.num_rows,
            like=like or self.data_files(name)[0],
            equality_ids=list(field_ids),
        )
        return path

    def _new_path(self, name: str, suffix: str) -> str:
        path = f"{self.table(name).location()}/data/other-{next(self._count)}.{suffix}"
        Path(path.removeprefix("file://")).parent.mkdir(parents=True, exist_ok=True)
        return path

    def _commit_delete(
        self,
        name: str,
        content: DataFileContent,
        path: str,
        *,
        file_format: FileFormat,
        records: int,
        like: str,
        **extra: Any,
    ) -> None:
        table = self.table(name)
        partition, spec_id = _partition_of(table, like)
        data_file = DataFile.from_args(
            _table_format_version=3,
            content=content,
            file_path=path,
            file_format=file_format,
            partition=partition,
            record_count=records,
            file_size_in_bytes=Path(path.removeprefix("file://")).stat().st_size,
            **extra,
        )
        data_file.spec_id = spec_id
        commit_delete(table, data_file, spec_id)

    def commit_delete(self, delete: DataFile, name: str = "t") -> None:
        """Commit a delete file of the current spec as described, whatever is on disk."""
        table = self.table(name)
        delete.spec_id = table.metadata.default_spec_id
        commit_delete(table, delete, delete.spec_id)

    # -- the scan under test

    def resolve(self, params: Mapping[str, Any], name: str = "t") -> ResolvedScan | Refused:
        ref = self.catalogs.resolve(self.uri(name))
        assert not isinstance(ref, Refused), ref
        table = self.catalogs.load(ref)
        if isinstance(table, Refused):
            return table
        spec = parse_scan_params(params)
        return spec if isinstance(spec, Refused) else resolve_scan(table, spec)

    def plan(self, params: Mapping[str, Any], name: str = "t") -> ScanPlan:
        plan = self.try_plan(params, name)
        assert isinstance(plan, ScanPlan), plan
        return plan

    def try_plan(self, params: Mapping[str, Any], name: str = "t") -> ScanPlan | Refused:
        scan = self.resolve(params, name)
        return scan if isinstance(scan, Refused) else plan_files(scan)

    def scan(self, params: Mapping[str, Any] | None = None, name: str = "t") -> pa.Table:
        """Scan end to end; fails the test on a refusal or if the plan's bounds do not hold."""
        result = self.try_scan(params or {}, name)
        assert isinstance(result, pa.Table), result
        return result

    def try_scan(
        self, params: Mapping[str, Any], name: str = "t", *, batch_rows: int = 3
    ) -> pa.Table | Refused:
        plan = self.try_plan(params, name)
        return plan if isinstance(plan, Refused) else self.run(plan, batch_rows=batch_rows)

    @staticmethod
    def run(plan: ScanPlan, *, batch_rows: int = 3) -> pa.Table | Refused:
        """Run a plan to its end and check its bounds."""
        batches: list[pa.RecordBatch] = []
        for file in plan.files:
            tasks = expand_file(plan, file)
            if isinstance(tasks, Refused):
                return tasks
            for task in tasks:
                read = read_row_group(plan, task, batch_rows=batch_rows)
                if isinstance(read, Refused):
                    return read
                for batch in read:
                    assert batch.num_rows <= batch_rows
                    assert batch.schema.equals(segment_schema(plan, plan.segment_fields))
                finished = apply_residual(plan, task, read)
                if plan.passthrough:
                    assert all(one is other for one, other in zip(finished, read, strict=True))
                batches.extend(finished)
        rows = sum(batch.num_rows for batch in batches)
        assert plan.exact_rows in {None, rows}
        assert rows <= plan.max_rows
        return pa.Table.from_batches(batches, schema=plan.scan.arrow_schema)

    def rows(self, params: Mapping[str, Any] | None = None, name: str = "t") -> list[dict[str, Any]]:
        return self.scan(params, name).to_pylist()

    def where(
        self, column: str, op: str, value: Any = None, *, key: str = "id", name: str = "t"
    ) -> list[Any]:
        """Return the sorted ``key`` values of the rows that match a filter."""
        condition = {"column": column, "op": op} | ({} if value is None else {"value": value})
        return sorted(self.scan({"columns": [key], "filters": [condition]}, name).column(key).to_pylist())


def commit_delete(table: Table, data_file: DataFile, spec_id: int) -> None:
    """Add a snapshot with one new manifest that holds a delete file."""
    metadata = table.metadata
    snapshot_id = metadata.new_snapshot_id()
    sequence_number = metadata.next_sequence_number()
    parent = metadata.current_snapshot()
    assert parent is not None
    base = f"{table.location()}/metadata/{snapshot_id}"
    writer = _DeleteManifestWriter(
        metadata.specs()[spec_id], table.schema(), table.io.new_output(f"{base}-m.avro"), snapshot_id, "null"
    )
    with writer:
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=data_file
            )
        )
    manifests = [writer.to_manifest_file(), *parent.manifests(table.io)]
    listing = f"{base}-list.avro"
    with write_manifest_list(
        2, table.io.new_output(listing), snapshot_id, parent.snapshot_id, sequence_number, "null"
    ) as manifest_list:
        manifest_list.add_manifests(manifests)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=sequence_number,
        timestamp_ms=parent.timestamp_ms + 1,
        manifest_list=listing,
        summary=Summary(Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    with table.transaction() as transaction:
        transaction._apply(
            (
                AddSnapshotUpdate(snapshot=snapshot),
                SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot_id),
            ),
            (AssertRefSnapshotId(ref="main", snapshot_id=parent.snapshot_id),),
        )


class _DeleteManifestWriter(ManifestWriterV2):
    """Writes delete manifests, with the fields format version 3 added for deletion vectors."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        return AvroOutputFile[ManifestEntry](
            output_file=self._output_file,
            file_schema=self._with_partition(3),
            record_schema=self._with_partition(3),
            schema_name="manifest_entry",
            metadata=self._meta,
        )


def _partition_of(table: Table, path: str) -> tuple[Record, int]:
    for task in table.scan().plan_files() if not _has_equality_deletes(table) else ():
        if task.file.file_path == path:
            return task.file.partition, task.file.spec_id
    return Record(), table.metadata.default_spec_id


def _has_equality_deletes(table: Table) -> bool:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return any(
        entry.data_file.content == DataFileContent.EQUALITY_DELETES
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    )


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterable[Warehouse]:
    """Return an empty warehouse with the namespace ``db``."""
    one = Warehouse(tmp_path / "wh")
    yield one
    one.close()


@pytest.fixture(scope="session")
def warehouse_class() -> type[Warehouse]:
    """Return the class of warehouses, for fixtures of modules."""
    return Warehouse

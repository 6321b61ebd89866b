"""Reading row groups: batches, threads, refusals."""

from __future__ import annotations

import json
import sqlite3
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

from strata.outcomes import Reason, Refused
from strata.tables import RowGroup, TableRef, apply_residual, expand_file, read_row_group, read_slice
from strata.tables.files import footers as footers_module
from strata.tables.read import row_group as read_module

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False), NestedField(2, "s", StringType(), required=False)
)


@pytest.fixture
def filled(warehouse):
    """Write a hundred rows in row groups of forty."""
    warehouse.create(SCHEMA, row_group=40)
    warehouse.append([{"id": at, "s": f"s{at}"} for at in range(100)])
    return warehouse


def test_row_groups_are_read_one_by_one_in_batches_of_the_size_asked_for(filled):
    """Positions and sizes come from the footer, batches from ``batch_rows``."""
    plan = filled.plan({})
    tasks = expand_file(plan, plan.files[0])
    assert [(0, 0, 40), (1, 40, 40), (2, 80, 20)] == [(t.index, t.first_row, t.num_rows) for t in tasks]
    assert [16, 16, 8] == [batch.num_rows for batch in read_row_group(plan, tasks[0], batch_rows=16)]
    assert all(task.nbytes >= task.num_rows * 8 for task in tasks)


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("columns", [None, ["s"], ["id"]])
def test_a_row_group_is_read_in_slices(filled, columns, threads):
    """Deletes apply to each slice; together the slices equal the row group, with and without threads."""
    deleted = [3, 7, 8, 9, 10, 11, 39, 41]
    (path,) = filled.data_files()
    filled.delete_positions({path: deleted})
    plan = filled.plan({"columns": columns} if columns else {})
    for task in expand_file(plan, plan.files[0]):
        whole = pa.Table.from_batches(read_row_group(plan, task, batch_rows=100))
        group = RowGroup(plan, task, batch_rows=3, slice_rows=4, threads=threads)
        slices = []
        while not group.done:
            before = group.passed
            slices.append(read_slice(group))
            assert 4 == group.passed - before
            assert all(0 < batch.num_rows <= 3 for batch in slices[-1])
            gone = set(range(task.first_row + before, task.first_row + group.passed)) & set(deleted)
            assert 4 - len(gone) == sum(batch.num_rows for batch in slices[-1])
        assert task.num_rows == group.passed
        assert whole == pa.Table.from_batches([b for s in slices for b in s]).combine_chunks()


@pytest.mark.parametrize("threads", [False, True])
def test_each_slice_is_decoded_by_arrows_threads_or_without_them_as_it_is_told(filled, monkeypatch, threads):
    """Arrow's threads are shared by all scans: a slice uses them only where nothing else is to be done."""
    plan = filled.plan({})
    task = expand_file(plan, plan.files[0])[0]
    seen = []

    class Reader:
        def __init__(self, real):
            self.real = real

        def iter_batches(self, *args, use_threads, **kwargs):
            seen.append(use_threads)
            return self.real.iter_batches(*args, use_threads=use_threads, **kwargs)

        def set_use_threads(self, use_threads):
            seen.append(use_threads)
            self.real.set_use_threads(use_threads)

    class File(pq.ParquetFile):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.reader = Reader(self.reader)

    monkeypatch.setattr(footers_module.pq, "ParquetFile", File)
    group = RowGroup(plan, task, batch_rows=100, slice_rows=20, threads=threads)
    assert 20 == sum(batch.num_rows for batch in read_slice(group))
    assert [threads, threads] == seen
    group.threads = not threads
    assert 20 == sum(batch.num_rows for batch in read_slice(group))
    assert [threads, threads, not threads] == seen
    assert group.done


def test_a_closed_row_group_lets_go_of_its_file(filled, monkeypatch):
    """If a thread is reading, that thread closes the file when it is done."""
    plan = filled.plan({})
    task = expand_file(plan, plan.files[0])[0]
    opened = []
    real = read_module.open_source

    def noted(*args):
        opened.append(real(*args))
        return opened[-1]

    monkeypatch.setattr(read_module, "open_source", noted)
    for close_meanwhile in (False, True):
        group = RowGroup(plan, task, batch_rows=100, slice_rows=10)
        read_slice(group)
        if close_meanwhile:
            real_projected = RowGroup._projected

            def closing(self, *args, real_projected=real_projected):
                self.close()
                assert not opened[-1].closed
                return real_projected(self, *args)

            monkeypatch.setattr(RowGroup, "_projected", closing)
            assert 10 == sum(batch.num_rows for batch in read_slice(group))
        else:
            group.close()
        assert opened.pop().closed
    group = RowGroup(plan, task, batch_rows=100, slice_rows=1)
    group.close()


def test_row_groups_that_cannot_match_are_not_read(filled):
    """Pruned by their statistics, with positions still counted from the file's start."""
    plan = filled.plan({"filters": [{"column": "id", "op": ">=", "value": 85}]})
    (task,) = expand_file(plan, plan.files[0])
    assert (2, 80) == (task.index, task.first_row)
    assert 15 == filled.run(plan).num_rows


def test_finishing_without_a_filter_returns_the_very_same_batches(filled):
    """Without a filter the encoded segment is the result, byte for byte."""
    plan = filled.plan({"columns": ["s"]})
    task = expand_file(plan, plan.files[0])[0]
    batches = read_row_group(plan, task, batch_rows=16)
    assert plan.passthrough
    assert all(one is other for one, other in zip(apply_residual(plan, task, batches), batches, strict=True))


def test_threads_read_one_file_at_once(filled):
    """Each read has its own handle; the parsed footer is shared."""
    plan = filled.plan({})
    tasks = expand_file(plan, plan.files[0]) * 4
    results = {}

    def read(at):
        results[at] = [
            value
            for batch in read_row_group(plan, tasks[at], batch_rows=7)
            for value in batch.column("id").to_pylist()
        ]

    threads = [threading.Thread(target=read, args=(at,)) for at in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, task in enumerate(tasks):
        assert list(range(task.first_row, task.first_row + task.num_rows)) == results[at]


def test_threads_load_one_table_at_once(filled):
    """A connection to the catalog file is lent to one thread at a time."""
    ref = TableRef("wh", ("db",), "t")
    found = []

    def load():
        found.extend(filled.catalogs.load(ref).metadata_location for _ in range(50))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {filled.table().metadata_location} == set(found)
    assert 400 == len(found)


def test_memory_of_a_row_group_is_free_once_its_batches_are_gone(warehouse):
    """Nothing keeps the memory of a row group after its batches are freed.

    The row group is so large that memory moved by other Arrow threads does not count; a thread may hold on to
    memory for a moment, so only repeated holding fails.
    """
    warehouse.create(SCHEMA, row_group=100_000)
    warehouse.append([{"id": at, "s": "s"} for at in range(100_000)])
    plan = warehouse.plan({})
    task = expand_file(plan, plan.files[0])[0]
    before = pa.total_allocated_bytes()
    left = []
    for _ in range(5):
        batches = read_row_group(plan, task, batch_rows=5000)
        assert pa.total_allocated_bytes() - before > 1_000_000
        del batches
        left.append(pa.total_allocated_bytes() - before)
    assert min(left) < 200_000


def test_a_file_that_does_not_fit_the_schema_is_refused_by_name(warehouse):
    """A long file for an int column is refused: no narrowing, no internal error."""
    mapping = json.dumps([{"field-id": 1, "names": ["n"]}])
    warehouse.create(
        Schema(NestedField(1, "n", IntegerType(), required=False)),
        properties={"schema.name-mapping.default": mapping},
    )
    warehouse.add_file(pa.table({"n": pa.array([1], pa.int64())}))
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.UNSUPPORTED is refused.reason
    assert "does not fit the table's schema: its column 'n' is long, the table's int" in refused.detail


def test_a_file_without_ids_and_mapping_is_refused_by_name(warehouse):
    """Columns are never matched by name alone."""
    warehouse.create(SCHEMA)
    warehouse.add_file(pa.table({"id": [1], "s": ["x"]}))
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.UNSUPPORTED is refused.reason
    assert "field id" in refused.detail
    assert "schema.name-mapping.default" in refused.detail


@pytest.mark.parametrize(
    ("content", "keys"), [(DataFileContent.EQUALITY_DELETES, [1]), (DataFileContent.POSITION_DELETES, None)]
)
def test_a_delete_file_in_another_format_is_unsupported_and_named(filled, content, keys):
    """501 with the file's name; deleted rows are never returned."""
    table = filled.table()
    delete = DataFile.from_args(
        _table_format_version=3,
        content=content,
        file_path=f"{table.location()}/data/gone.avro",
        file_format=FileFormat.AVRO,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
        equality_ids=keys,
    )
    filled.commit_delete(delete)
    refused = filled.try_plan({})
    assert isinstance(refused, Refused)
    assert Reason.UNSUPPORTED is refused.reason
    assert "gone.avro" in refused.detail
    assert str(filled.directory) not in refused.detail


def test_a_locked_catalog_file_is_unavailable_for_now(filled, monkeypatch):
    """A writer that locks the file causes a refusal to retry, not an internal error."""
    monkeypatch.setattr("strata.tables.catalogs.sqlite_catalog._LOCK_TIMEOUT_SECONDS", 0)
    writer = sqlite3.connect(filled.directory / "catalog.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    refused = filled.catalogs.load(TableRef("wh", ("db",), "t"))
    writer.execute("ROLLBACK")
    writer.close()
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    assert refused.retry_after is not None
    assert not isinstance(filled.catalogs.load(TableRef("wh", ("db",), "t")), Refused)

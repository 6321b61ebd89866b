"""Remote files: their bytes are read before they are decoded, so that decoding waits for no store."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType
from remote_files import StoreIO

from strata.outcomes import Reason, Refused
from strata.tables import RowGroup, ScanPlan, expand_file, prefetch, read_row_group, read_slice
from strata.tables.caches import Caches
from strata.tables.files.prefetched import GAP_BYTES, Prefetched, chunk_ranges, merged

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False), NestedField(2, "s", StringType(), required=False)
)


def remote(plan: ScanPlan, store: StoreIO) -> ScanPlan:
    """Return the plan with its table in a remote store and nothing cached."""
    table = attrs.evolve(plan.scan.table, io=store, caches=Caches())
    return attrs.evolve(plan, scan=attrs.evolve(plan.scan, table=table))


@pytest.mark.parametrize("columns", [None, ["s"], ["id"]])
def test_a_remote_row_group_is_fetched_first_and_decoded_without_its_store(warehouse, columns):
    """After ``prefetch`` no file is opened, delete files of both kinds included; the rows are the local ones."""
    warehouse.create(SCHEMA, row_group=40)
    warehouse.append([{"id": at, "s": f"s{at}"} for at in range(100)])
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [3, 7, 41]})
    keys = pa.table({"id": pa.array([9, 50], pa.int64())})
    warehouse.delete_equal(keys, field_ids=[1], like=path)
    store = StoreIO()
    local = warehouse.plan({"columns": columns} if columns else {})
    plan = remote(local, store)
    for task in expand_file(plan, plan.files[0]):
        group = RowGroup(plan, task, batch_rows=100, slice_rows=7)
        assert group.remote
        assert prefetch(group) is None
        before = len(store.opened)
        slices = []
        while not group.done:
            slices += read_slice(group)
        assert before == len(store.opened)
        expected = pa.Table.from_batches(read_row_group(local, task, batch_rows=100))
        assert expected == pa.Table.from_batches(slices).combine_chunks()
        whole = read_row_group(plan, task, batch_rows=100)
        assert expected == pa.Table.from_batches(whole)


def test_a_remote_file_that_is_gone_is_refused(warehouse):
    """The refusal of a local one, from ``prefetch``."""
    warehouse.create(SCHEMA)
    warehouse.append([{"id": 1, "s": "s"}])
    plan = remote(warehouse.plan({}), StoreIO())
    [task] = expand_file(plan, plan.files[0])
    Path(plan.files[0].path.removeprefix("file://")).unlink()
    found = prefetch(RowGroup(plan, task, batch_rows=10))
    assert isinstance(found, Refused)
    assert Reason.DATA_UNREADABLE is found.reason


def test_near_ranges_are_read_as_one():
    """A gap costs a round trip only if it is wider than the bytes it saves."""
    assert [(0, 30), (31 + GAP_BYTES, 32 + GAP_BYTES)] == merged(
        [(31 + GAP_BYTES, 32 + GAP_BYTES), (0, 10), (20, 30), (5, 6)]
    )
    assert [(0, 20 + GAP_BYTES)] == merged([(0, 10), (10 + GAP_BYTES, 20 + GAP_BYTES)])


def test_a_prefetched_file_reads_as_the_file_does():
    """Any sequence of seeks and reads gives the same bytes, within the ranges and outside."""
    draw, content = random.Random(5), random.Random(6).randbytes(5000)
    same, found = io.BytesIO(content), Prefetched(io.BytesIO(content), [(100, 200), (4000, 4100)])
    for _ in range(500):
        at = draw.randrange(5000)
        whence = draw.choice([os.SEEK_SET, os.SEEK_END])
        assert same.seek(at - 5000 * (whence == os.SEEK_END), whence) == found.seek(
            at - 5000 * (whence == os.SEEK_END), whence
        )
        count = draw.randrange(1, 200)
        assert same.read(count) == found.read(count)
        assert same.tell() == found.tell()


def test_a_row_groups_chunks_are_all_that_its_decoding_reads(tmp_path):
    """Dictionaries and data pages are within the ranges, for every encoding that Arrow writes."""
    rows = pa.table({"a": ["x", "y"] * 500, "b": range(1000), "c": [[1, 2], None] * 500})
    pq.write_table(rows, tmp_path / "f", row_group_size=300, use_dictionary=["a"])
    metadata = pq.read_metadata(tmp_path / "f")
    reads: list[int] = []

    class Source(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            reads.append(self.tell())
            return super().read(count)

    source = Source((tmp_path / "f").read_bytes())
    for index in range(4):
        fetched = Prefetched(source, chunk_ranges(metadata, index, range(3)))
        before = len(reads)
        with pa.PythonFile(fetched, mode="r") as file:
            found = pq.ParquetFile(file, metadata=metadata, pre_buffer=False).read_row_group(index)
        assert rows.slice(300 * index, 300) == found
        assert before == len(reads)

"""Files that are not local: the server fetches their bytes, and readers parse them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType
from remote_files import StoreIO

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers import ReaderPool, ReaderRowGroup, expand_in_reader, prefetch_for_reader, remote
from strata.readers.child import reader as child
from strata.tables import RowGroupTask, ScanPlan
from strata.tables.caches import Caches
from strata.tables.files.footers import TAIL_BYTES
from strata.tables.files.lru import WeightedLru
from strata.tables.files.prefetched import Parts
from strata.tables.plan.model import segment_schema
from strata.tables.read import expand
from strata.tables.read.ipc import decoded

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False), NestedField(2, "s", StringType(), required=False)
)


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    own = ReaderPool(1)
    yield own
    own.close()


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_kept", WeightedLru(remote.KEPT_BYTES))


def in_a_store(plan: ScanPlan, store: StoreIO) -> ScanPlan:
    table = attrs.evolve(plan.scan.table, io=store, caches=Caches())
    return attrs.evolve(plan, scan=attrs.evolve(plan.scan, table=table))


def tasks_of(plan: ScanPlan, pool: ReaderPool) -> tuple[RowGroupTask, ...]:
    found = expand_in_reader(plan, plan.files[0], 60, pool)
    assert not isinstance(found, Refused), found
    return found


def opened(plan: ScanPlan, task: RowGroupTask, pool: ReaderPool) -> ReaderRowGroup:
    return ReaderRowGroup(plan, task, batch_rows=100, slice_rows=64, seconds=60, pool=pool)


def read_all(group: ReaderRowGroup) -> None:
    while not group.done:
        group.read(None)


def read(plan: ScanPlan, task: RowGroupTask, pool: ReaderPool) -> pa.Table:
    group, batches = opened(plan, task, pool), []
    assert prefetch_for_reader(group) is None
    while not group.done:
        found = group.read(None)
        if found is not None:
            batches += decoded(found.segment, segment_schema(plan, plan.segment_fields))
    return pa.Table.from_batches(batches, segment_schema(plan, plan.segment_fields)).combine_chunks()


def filled(warehouse: Any, row_group: int = 400) -> None:
    warehouse.create(SCHEMA, row_group=row_group)
    drawn = random.Random(7)
    warehouse.append([{"id": at, "s": drawn.randbytes(150).hex()} for at in range(1000)])
    (path,) = warehouse.data_files()
    warehouse.delete_positions({path: [3, 7, 410]})
    warehouse.delete_equal(pa.table({"id": pa.array([9, 500], pa.int64())}), field_ids=[1], like=path)


@pytest.mark.parametrize("columns", [None, ["s"], ["id"]])
def test_a_remote_row_group_is_the_local_one(
    warehouse: Any, pool: ReaderPool, columns: Any, monkeypatch
) -> None:
    """Its rows, with deletes of both kinds; no file is opened while a reader reads, and none parsed here."""
    filled(warehouse)
    params = {"columns": columns} if columns else {}
    local, store = warehouse.plan(params), StoreIO()
    plan = in_a_store(local, store)
    here = tasks_of(local, pool)
    for part in ("parquet_file", "footer_of"):
        monkeypatch.setattr(f"strata.tables.read.row_group.{part}", None)
    monkeypatch.setattr(expand, "footer_of", None)
    tasks = tasks_of(plan, pool)
    assert [attrs.evolve(task, ranges=()).index for task in tasks] == [task.index for task in here]
    for task, same in zip(tasks, here, strict=True):
        assert read(local, same, pool) == read(plan, task, pool)
    before = len(store.opened)
    read(plan, tasks[0], pool)
    assert 1 == len(store.opened) - before, "footer and delete files are kept"


def test_what_was_not_fetched_is_an_error_and_never_zeros(warehouse: Any, pool: ReaderPool) -> None:
    """A hole in the memory has no rows."""
    filled(warehouse)
    plan = in_a_store(warehouse.plan({}), StoreIO())
    assert plan.files[0].file_size > 2 * TAIL_BYTES
    task = tasks_of(plan, pool)[1]
    (start, end), *_ = task.ranges
    for ranges in ((), ((start, start + 5000),), ((start + 10, end),)):
        group = opened(plan, attrs.evolve(task, ranges=ranges), pool)
        assert prefetch_for_reader(group) is None
        with pytest.raises(RefusalError, match="damaged") as raised:
            read_all(group)
        assert Reason.DATA_UNREADABLE is raised.value.refused.reason
    assert 0 == pool.ends.total()


@pytest.mark.parametrize("what", ["data", "delete"])
def test_a_remote_file_that_is_gone_or_cut_is_refused_by_name(
    warehouse: Any, pool: ReaderPool, what: str
) -> None:
    """As a local one is."""
    filled(warehouse)
    plan = in_a_store(warehouse.plan({}), StoreIO())
    task = tasks_of(plan, pool)[-1]
    remote._kept.resize(0)
    location = plan.files[0].path if what == "data" else plan.files[0].deletes[0].path
    path = Path(location.removeprefix("file://"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    group = opened(plan, task, pool)
    refused = prefetch_for_reader(group)
    if refused is None:
        with pytest.raises(RefusalError, match=path.name):
            group.read(None)
    else:
        assert path.name in refused.detail
    path.unlink()
    refused = prefetch_for_reader(opened(plan, task, pool))
    assert isinstance(refused, Refused)
    assert path.name in refused.detail
    assert 0 == pool.ends.total()


def test_a_long_footer_is_fetched_whole(warehouse: Any, pool: ReaderPool) -> None:
    """It is longer than what is fetched first."""
    filled(warehouse, row_group=3)
    local = warehouse.plan({})
    plan = in_a_store(local, StoreIO())
    tasks_of(plan, pool)
    assert next(iter(remote._kept._entries.values()))[0].parts[0][0] < plan.files[0].file_size - TAIL_BYTES
    task, here = tasks_of(plan, pool)[2], tasks_of(local, pool)[2]
    assert read(local, here, pool) == read(plan, task, pool)


def test_ranges_outside_of_the_file_are_not_believed(
    warehouse: Any, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that a file has taken over has the server fetch nothing else."""
    filled(warehouse)
    plan = in_a_store(warehouse.plan({}), StoreIO())
    size = plan.files[0].file_size
    from strata.readers import row_groups  # noqa: PLC0415

    for wrong in ((-1, 5), (5, 5), (0, size + 1)):
        with pytest.raises(RefusalError):
            row_groups._checked([wrong], plan.files[0])
    assert ((0, size),) == row_groups._checked([(0, size)], plan.files[0])


def test_parts_of_a_file_are_the_files_bytes() -> None:
    """Ranges give their bytes, what is between them an error, and the end nothing."""
    parts = Parts(100, [(10, pa.py_buffer(b"a" * 10)), (90, pa.py_buffer(b"b" * 10))])
    parts.seek(12)
    assert b"aaa" == parts.read(3)
    with pytest.raises(ValueError, match="not fetched"):
        parts.read(10)
    parts.seek(-4, 2)
    assert b"bbbb" == parts.read(1000)
    assert b"" == parts.read(1)


def test_the_ranges_of_a_row_group_are_all_that_reading_it_takes(warehouse: Any) -> None:
    """For every encoding that Arrow writes; the footer is apart."""
    filled(warehouse)
    plan = warehouse.plan({})
    metadata = pq.read_metadata(plan.files[0].path.removeprefix("file://"))
    found = child.ranges_of(plan, plan.files[0], 1)
    chunks = [metadata.row_group(1).column(leaf) for leaf in range(2)]
    assert found[0][0] <= min(chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks)

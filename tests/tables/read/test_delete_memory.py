"""Delete files are read piece by piece: neither memory nor the length of a step grows with them."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Generator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, LongType, NestedField, StringType
from pyroaring import BitMap64

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import RowGroup, expand_file
from strata.tables.read import equality_deletes, position_deletes
from strata.tables.read.equality_deletes import _KeyedRows
from strata.tables.read.position_deletes import deleted_positions, kept_rows

T = TypeVar("T")

PATH_FIELD = pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"})
POSITION_FIELD = pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"})

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "kind", StringType(), required=False),
    NestedField(3, "x", DoubleType(), required=False),
)


def finished(steps: Generator[Any, None, T]) -> tuple[T, int]:
    """Return the result of a reading in steps, and how often it paused."""
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, pauses
        pauses += 1


def fill(warehouse, rows: int = 100) -> str:
    warehouse.create(SCHEMA, row_group=40)
    warehouse.append([{"id": at, "kind": "ab"[at % 2], "x": float(at)} for at in range(rows)])
    (path,) = warehouse.data_files()
    return path


def test_a_large_position_delete_file_takes_a_bit_for_each_row(warehouse):
    """Two million positions cost less than a megabyte besides what is decoded at a time; it was 55 bytes each."""
    path = fill(warehouse)
    rows = 4_000_000
    schema = pa.schema([PATH_FIELD, POSITION_FIELD])
    paths = pa.repeat(pa.scalar(path), rows // 2)
    content = pa.table([paths, pa.array(range(0, rows, 2), pa.int64())], schema=schema)
    warehouse.delete_by_positions(content, like=path)
    table = warehouse.plan({}).scan.table
    [file] = warehouse.plan({}).files
    tracemalloc.start()
    try:
        found, pauses = finished(deleted_positions(table, file.path, rows, file.deletes))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (rows // 2, 0, rows - 2) == (len(found), found.min(), found.max())
    assert pauses == rows // 2 // position_deletes.STEP_ROWS
    assert peak < 4 * 1024 * 1024
    assert position_deletes._weight(found) < rows // 8 + 64 * 1024
    assert table.caches.deletes.get(("positions", table.ref.catalog, table.uuid, file.path, *file.deletes))


def test_a_row_group_pauses_between_the_steps_of_its_delete_files(warehouse, monkeypatch):
    """A call that reads a part of a delete file returns no batches, passes no rows and is not the last."""
    monkeypatch.setattr(position_deletes, "BATCH_ROWS", 2)
    monkeypatch.setattr(position_deletes, "STEP_ROWS", 4)
    path = fill(warehouse)
    warehouse.delete_positions({path: range(0, 20, 2)})
    plan = warehouse.plan({})
    task = expand_file(plan, plan.files[0])[0]
    group = RowGroup(plan, task, batch_rows=100)
    calls = []
    while not group.done:
        batches = group.read()
        calls.append((group.passed, sum(batch.num_rows for batch in batches)))
    assert [(0, 0), (0, 0), (40, 30)] == calls


def test_an_abandoned_reading_lets_go_of_its_delete_file(warehouse, monkeypatch):
    """A row group closed between two steps closes the delete file it was reading."""
    monkeypatch.setattr(position_deletes, "BATCH_ROWS", 2)
    monkeypatch.setattr(position_deletes, "STEP_ROWS", 4)
    opened = []
    real = position_deletes.open_source

    def note(*args: object) -> object:
        opened.append(real(*args))
        return opened[-1]

    monkeypatch.setattr(position_deletes, "open_source", note)
    path = fill(warehouse)
    warehouse.delete_positions({path: range(20)})
    plan = warehouse.plan({})
    group = RowGroup(plan, expand_file(plan, plan.files[0])[0], batch_rows=100)
    group.read()
    assert [False] == [source.closed for source in opened]
    group.close()
    assert [True] == [source.closed for source in opened]


@pytest.mark.parametrize("position", [-1, None])
def test_a_position_that_is_none_is_refused_by_the_files_name(warehouse, position):
    """A null or negative position is damage; it was not silently another row's."""
    path = fill(warehouse)
    delete = warehouse.delete_positions({path: [1]}).removeprefix("file://")
    table = pa.table({"file_path": [path], "pos": pa.array([position], pa.int64())})
    pq.write_table(table, delete)
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason
    assert delete.rpartition("/")[2] in refused.detail


def test_positions_beyond_the_rows_of_the_file_take_no_memory(warehouse):
    """Positions far apart would take a thousand times as much as a bit; those of no row are dropped."""
    path = fill(warehouse)
    positions = [3, *(at << 32 for at in range(1, 1000))]
    warehouse.delete_positions({path: positions})
    [file] = warehouse.plan({}).files
    found, _ = finished(deleted_positions(warehouse.plan({}).scan.table, file.path, 100, file.deletes))
    assert [3] == list(found)
    assert 99 == len(warehouse.rows())


def test_a_deletion_vector_larger_than_its_rows_allow_is_not_read(warehouse, monkeypatch):
    """The length that metadata states for a vector is bounded by the rows of its data file."""
    path = fill(warehouse)
    warehouse.delete_vector(path, [1])
    monkeypatch.setattr(position_deletes, "_most_bytes", lambda _rows: 10)
    refused = warehouse.try_scan({})
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason


def test_deletes_that_memory_cannot_hold_are_refused_and_named(warehouse, monkeypatch):
    """Positions that take more than the part of `memory_budget_bytes` for deletes are an error, never dropped."""
    path = fill(warehouse)
    warehouse.delete_positions({path: [1]})
    plan = warehouse.plan({})
    monkeypatch.setattr(position_deletes, "LEAST_BYTES", 100)
    plan.scan.table.caches.deletes.resize(0)
    group = RowGroup(plan, expand_file(plan, plan.files[0])[0], batch_rows=100)
    with pytest.raises(RefusalError) as caught:
        group.read()
    refused = caught.value.refused
    assert (Reason.TOO_LARGE, "deletes_too_large") == (refused.reason, refused.code)
    assert "memory_budget_bytes" in refused.detail
    assert path.rpartition("/")[2] in refused.detail


@pytest.mark.parametrize("seed", range(5))
def test_kept_rows_are_those_not_deleted(seed):
    """The indices count from the first row of the slice, whatever the deletes before and after it."""
    draw = random.Random(seed)
    deleted = set(draw.sample(range(3000), draw.choice([0, 1, 700, 2999])))
    first, rows = draw.randrange(2000), draw.randrange(1, 1000)
    expected = [at - first for at in range(first, first + rows) if at not in deleted]
    kept = kept_rows(BitMap64(deleted), first, rows)
    assert expected == (list(range(rows)) if kept is None else kept.to_pylist())


def concatenated(data: list[Any], gone: list[Any]) -> list[bool]:
    """Say which rows are left, by codes of all values of data and deletes together."""
    codes = None
    for own, other in zip(data, gone, strict=True):
        both = pa.concat_arrays([own, other])
        numbers = both.dictionary_encode(null_encoding="encode").indices.cast(pa.int64())
        codes = (
            numbers if codes is None else pc.add(pc.multiply(codes, pa.scalar(10**6, pa.int64())), numbers)
        )
    rows = len(data[0])
    return pc.invert(pc.is_in(codes.slice(0, rows), value_set=codes.slice(rows))).to_pylist()


@pytest.mark.parametrize("seed", range(40))
def test_keys_compared_in_pieces_remove_the_same_rows(seed):
    """Pieces of any size, with nulls, NaN and both zeros among the keys, remove what all keys at once do."""
    draw = random.Random(seed)
    values = {
        pa.float64(): [None, math.nan, 0.0, -0.0, 1.5, 2.0],
        pa.large_string(): [None, "", "a", "b"],
        pa.int64(): [None, 1, 2, -(2**63), 2**63 - 1],
        pa.bool_(): [None, True, False],
        pa.decimal128(5, 2): [None, 1, 2],
        pa.binary(4): [None, b"aaaa", b"zzzz"],
        pa.timestamp("ns"): [1, 2, 3, 4, 5],
        pa.date32(): [1, 2, 3],
    }
    kinds = draw.sample(list(values), draw.randint(1, 4))

    def column(kind: Any, rows: int) -> Any:
        return pa.array([draw.choice(values[kind]) for _ in range(rows)], kind)

    data = [column(kind, 50) for kind in kinds]
    gone = [column(kind, draw.choice([0, 1, 20])) for kind in kinds[:1]]
    gone += [column(kind, len(gone[0])) for kind in kinds[1:]]
    rows, size = _KeyedRows(data), draw.choice([1, 7, 100])
    for start in range(0, len(gone[0]), size):
        rows.delete([one.slice(start, size) for one in gone])
    assert concatenated(data, gone) == rows.mask().to_pylist()


def test_keys_too_many_to_keep_are_read_again_for_each_slice(warehouse, monkeypatch):
    """An equality delete file larger than what is kept removes the same rows, and holds one piece at a time."""
    fill(warehouse)
    warehouse.delete_equal(pa.table({"id": range(0, 100, 3)}), field_ids=[1])
    expected = [at for at in range(100) if at % 3]
    assert expected == [row["id"] for row in warehouse.rows()]
    monkeypatch.setattr(equality_deletes, "PIECE_ROWS", 5)
    monkeypatch.setattr(equality_deletes, "KEPT_BYTES", 300)
    plan = warehouse.plan({})
    plan.scan.table.caches.deletes.resize(0)
    pieces: list[int] = []
    real = _KeyedRows.delete

    def delete(self: _KeyedRows, piece: list[Any]) -> None:
        pieces.append(len(piece[0]))
        real(self, piece)

    monkeypatch.setattr(_KeyedRows, "delete", delete)
    found, calls = [], 0
    for task in expand_file(plan, plan.files[0]):
        group = RowGroup(plan, task, batch_rows=100)
        while not group.done:
            found += [row for batch in group.read() for row in batch.column(0).to_pylist()]
            calls += 1
    assert expected == found
    assert 3 * [5, 5, 5, 5, 5, 5, 4] == pieces
    assert 3 * 7 == calls


def test_a_step_of_large_keys_has_few_rows(warehouse, monkeypatch):
    """Rows of a piece are as many as its estimated bytes allow."""
    fill(warehouse)
    warehouse.delete_equal(pa.table({"kind": ["x" * 1000 + str(at) for at in range(50)]}), field_ids=[2])
    monkeypatch.setattr(equality_deletes, "PIECE_BYTES", 10_000)
    plan = warehouse.plan({})
    sizes: list[int] = []
    real = _KeyedRows.delete

    def delete(self: _KeyedRows, piece: list[Any]) -> None:
        sizes.append(len(piece[0]))
        real(self, piece)

    monkeypatch.setattr(_KeyedRows, "delete", delete)
    group = RowGroup(plan, expand_file(plan, plan.files[0])[0], batch_rows=100)
    while not group.done:
        group.read()
    assert max(sizes) <= 10


def test_keys_beyond_the_range_of_the_data_are_not_looked_up(monkeypatch):
    """Ordered keys of a large delete file cost a look at their range for all slices but their own."""
    looked_up = []
    real = pc.index_in
    monkeypatch.setattr(
        pc, "index_in", lambda keys, **how: (looked_up.append(len(keys)), real(keys, **how))[1]
    )
    rows = _KeyedRows([pa.array([10, 20, 30])])
    for piece in ([1, 9], [31, None], [30], [None], [], [5, 15]):
        rows.delete([pa.array(piece, pa.int64())])
    assert [1, 2] == looked_up
    assert [True, True, False] == rows.mask().to_pylist()

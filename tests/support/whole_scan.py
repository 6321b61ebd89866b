"""A scan from its parameters to its rows, cached or not, in this process and in a reader process."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from strata.cache import CacheShard, Columns, Damaged, SegmentKey
from strata.outcomes import Refused
from strata.readers import ReaderRowGroup, expand_in_reader, read_run
from strata.readers.row_groups import SharedSlice
from strata.tables import (
    Catalogs,
    CellGrants,
    RowGroup,
    RowGroupTask,
    ScanPlan,
    apply_residual,
    expand_file,
    parse_scan_params,
    plan_files,
    read_row_group,
    read_slice,
    resolve_scan,
    segment_schema,
)
from strata.tables.read.ipc import Encoded, encode

READER_SECONDS = 60.0


def fields_of(tasks: Iterable[RowGroupTask]) -> list[tuple[object, ...]]:
    return [attrs.astuple(task, recurse=False) for task in tasks]


def content(encoded: Encoded) -> bytes:
    return b"".join(bytes(part) for part in encoded.parts)


def same_in_reader(plan: ScanPlan, task: RowGroupTask) -> None:
    """Read a row group here and in a reader process: the messages are equal byte for byte."""
    here = RowGroup(plan, task, batch_rows=4, slice_rows=3)
    there = ReaderRowGroup(plan, task, batch_rows=4, slice_rows=3, seconds=READER_SECONDS)
    while not here.done:
        before, many = here.passed, 1 + here.passed % 3
        batches = ok(read_slice(here, many))
        found = there.read(None, many)
        assert (here.passed, here.done) == (there.passed, there.done)
        if found is None:
            assert (before, []) == (here.passed, batches)
            continue
        assert here.passed - before == found.scanned
        assert encode(batches).to_bytes() == content(found.segment)
        if plan.passthrough:
            assert found.kept is None
        else:
            assert found.kept is not None
            assert encode(apply_residual(plan, task, batches)).to_bytes() == content(found.kept)


def same_in_run(plan: ScanPlan, tasks: tuple[RowGroupTask, ...]) -> None:
    """Read row groups of a file without deletes together: the same as each alone."""
    if not tasks or tasks[0].file.deletes:
        return
    found: list[SharedSlice] = []
    while not found:  # none where the reader was busy: on a full machine it may be
        found = ok(read_run(plan, tasks, batch_rows=4, checksums=True, seconds=READER_SECONDS))
    assert len(tasks) == len(found)
    for task, one in zip(tasks, found, strict=True):
        batches = ok(read_row_group(plan, task, batch_rows=4))
        segment = encode(batches).to_bytes()
        assert segment == content(one.segment)
        assert (task.num_rows, zlib.crc32(segment)) == (one.scanned, one.crc32)
        if not plan.passthrough:
            assert one.kept is not None
            assert encode(apply_residual(plan, task, batches)).to_bytes() == content(one.kept)


class Pipeline:
    """The functions of a scan in sequence, with a cache shard between reading and the residual filter."""

    def __init__(self, warehouse: Path, cache: Path) -> None:
        self.catalogs = Catalogs(warehouses={"wh": warehouse}, catalogs={}, any_file_warehouse=False)
        self.cache = cache
        self.reopen()

    def reopen(self) -> None:
        self.shard = CacheShard.open(self.cache, budget_bytes=2**30)

    def scan(self, params: dict[str, Any], visible: CellGrants | None = None) -> pa.Table:
        table = ok(self.catalogs.load(ok(self.catalogs.resolve("wh:db.t"))))
        scan = ok(resolve_scan(table, ok(parse_scan_params(params)), visible))
        plan = ok(plan_files(scan))
        fields = plan.segment_fields
        columns = Columns(fields, segment_schema(plan, fields))
        pack = self.shard.begin_pack(columns)
        out: list[pa.RecordBatch] = []
        kept = 0
        for file in plan.files:
            tasks = ok(expand_file(plan, file))
            there = ok(expand_in_reader(plan, file, READER_SECONDS))
            assert fields_of(tasks) == fields_of(there)
            same_in_run(plan, tasks)
            for task in tasks:
                key = SegmentKey(task.file.file_key, task.index)
                found = self.shard.lookup(key, fields)
                if found is None:
                    batches, group = [], RowGroup(plan, task, batch_rows=4, slice_rows=3)
                    while not group.done:
                        batches += ok(read_slice(group))
                    same_in_reader(plan, task)
                    encoded = encode(batches)
                    crc = 0
                    for part in encoded.parts:
                        crc = zlib.crc32(part, crc)
                    pack.append(key, encoded, crc)
                    kept += 1
                else:
                    read = self.shard.read(found, fields, columns.schema)
                    assert not isinstance(read, Damaged)
                    batches = read
                out += apply_residual(plan, task, batches)
        if kept:
            self.shard.remove_files(self.shard.install(pack.commit(), self.shard.generation))
        else:
            pack.abort()
        rows = sum(batch.num_rows for batch in out)
        assert plan.exact_rows in (None, rows)
        assert rows <= plan.max_rows
        if not plan.scan.arrow_schema.names:
            return pa.Table.from_batches(out, schema=plan.scan.arrow_schema) if out else pa.table({})
        assert all(batch.schema.equals(plan.scan.arrow_schema) for batch in out)
        return pa.Table.from_batches(out, schema=plan.scan.arrow_schema)


def ok(value: Any) -> Any:
    assert not isinstance(value, Refused), value
    return value

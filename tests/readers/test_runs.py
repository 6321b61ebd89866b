"""Runs: several files or row groups with one request, the same as alone; what is odd is left to be done alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from strata.outcomes import Refused
from strata.readers import ReaderPool, ReaderRowGroup, expand_in_reader, expand_run, read_run
from strata.readers.messages import GroupRead, Part, RunRead
from strata.readers.processes import Reader, _check
from strata.readers.shared_memory import SLOT_BYTES, SLOTS
from strata.tables import Catalogs, RowGroupTask, ScanPlan, parse_scan_params, plan_files, resolve_scan
from strata.tables.read.ipc import Encoded

SECONDS = 60.0
FILES, ROWS, GROUP = 6, 40, 10


@pytest.fixture(scope="module")
def pool() -> Iterator[ReaderPool]:
    own = ReaderPool(1)
    yield own
    own.close()


def ok(found: Any) -> Any:
    assert not isinstance(found, Refused), found
    return found


def planned(directory: Path, params: dict[str, Any], *, width: int = 8) -> ScanPlan:
    """Return the plan of a scan of a table of small files of four row groups each."""
    if not (directory / "catalog.db").exists():
        catalog = SqlCatalog(
            "strata", uri=f"sqlite:///{directory}/catalog.db", warehouse=f"file://{directory}"
        )
        catalog.create_namespace("db")
        schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
        table = catalog.create_table("db.t", schema, properties={"write.parquet.row-group-limit": str(GROUP)})
        for number in range(FILES):
            ids = range(number * ROWS, (number + 1) * ROWS)
            table.append(
                pa.table({"id": pa.array(ids), "text": [f"{at:>{width}}" for at in ids]}, schema=schema)
            )
        catalog.close()
    catalogs = Catalogs(warehouses={"wh": directory}, catalogs={}, any_file_warehouse=False)
    table = ok(catalogs.load(ok(catalogs.resolve("wh:db.t"))))
    return ok(plan_files(ok(resolve_scan(table, ok(parse_scan_params(params))))))


def content(encoded: Encoded | None) -> bytes | None:
    return None if encoded is None else b"".join(bytes(part) for part in encoded.parts)


def read(plan: ScanPlan, tasks: list[RowGroupTask], pool: ReaderPool) -> list[tuple[Any, ...]]:
    found = ok(read_run(plan, tasks, batch_rows=7, checksums=True, seconds=SECONDS, pool=pool))
    return [(content(one.segment), content(one.kept), one.scanned, one.crc32) for one in found]


def read_alone(plan: ScanPlan, task: RowGroupTask, pool: ReaderPool) -> tuple[Any, ...]:
    group = ReaderRowGroup(plan, task, batch_rows=7, slice_rows=GROUP, seconds=SECONDS, pool=pool)
    one = group.read(0)
    assert one is not None
    assert group.done
    return content(one.segment), content(one.kept), one.scanned, one.crc32


PARAMS = [
    {},
    {"columns": ["text"]},
    {"filters": [{"column": "id", "op": ">=", "value": 95}]},
    {"columns": ["text"], "filters": [{"column": "id", "op": "in", "value": [3, 44, 200]}]},
]


@pytest.mark.parametrize("params", PARAMS)
def test_a_run_is_the_same_as_its_parts_alone(
    tmp_path: Path, pool: ReaderPool, params: dict[str, Any]
) -> None:
    """Row groups, rows before and after the filter, byte for byte, and checksums."""
    plan = planned(tmp_path, params)
    alone = [ok(expand_in_reader(plan, file, SECONDS, pool)) for file in plan.files]
    together = ok(expand_run(plan, plan.files, SECONDS, pool))
    assert [[repr(task) for task in tasks] for tasks in alone] == [
        [repr(task) for task in tasks] for tasks in together
    ]
    tasks = [task for found in together for task in found]
    assert tasks
    assert [read_alone(plan, task, pool) for task in tasks] == read(plan, tasks, pool)


def test_a_damaged_file_ends_the_run_before_it(tmp_path: Path, pool: ReaderPool) -> None:
    """The files before it are done; it is refused by its name when it is done alone."""
    plan = planned(tmp_path, {})
    tasks = [task for found in ok(expand_run(plan, plan.files, SECONDS, pool)) for task in found]
    bad = Path(plan.files[3].path.removeprefix("file://"))
    whole = bad.read_bytes()
    bad.write_bytes(b"PAR1" + bytes(len(whole) - 12) + whole[-8:])
    plan = planned(tmp_path, {})  # its readers know no footers
    fresh = ReaderPool(1)
    try:
        assert 3 == len(ok(expand_run(plan, plan.files, SECONDS, fresh)))
        assert 3 * ROWS // GROUP == len(read(plan, tasks, fresh))
        refused = expand_in_reader(plan, plan.files[3], SECONDS, fresh)
        assert isinstance(refused, Refused)
        assert bad.name in refused.detail
    finally:
        fresh.close()


def test_a_death_in_a_run_is_no_files_fault(tmp_path: Path, pool: ReaderPool, monkeypatch) -> None:
    """Nothing is read, the death is counted, and each file can be read alone."""
    plan = planned(tmp_path, {})
    tasks = [task for found in ok(expand_run(plan, plan.files, SECONDS, pool)) for task in found]
    real, died = Reader.call, pool.ends.total()

    def dying(reader: Reader, *args: Any, **more: Any) -> Any:
        os.kill(reader.process, signal.SIGKILL)
        return real(reader, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "call", dying)
        assert [] == read(plan, tasks, pool)
        assert [] == ok(expand_run(plan, plan.files, SECONDS, pool))
    assert 2 == pool.ends.total() - died
    assert not any(pool.is_deadly(file.file_key) for file in plan.files)
    assert len(tasks) == len(read(plan, tasks, pool))


def test_a_file_at_which_readers_died_is_in_no_run(tmp_path: Path, pool: ReaderPool) -> None:
    """It would end another reader."""
    plan = planned(tmp_path, {})
    tasks = [task for found in ok(expand_run(plan, plan.files, SECONDS, pool)) for task in found]
    pool.note_death(plan.files[2].file_key, "SIGSEGV", again=True)
    try:
        assert [] == read(plan, tasks, pool)
        assert [] == ok(expand_run(plan, plan.files, SECONDS, pool))
    finally:
        pool._deadly.clear()


def test_a_run_ends_where_the_slot_does(tmp_path: Path, pool: ReaderPool) -> None:
    """The other row groups are read alone; the slot is free again when the rows are gone."""
    plan = planned(tmp_path, {}, width=SLOT_BYTES // 25)
    tasks = [task for found in ok(expand_run(plan, plan.files, SECONDS, pool)) for task in found]
    found = ok(read_run(plan, tasks, batch_rows=7, checksums=False, seconds=SECONDS, pool=pool))
    assert 2 == len(found)
    [reader] = [one for one in pool._readers if one.alive]
    assert SLOTS - 1 == len(reader.slots._free)
    del found
    assert SLOTS == len(reader.slots._free)


def test_without_a_free_slot_a_run_has_memory_of_its_own(tmp_path: Path, pool: ReaderPool) -> None:
    """It is not the slots' number that decides whether small row groups are read together."""
    plan = planned(tmp_path, {})
    tasks = [task for found in ok(expand_run(plan, plan.files, SECONDS, pool)) for task in found]
    [reader] = [one for one in pool._readers if one.alive]
    whole = read(plan, tasks, pool)
    taken = [reader.slots.take() for _ in range(SLOTS)]
    try:
        assert len(tasks) == len(whole)
        assert whole == read(plan, tasks, pool)
    finally:
        for slot in taken:
            assert slot is not None
            reader.slots.give_back(slot)


@pytest.mark.parametrize("part", [Part(-8, 8, 1), Part(0, SLOT_BYTES + 1, 1), Part(SLOT_BYTES, 1, 1)])
def test_places_of_a_run_outside_of_the_slot_are_not_believed(part: Part) -> None:
    """A reader that a file has taken over names no memory but its own."""
    for group in (GroupRead(part, None, 0), GroupRead(Part(0, 8, 1), part, 0)):
        with pytest.raises(ValueError, match="outside"):
            _check(RunRead([group]), None)

"""Plans are made in steps of a few milliseconds, however many files a table has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IntegerType, LongType, NestedField

from strata.outcomes import Reason, Refused
from strata.tables import Planning, ResolvedScan, ScanPlan, Step, plan_files, plan_step
from strata.tables.caches import MANIFEST_BYTES
from strata.tables.files.lru import WeightedLru
from strata.tables.plan import manifest_source, planner
from strata.tables.plan.planner import MANIFEST_FILES, STEP_FILES

FILES = 2 * STEP_FILES + 7
ONE = [{"column": "day", "op": "=", "value": 5}]
SCHEMA = Schema(
    NestedField(1, "day", IntegerType(), required=False), NestedField(2, "id", LongType(), required=False)
)


@pytest.fixture
def filled(warehouse: Any) -> Any:
    """Write one manifest of many files, one day each."""
    by_day = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "day"))
    warehouse.create(SCHEMA, partition_spec=by_day)
    warehouse.append([{"day": day, "id": day} for day in range(FILES)])
    return warehouse


def resolved(warehouse: Any, **params: Any) -> ResolvedScan:
    scan = warehouse.resolve(params)
    assert isinstance(scan, ResolvedScan)
    return scan


def steps_of(scan: ResolvedScan, most: int | None = None) -> tuple[list[Step], ScanPlan]:
    planning, steps = Planning(scan, most), []
    while not steps or steps[-1].plan is None:
        steps.append(plan_step(planning))
    assert steps[-1].plan is not None
    return steps, steps[-1].plan


@pytest.mark.parametrize("params", [{}, {"filters": [{"column": "id", "op": ">=", "value": FILES - 3}]}])
def test_each_step_looks_at_some_files_and_all_together_at_every_one(filled: Any, params: dict) -> None:
    """Pruned files count, too, and cached entries are also looked at in steps."""
    expected = 3 if params else FILES
    scan = resolved(filled, **params)
    for attempt in range(2):
        steps, plan = steps_of(scan)
        assert all(step.files < 2 * STEP_FILES for step in steps)
        opened = 1 + (attempt == 0)  # the list each time
        assert opened * MANIFEST_FILES + 1 + FILES + expected == sum(step.files for step in steps)
        assert len(steps) > (FILES + expected) // (2 * STEP_FILES)
        whole = plan_files(scan)
        assert [file.file_key for file in whole.files] == [file.file_key for file in plan.files]
        assert expected == len(plan.files)
        assert (plan.max_rows, plan.exact_rows) == (whole.max_rows, whole.exact_rows)
        assert plan.totals.nbytes == sum(file.file_size for file in plan.files)


def test_a_plan_of_too_many_files_is_given_up_when_that_is_seen(filled: Any) -> None:
    """Reading stops once there are too many files, not at the end of the table's manifests."""
    scan = resolved(filled)
    assert FILES == len(steps_of(scan, FILES)[1].files)
    planning, steps = Planning(resolved(filled), STEP_FILES), []
    while not steps or steps[-1].refused is None:
        steps.append(plan_step(planning))
    assert Reason.TOO_LARGE is steps[-1].refused.reason
    assert f"more than {STEP_FILES} data files (max_tasks_per_scan)" in steps[-1].refused.detail
    assert 2 * STEP_FILES < sum(step.files for step in steps) < 3 * STEP_FILES
    assert 1 == len(steps_of(resolved(filled, filters=ONE), 1)[1].files)


def test_a_finished_plan_stays_the_same_one(filled: Any) -> None:
    """Later calls of ``step`` return the same plan."""
    planning = Planning(resolved(filled))
    while (made := planning.step()).plan is None:
        pass
    again = planning.step()
    assert made.plan is again.plan
    assert 0 == again.files


def test_a_small_table_is_planned_in_one_step_and_one_far_away_a_manifest_at_a_time(
    warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remote file costs a round trip, which ends the step."""
    warehouse.create(SCHEMA)
    for day in range(4):
        warehouse.append([{"day": day, "id": day}])
    assert 1 == len(steps_of(resolved(warehouse))[0])
    assert 1 == len(steps_of(resolved(warehouse))[0])
    monkeypatch.setattr(planner, "is_local", lambda _io, _path: False)
    assert 2 == len(steps_of(resolved(warehouse))[0])  # the list; the manifests are remembered
    monkeypatch.setattr(WeightedLru, "get", lambda _cache, _key: None)
    assert 6 == len(steps_of(resolved(warehouse))[0])


def test_a_table_without_a_snapshot_has_an_empty_plan(warehouse: Any) -> None:
    """The plan is complete after one step."""
    warehouse.create(SCHEMA)
    [step], plan = steps_of(resolved(warehouse))
    assert ((), 0) == (plan.files, step.files)


def test_a_thread_never_waits_for_another_ones_step(warehouse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another thread takes a step, ``step`` returns busy at once."""
    warehouse.create(SCHEMA)
    warehouse.append([{"day": 1, "id": 1}])
    began, gate = threading.Event(), threading.Event()
    real = manifest_source.read_manifests

    def waiting(*args: Any) -> Iterator[Any]:
        began.set()
        assert gate.wait(60)
        return real(*args)

    monkeypatch.setattr(manifest_source, "read_manifests", waiting)
    planning = Planning(resolved(warehouse))
    thread = threading.Thread(target=planning.step)
    thread.start()
    assert began.wait(60)
    busy = planning.step()
    gate.set()
    thread.join(60)
    assert (True, 0, None) == (busy.busy, busy.files, busy.plan)
    assert planning.step().plan is not None


def test_a_manifest_that_is_gone_is_a_refusal_and_the_next_step_tries_again(warehouse: Any) -> None:
    """A refused step is as a refused whole plan; the next step starts anew and may succeed."""
    warehouse.create(SCHEMA)
    table = warehouse.append([{"day": 1, "id": 1}])
    [manifest] = table.current_snapshot().manifests(table.io)
    scan = resolved(warehouse)
    path = Path(manifest.manifest_path.removeprefix("file://"))
    content = path.read_bytes()
    path.unlink()
    planning = Planning(scan)
    for refused in (plan_step(planning).refused, plan_step(planning).refused, plan_files(scan)):
        assert isinstance(refused, Refused)
        assert Reason.DATA_UNREADABLE is refused.reason
    path.write_bytes(content)
    found = plan_step(planning)
    assert found.plan is not None
    assert 1 == len(found.plan.files)


def test_files_that_are_deleted_are_looked_at_too(warehouse: Any) -> None:
    """Deleted entries count as work: a manifest of many overwritten files takes several steps."""
    by_day = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "day"))
    warehouse.create(SCHEMA, partition_spec=by_day)
    table = warehouse.append([{"day": day, "id": day} for day in range(FILES)])
    table.delete("id >= 1")
    table = warehouse.table()
    gone = [
        entry
        for manifest in table.current_snapshot().manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False)
        if entry.status == ManifestEntryStatus.DELETED
    ]
    assert FILES - 1 == len(gone)
    steps, plan = steps_of(resolved(warehouse))
    assert 1 == len(plan.files)
    assert sum(step.files for step in steps) > FILES
    assert all(step.files < 2 * STEP_FILES for step in steps)


def test_deletes_that_are_held_against_each_file_count(
    warehouse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a thousand delete files in one partition, a step covers a few data files only."""
    warehouse.create(SCHEMA)
    for day in range(3):
        warehouse.append([{"day": day, "id": day}])
    paths = warehouse.data_files()
    for _ in range(4):
        warehouse.delete_positions({path: [5] for path in paths})
    scan, looked_at = resolved(warehouse), []
    steps_of(scan)  # what is read once is remembered
    for checks in (1_000_000, 1):
        monkeypatch.setattr(planner, "CHECKS", checks)
        steps, plan = steps_of(scan)
        assert [4, 4, 4] == [len(file.deletes) for file in plan.files]
        looked_at.append(sum(step.files for step in steps))
    assert looked_at[1] - looked_at[0] >= 12


def test_entries_that_no_cache_would_keep_are_not_gathered(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries larger than the cache are not collected, and the plan is the same."""
    kept: list[int] = []
    scan, real = resolved(filled), WeightedLru.put
    monkeypatch.setattr(WeightedLru, "put", lambda c, k, v, w: (kept.append(len(v)), real(c, k, v, w)))
    for most, expected in ((100_000, []), (MANIFEST_BYTES, [FILES])):
        scan.table.caches.manifests.resize(most)
        assert FILES == len(steps_of(scan)[1].files)
        assert expected == kept

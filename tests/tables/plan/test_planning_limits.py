"""A limit without a filter ends the planning at the last file that it reads."""

from __future__ import annotations

from typing import Any

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from strata.tables import Planning, ResolvedScan, ScanPlan, plan_step
from strata.tables.plan.planner import MANIFEST_FILES, plan_files

MANIFESTS = 6


@pytest.fixture
def filled(warehouse: Any) -> Any:
    """Write six files of ten rows, each in a manifest of its own."""
    warehouse.create(Schema(NestedField(1, "id", LongType(), required=False)))
    for at in range(MANIFESTS):
        warehouse.append([{"id": at * 10 + one} for one in range(10)])
    return warehouse


def planned(warehouse: Any, **params: Any) -> tuple[int, ScanPlan]:
    """Return the work of a planning, in files, and its plan."""
    scan = warehouse.resolve(params)
    assert isinstance(scan, ResolvedScan)
    planning, work = Planning(scan), 0
    while True:
        step = plan_step(planning)
        work += step.files
        if step.plan is not None:
            return work, step.plan


def test_only_the_files_of_the_limit_are_looked_at(filled: Any) -> None:
    """Exactly the first files of the whole plan, with rows that are known exactly."""
    whole = plan_files(filled.resolve({}))
    assert isinstance(whole, ScanPlan)
    listed = MANIFEST_FILES + MANIFESTS
    for limit, files in ((0, 0), (1, 1), (10, 1), (11, 2), (60, 6), (61, 6), (2**63 - 1, 6)):
        work, plan = planned(filled, limit=limit)
        assert [one.file_key for one in whole.files[:files]] == [one.file_key for one in plan.files]
        assert min(limit, 60) == plan.exact_rows
        assert listed + 2 * files == work  # each file's entry and its task


def test_a_filter_needs_all_files(filled: Any) -> None:
    """How many of a file's rows match is not known before it is read."""
    filters = [{"column": "id", "op": ">=", "value": 0}]
    _, plan = planned(filled, limit=1, filters=filters)
    assert MANIFESTS == len(plan.files)


def test_the_first_files_are_no_plan_of_a_larger_scan(filled: Any) -> None:
    """A smaller limit may use them."""
    _, plan = planned(filled, limit=15)
    smaller = plan.planned.for_scan(filled.resolve({"limit": 3}))
    assert (1, 3) == (len(smaller.files), smaller.exact_rows)
    for params in ({}, {"limit": 16}):
        with pytest.raises(ValueError, match="different files"):
            plan.planned.for_scan(filled.resolve(params))
    _, whole = planned(filled)
    assert 15 == whole.planned.for_scan(filled.resolve({"limit": 15})).exact_rows

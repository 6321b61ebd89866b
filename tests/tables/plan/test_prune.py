"""The filter of a row-limited caller rules out no file in which rows are hidden from it."""

from __future__ import annotations

from typing import Any

import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from strata.outcomes import Refused
from strata.tables import (
    CellGrants,
    Filter,
    Grant,
    ScanPlan,
    TableRef,
    expand_file,
    parse_scan_params,
    plan_files,
    resolve_scan,
)

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "region", StringType(), required=False),
    NestedField(3, "pay", LongType(), required=False),
)
EU = CellGrants((Grant(None, (Filter("region", "=", "EU"),)),))
EU_OR_US = CellGrants((*EU.grants, Grant(None, (Filter("region", "in", ("US", "CA")),))))
SPECS = {
    "not partitioned": PartitionSpec(),
    "by region": PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "region")),
    "by bucket": PartitionSpec(PartitionField(2, 1000, BucketTransform(4), "region_bucket")),
}


def rows(*regions: str | None, pay: int) -> list[dict[str, Any]]:
    return [{"id": at, "region": region, "pay": pay} for at, region in enumerate(regions)]


def plan_of(warehouse: Any, grants: CellGrants | None, *filters: tuple[str, str, Any]) -> ScanPlan:
    table = warehouse.catalogs.load(TableRef("wh", ("db",), "t"))
    asked = [{"column": column, "op": op, "value": value} for column, op, value in filters]
    scan = resolve_scan(table, parse_scan_params({"columns": ["id"], "filters": asked}), grants)
    assert not isinstance(scan, Refused)
    plan = plan_files(scan)
    assert isinstance(plan, ScanPlan)
    return plan


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_hidden_is_not_ruled_out_by_the_callers_filter(warehouse: Any, spec: str) -> None:
    """Files and sizes are those of the grant alone, for any value; a wholly visible file is pruned as ever."""
    warehouse.create(SCHEMA, partition_spec=SPECS[spec])
    warehouse.append(rows("EU", "EU", pay=1))
    warehouse.append(rows("EU", "US", "EU", None, pay=2))
    warehouse.append(rows("US", "US", pay=3))
    seen = set()
    for pay in range(5):
        plan = plan_of(warehouse, EU, ("pay", "=", pay))
        if spec == "not partitioned":
            assert {2: 1, 1: 2}.get(pay, 1) == len(plan.files)
        kept = [file for file in plan.files if file.has_hidden_rows]
        seen.add((len(kept), sum(file.record_count for file in kept)))
        assert plan.exact_rows is None
        tasks = [task for file in kept for task in expand_file(plan, file)]
        assert len(kept) == len(tasks), "row groups with hidden rows are read, too"
    assert 1 == len(seen)
    if spec == "by region":
        assert {(0, 0)} == seen, "a partition value proves that each row is visible"


def test_without_hidden_rows_the_filter_prunes(warehouse: Any) -> None:
    """A caller that may see all rows, or only some columns of all, reads what its filter leaves."""
    warehouse.create(SCHEMA)
    for pay in range(4):
        warehouse.append(rows("EU", "US", pay=pay))
    for grants in (None, CellGrants((Grant(frozenset({"id", "pay"})),))):
        assert 1 == len(plan_of(warehouse, grants, ("pay", "=", 2)).files)
    assert 4 == len(plan_of(warehouse, EU, ("pay", "=", 2)).files)


def test_several_grants_prove_together(warehouse: Any) -> None:
    """A file of one region each is wholly visible under any of two grants; a mixed one may hide rows."""
    warehouse.create(SCHEMA)
    for regions in (("EU", "EU"), ("US", "US"), ("EU", "US"), ("FR", "EU")):
        warehouse.append(rows(*regions, pay=1))
    plan = plan_of(warehouse, EU_OR_US)
    assert [True, True, False, False] == [file.has_hidden_rows for file in plan.files], "the latest first"
    assert 2 == len(plan_of(warehouse, EU_OR_US, ("pay", "=", 7)).files)


def test_a_row_group_that_is_proven_visible_is_pruned(warehouse: Any) -> None:
    """In a file that hides rows the filter rules out only the row groups that hide none."""
    warehouse.create(SCHEMA, row_group=2)
    warehouse.append(rows("EU", "EU", "EU", "US", "EU", "EU", pay=1))
    plan = plan_of(warehouse, EU, ("pay", "=", 7))
    [file] = plan.files
    assert [1] == [task.index for task in expand_file(plan, file)]
    every = plan_of(warehouse, EU)
    assert [0, 1, 2] == [task.index for task in expand_file(every, every.files[0])]


def test_a_column_that_a_file_lacks_rules_out_no_hidden_row(warehouse: Any) -> None:
    """A file older than a column has one value of it, hidden rows included; the rows are the same."""
    warehouse.create(SCHEMA)
    warehouse.append(rows("EU", "US", pay=1))
    warehouse.append(rows("EU", "EU", pay=2))
    with warehouse.table().update_schema() as change:
        change.add_column("level", LongType())
    plan = plan_of(warehouse, EU, ("level", "=", 7))
    tasks = [task for file in plan.files for task in expand_file(plan, file)]
    assert [True] == [task.file.has_hidden_rows for task in tasks], "the wholly visible file is pruned"
    assert 0 == warehouse.run(plan).num_rows


def test_sizes_of_hidden_columns_are_not_in_the_estimate(warehouse: Any) -> None:
    """Two tables that differ in a hidden column have equal estimates; a caller of all cells has a better one."""
    estimates = set()
    for name, text in (("t", "x"), ("u", "".join(map(chr, range(200, 9000))))):
        warehouse.create(SCHEMA, name)
        warehouse.append([{"id": at, "region": text[at:] or None, "pay": 0} for at in range(50)], name)
        table = warehouse.catalogs.load(TableRef("wh", ("db",), name))
        grants = CellGrants((Grant(frozenset({"id", "pay"})),))
        plans = [plan_files(resolve_scan(table, parse_scan_params({}), own)) for own in (grants, None)]
        estimates.add(tuple(plan.estimated_bytes for plan in plans))
    (limited, whole), (limited_too, whole_too) = estimates
    assert limited == limited_too
    assert whole != whole_too

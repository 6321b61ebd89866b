"""Pruning by partition values loses no row, whatever arithmetic the writer's engine has."""

from __future__ import annotations

from typing import Any

import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import TruncateTransform
from pyiceberg.types import IcebergType, IntegerType, LongType, NestedField

from strata.tables.plan.prune_by_partition import PartitionTest
from strata.tables.scan.predicates import Predicate


@pytest.mark.parametrize(("kind", "least"), [(IntegerType(), -(2**31)), (LongType(), -(2**63))])
@pytest.mark.parametrize("others", [[5], [-5, 5]], ids=["pruned by the manifest", "pruned by the file"])
@pytest.mark.parametrize("width", [10, 1000])
def test_a_truncated_minimum_is_found_though_writers_wrap_it(
    warehouse, kind: IcebergType, least: int, others: list[int], width: int
) -> None:
    """``truncate[10]`` of -2147483648 is stored as 2147483646 by Java and Rust (apache/iceberg 9767, 13105)."""
    spec = PartitionSpec(PartitionField(1, 1000, TruncateTransform(width), "part"))
    warehouse.create(Schema(NestedField(1, "id", kind)), partition_spec=spec)
    values = [least, *others]
    warehouse.append([{"id": value} for value in values])
    greatest = -least - 1
    warehouse.append([{"id": greatest}])
    values.append(greatest)

    conditions: dict[str, Any] = {
        "<": lambda value, literal: value < literal,
        "<=": lambda value, literal: value <= literal,
        "=": lambda value, literal: value == literal,
        ">=": lambda value, literal: value >= literal,
        ">": lambda value, literal: value > literal,
    }
    for op, holds in conditions.items():
        for literal in (0, least, least + 1, greatest, greatest - 1):
            expected = sorted(value for value in values if holds(value, literal))
            assert expected == warehouse.where("id", op, literal), (op, literal)


def test_other_partition_values_still_prune() -> None:
    """Only the range that wrapped values fall into is unordered: the last ``width`` values of the type."""
    test = PartitionTest(0, IntegerType(), Predicate(1, ("target",), IntegerType(), "<", (0,)), 2**31 - 11)

    assert test.is_ordered(2**31 - 11)
    assert not test.is_ordered(2**31 - 10)
    assert test.is_ordered(None)

"""Conditions carried over to partition values, so that whole manifests and files are left out.

The projections through partition transforms are pyiceberg's; what a transform or a literal does not support
prunes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs
import structlog
from pyiceberg.expressions import (
    And,
    BooleanExpression,
    BoundEqualTo,
    BoundGreaterThan,
    BoundGreaterThanOrEqual,
    BoundIn,
    BoundIsNull,
    BoundLessThan,
    BoundLessThanOrEqual,
    BoundLiteralPredicate,
    BoundNotNull,
    BoundPredicate,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    IsNull,
    LessThan,
    LessThanOrEqual,
    NotNull,
)
from pyiceberg.expressions import literals as iceberg_literals
from pyiceberg.manifest import ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import TimeTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from strata.tables.plan.prune import decode_bound
from strata.tables.scan.constants import normal_constant
from strata.tables.scan.literals import Literal
from strata.tables.scan.predicates import (
    Predicate,
    Statistics,
    matches_constant,
    might_match,
    normal_predicate,
)

_log = structlog.get_logger(__name__)


@attrs.frozen
class PartitionTest:
    """A condition on one partition field, implied by a condition on its source column.

    Attributes:
        position: Of the field in its spec.
        kind: Type of the partition value.
        predicate: On the partition value.
    """

    position: int
    kind: IcebergType = attrs.field(eq=str)
    predicate: Predicate


def partition_tests(predicates: Sequence[Predicate], spec: PartitionSpec) -> tuple[PartitionTest, ...]:
    """Project the conditions onto the fields of a partition spec."""
    tests = []
    for position, field in enumerate(spec.fields):
        for predicate in predicates:
            if predicate.field_id != field.source_id or predicate.op in {"!=", "not in"}:
                continue
            try:
                tests.extend(_project(predicate, field.transform, field.field_id, position))
            except Exception as reason:  # noqa: BLE001 - an unknown transform or literal just prunes nothing
                _log.debug(
                    "partition_not_pruned", transform=str(field.transform), reason=type(reason).__name__
                )
    return tuple(tests)


def manifest_might_match(manifest: ManifestFile, tests: Sequence[PartitionTest]) -> bool:
    """Test a manifest by the partition summaries of its list entry."""
    summaries = manifest.partitions or []
    for test in tests:
        if test.position >= len(summaries):
            continue
        summary = summaries[test.position]
        stats = Statistics(
            lower=decode_bound(test.kind, summary.lower_bound),
            upper=decode_bound(test.kind, summary.upper_bound),
            has_null=summary.contains_null,
        )
        if not might_match(test.predicate, stats):
            return False
    return True


def partition_might_match(partition: Sequence[Any], tests: Sequence[PartitionTest]) -> bool:
    """Test the partition values of one file."""
    for test in tests:
        if test.position >= len(partition):
            continue
        value = normal_constant(test.kind, partition[test.position])
        if _comparable(value, test.predicate) and not matches_constant(test.predicate, value):
            return False
    return True


def _project(predicate: Predicate, transform: Any, field_id: int, position: int) -> list[PartitionTest]:
    source = Schema(NestedField(predicate.field_id, "source", predicate.kind, required=False))
    bound = _unbound("source", predicate).bind(source, case_sensitive=True)
    if not isinstance(bound, BoundPredicate):
        return []
    projected = transform.project("target", bound)
    if projected is None:
        return []
    kind = transform.result_type(predicate.kind)
    target = Schema(NestedField(field_id, "target", kind, required=False))
    tests = []
    for part in _conjuncts(projected):
        condition = _predicate_of(part.bind(target, case_sensitive=True), field_id, kind)
        if condition is not None and not _before_epoch(transform, condition):
            tests.append(PartitionTest(position, kind, condition))
    return tests


def _before_epoch(transform: Any, condition: Predicate) -> bool:
    """Whether the condition is on a time unit before 1970.

    Old Iceberg writers rounded those towards zero instead of down, so such values are not to be trusted.
    """
    return isinstance(transform, TimeTransform) and any(
        isinstance(literal, int) and literal < 0 for literal in condition.literals
    )


def _conjuncts(expression: BooleanExpression) -> list[Any]:
    if isinstance(expression, And):
        return [*_conjuncts(expression.left), *_conjuncts(expression.right)]
    return [expression]


def _unbound(name: str, predicate: Predicate) -> Any:
    make = _UNBOUND[predicate.op]
    literals = [_LITERALS[type(predicate.kind)](literal) for literal in predicate.literals]
    match predicate.op:
        case "is null" | "is not null":
            return make(name)
        case "in":
            return make(name, literals)
        case _:
            return make(name, literals[0])


def _predicate_of(bound: BooleanExpression, field_id: int, kind: IcebergType) -> Predicate | None:
    for cls, op in _BOUND.items():
        if type(bound) is cls:
            values: tuple[Literal, ...] = ()
            if isinstance(bound, BoundLiteralPredicate):
                values = (normal_constant(kind, bound.literal.value),)
            elif isinstance(bound, BoundIn):
                values = tuple(normal_constant(kind, literal.value) for literal in bound.literals)
            return normal_predicate(field_id, ("target",), kind, op, values)
    return None


def _comparable(value: object, predicate: Predicate) -> bool:
    if value is None or not predicate.literals:
        return True
    literal = predicate.literals[0]
    numbers = (int, float, Decimal)
    return type(value) is type(literal) or (isinstance(value, numbers) and isinstance(literal, numbers))


# Typed as Any: pyiceberg's expressions take positional arguments their generated signatures do not show.
_UNBOUND: Mapping[str, Any] = {
    "=": EqualTo,
    "<": LessThan,
    "<=": LessThanOrEqual,
    ">": GreaterThan,
    ">=": GreaterThanOrEqual,
    "in": In,
    "is null": IsNull,
    "is not null": NotNull,
}

_BOUND: Mapping[type, str] = {
    BoundEqualTo: "=",
    BoundLessThan: "<",
    BoundLessThanOrEqual: "<=",
    BoundGreaterThan: ">",
    BoundGreaterThanOrEqual: ">=",
    BoundIn: "in",
    BoundIsNull: "is null",
    BoundNotNull: "is not null",
}

_LITERALS: Mapping[type, Any] = {
    BooleanType: iceberg_literals.BooleanLiteral,
    IntegerType: iceberg_literals.LongLiteral,
    LongType: iceberg_literals.LongLiteral,
    FloatType: iceberg_literals.DoubleLiteral,
    DoubleType: iceberg_literals.DoubleLiteral,
    DecimalType: iceberg_literals.DecimalLiteral,
    DateType: iceberg_literals.DateLiteral,
    TimeType: iceberg_literals.TimeLiteral,
    TimestampType: iceberg_literals.TimestampLiteral,
    TimestamptzType: iceberg_literals.TimestampLiteral,
    StringType: iceberg_literals.StringLiteral,
    UUIDType: iceberg_literals.UUIDLiteral,
    FixedType: iceberg_literals.FixedLiteral,
    BinaryType: iceberg_literals.BinaryLiteral,
}

"""Prune manifests and files by their partition values.

pyiceberg projects predicates through partition transforms; a transform or literal it does not support prunes
nothing.
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
from pyiceberg.transforms import TimeTransform, TruncateTransform
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

from strata.tables.plan.prune_by_statistics import decode_bound
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

_MAXIMUM: Mapping[type, int] = {IntegerType: 2**31 - 1, LongType: 2**63 - 1}
"""Largest value of the integer types, beyond which a writer's arithmetic wraps around."""


@attrs.frozen
class PartitionTest:
    """A predicate on one partition field, implied by a predicate on the field's source column.

    Attributes:
        position: Index of the field in its partition spec.
        kind: Type of the partition value.
        predicate: The predicate on the partition value.
        ordered_to: Largest partition value that is in the order of its source values; None: all of them are.
    """

    position: int
    kind: IcebergType = attrs.field(eq=str)
    predicate: Predicate
    ordered_to: int | None = None

    def is_ordered(self, value: Any) -> bool:
        """Whether a partition value, or the upper bound of several, says where its source values lie."""
        return self.ordered_to is None or not isinstance(value, int) or value <= self.ordered_to


def partition_tests(predicates: Sequence[Predicate], spec: PartitionSpec) -> tuple[PartitionTest, ...]:
    """Project predicates onto the fields of a partition spec."""
    tests = []
    for position, field in enumerate(spec.fields):
        for predicate in predicates:
            if predicate.field_id != field.source_id or predicate.op in {"!=", "not in"}:
                continue
            try:
                tests.extend(_project(predicate, field.transform, field.field_id, position))
            except Exception as reason:  # noqa: BLE001 - an unknown transform or literal prunes nothing
                _log.debug(
                    "partition_not_pruned", transform=str(field.transform), reason=type(reason).__name__
                )
    return tuple(tests)


def manifest_might_match(manifest: ManifestFile, tests: Sequence[PartitionTest]) -> bool:
    """Test a manifest by the partition summaries of its list entry; ``False`` if no file can match."""
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
        if test.is_ordered(stats.upper) and not might_match(test.predicate, stats):
            return False
    return True


def partition_might_match(partition: Sequence[Any], tests: Sequence[PartitionTest]) -> bool:
    """Test the partition values of one file; ``False`` if no row can match."""
    for test in tests:
        if test.position >= len(partition):
            continue
        value = normal_constant(test.kind, partition[test.position])
        comparable = test.is_ordered(value) and _comparable(value, test.predicate)
        if comparable and not matches_constant(test.predicate, value):
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
            tests.append(PartitionTest(position, kind, condition, _ordered_to(transform, kind)))
    return tests


def _ordered_to(transform: Any, kind: IcebergType) -> int | None:
    """Return the largest partition value in the order of its source values; None: all are in order.

    Truncating an integer next to its type's minimum wraps around in writers with integers of that width, into
    the range of the largest values: Java and Rust store 2147483646 for ``truncate[10]`` of -2147483648.
    """
    most = _MAXIMUM.get(type(kind))
    return None if most is None or not isinstance(transform, TruncateTransform) else most - transform.width


def _before_epoch(transform: Any, condition: Predicate) -> bool:
    """Test whether the predicate compares with a time unit before 1970.

    Old Iceberg writers rounded such values towards zero instead of down, so they cannot prune.
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


# Any: the generated signatures of pyiceberg's expressions omit their positional arguments.
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

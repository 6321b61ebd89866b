"""Bind the read restrictions that a REST catalog demands to the schema of a scan.

``resolve`` puts them into the scan; ``tables.read.residual`` and ``tables.read.masks`` enforce them.

A catalog may answer ``loadTable`` with ``read-restrictions`` (Iceberg REST catalog specification,
``ReadRestrictions``): a filter on rows, and actions that mask columns. A reader that cannot apply one of them
must not read the table, so whatever is not known here is refused by name. Names of columns and values stay
out of refusals: the caller may not learn by what a table is restricted.

The filter is a Boolean expression of comparisons. It becomes clauses, as those of cell grants: of each, at
least one alternative must hold with all its predicates. A row for which the filter is unknown is left out, so
``not`` moves down to the comparisons: of ``x = 1`` and ``x != 1`` neither holds for a null.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import attrs
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import (
    BinaryType,
    DateType,
    FixedType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
)

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.unsupported import UnsupportedType
from strata.tables.scan.cell_grants import Alternatives
from strata.tables.scan.constants import absent_leaf_value
from strata.tables.scan.literals import LiteralTypeError, to_literal
from strata.tables.scan.nested import struct_fields
from strata.tables.scan.predicates import Predicate, matches_constant, normal_predicate

MOST_PREDICATES = 1_000
"""Predicates of a filter, once it has its normal form; a longer one is refused."""

MOST_DEPTH = 50
"""Expressions inside one another; a deeper filter is refused."""

_FILTER, _COLUMNS = "required-row-filter", "required-column-projections"

Disjunction: TypeAlias = "tuple[tuple[Predicate, ...], ...]"

_TIMES = (DateType, TimestampType, TimestamptzType, TimestampNanoType, TimestamptzNanoType)
_HASHED = (StringType, IntegerType, LongType, BinaryType)

ACTIONS: Mapping[str, tuple[type[IcebergType], ...] | None] = {
    "mask-alphanum": (StringType,),
    "mask-to-fixed-value": None,
    "replace-with-null": None,
    "show-first-4": (StringType,),
    "show-last-4": (StringType,),
    "truncate-to-year": _TIMES,
    "truncate-to-month": _TIMES,
    "sha-256-global": _HASHED,
    "sha-256-query-local": _HASHED,
}
"""The actions, and the types of the columns that each is for; None: all types."""

SALTED = "sha-256-query-local"
"""The action whose outcome differs from query to query."""

SALT_BYTES = 32
"""Bytes of the salt of a query; the specification demands 16."""

_MARK_DIGITS = 16

_OPERATORS = {
    "eq": "=",
    "not-eq": "!=",
    "lt": "<",
    "lt-eq": "<=",
    "gt": ">",
    "gt-eq": ">=",
    "in": "in",
    "not-in": "not in",
    "starts-with": "starts with",
    "not-starts-with": "not starts with",
    "is-null": "is null",
    "not-null": "is not null",
    "is-nan": "is nan",
    "not-nan": "is not nan",
}
_OPPOSITES = {
    "=": "!=",
    "<": ">=",
    "<=": ">",
    "in": "not in",
    "starts with": "not starts with",
    "is null": "is not null",
    "is nan": "is not nan",
}
_OPPOSITES |= {right: left for left, right in _OPPOSITES.items()}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
_UNARY = frozenset({"is null", "is not null", "is nan", "is not nan"})
_PREFIXES = frozenset({"starts with", "not starts with"})
_WORD = re.compile("[a-z0-9-]{1,40}")


@attrs.frozen
class BoundRestrictions:
    """Read restrictions bound to the schema of a scan.

    Attributes:
        clauses: The clauses of the filter.
        masks: The action by the id of the field that it masks.
    """

    clauses: tuple[Alternatives, ...] = ()
    masks: Mapping[int, str] = attrs.field(factory=dict)

    def is_masked(self, down: Iterable[NestedField]) -> bool:
        """Test whether a field, given with those from its column down to it, is masked."""
        return any(field.field_id in self.masks for field in down)


@attrs.frozen
class Masking:
    """The masks of a scan.

    Attributes:
        actions: The action by the id of the field that it masks.
        salt: Precedes each value that ``sha-256-query-local`` hashes.
    """

    actions: Mapping[int, str]
    salt: bytes = attrs.field(default=b"", repr=False)

    @classmethod
    def of(cls, actions: Mapping[int, str]) -> Self:
        """Return the masks of a new query, with a salt of its own where one is needed."""
        return cls(actions, secrets.token_bytes(SALT_BYTES) if SALTED in actions.values() else b"")

    @property
    def mark(self) -> str:
        """A suffix that tells results with other salts apart; empty without a salt."""
        return f".{hashlib.sha256(self.salt).hexdigest()[:_MARK_DIGITS]}" if self.salt else ""


def bind_restrictions(found: Any, metadata: TableMetadata, base: Schema) -> BoundRestrictions:
    """Bind the ``read-restrictions`` of a catalog's answer.

    Args:
        found: The restrictions as JSON; empty: none.
        metadata: The table's metadata, in whose current schema the filter names columns.
        base: The schema of the snapshot that is read.

    Raises:
        RefusalError: UNSUPPORTED, naming the expression or action, if a restriction cannot be applied.
    """
    if not found:
        return BoundRestrictions()
    if not isinstance(found, dict):
        raise _refused("read restrictions of an unknown form")
    unknown = sorted(set(found) - {_FILTER, _COLUMNS})
    if unknown:
        raise _refused(f"the restriction {_word(unknown[0])}")
    masks = _masks(found.get(_COLUMNS) or (), metadata, base)
    condition = found.get(_FILTER)
    if condition is None:
        return BoundRestrictions((), masks)
    binder = _Binder(metadata, base)
    clauses = tuple(dict.fromkeys(binder.clauses(condition)))
    return BoundRestrictions(clauses, masks)


@attrs.define
class _Binder:
    """Turns an expression into clauses of predicates, and counts them."""

    metadata: TableMetadata
    base: Schema
    _count: int = 0

    def clauses(self, expression: Any, *, negated: bool = False, depth: int = 0) -> list[Alternatives]:
        """Return the clauses that hold for exactly the rows that an expression, or its opposite, keeps."""
        kind = _kind_of(expression, depth)
        if kind == "not":
            return self.clauses(_child(expression), negated=not negated, depth=depth + 1)
        if kind == ("or" if negated else "and"):
            return [
                clause
                for side in ("left", "right")
                for clause in self.clauses(_side(expression, side), negated=negated, depth=depth + 1)
            ]
        options = self._options(expression, negated=negated, depth=depth)
        return [] if () in options else [options]

    def _options(self, expression: Any, *, negated: bool, depth: int) -> Disjunction:
        """Return alternatives of which one holds for exactly the rows that the expression keeps."""
        kind = _kind_of(expression, depth)
        if kind in {"true", "false"}:
            return ((),) if (kind == "true") is not negated else ()
        if kind == "not":
            return self._options(_child(expression), negated=not negated, depth=depth + 1)
        if kind not in {"and", "or"}:
            return self._predicate(kind, expression, negated=negated)
        left, right = (
            self._options(_side(expression, side), negated=negated, depth=depth + 1)
            for side in ("left", "right")
        )
        if kind == ("and" if negated else "or"):
            return tuple(dict.fromkeys((*left, *right)))
        self._charge(len(left) * sum(map(len, right)) + len(right) * sum(map(len, left)))
        return tuple(dict.fromkeys((*one, *other) for one in left for other in right))

    def _predicate(self, kind: str, expression: Mapping[str, Any], *, negated: bool) -> Disjunction:
        op = _OPERATORS.get(kind)
        if op is None:
            raise _refused(f"the expression {_word(kind)}")
        field, value, mirrored = self._operands(kind, op, expression)
        op = _MIRRORED[op] if mirrored else op
        op = _OPPOSITES[op] if negated else op
        down = struct_fields(self.base.fields, field.field_id)
        field = field if down is None else down[-1]
        literals = self._literals(kind, op, field.field_type, value)
        if down is None:
            return self._of_absent(field, op, literals)
        path = tuple(one.name for one in down)
        self._charge(1)
        return ((normal_predicate(field.field_id, path, field.field_type, op, literals),),)

    def _of_absent(self, field: NestedField, op: str, literals: tuple[Any, ...]) -> Disjunction:
        """Decide a comparison with a column that the snapshot's schema lacks: it has its default there."""
        down = struct_fields(self.metadata.schema().fields, field.field_id)
        if down is None:
            raise _refused("a filter inside a list or map")
        test = normal_predicate(field.field_id, (), field.field_type, op, literals)
        return ((),) if matches_constant(test, absent_leaf_value(down, {})) else ()

    def _operands(self, kind: str, op: str, expression: Mapping[str, Any]) -> tuple[NestedField, Any, bool]:
        """Return the column, the value compared with, and whether the value stands on the left."""
        given = set(expression) - {"type"}
        if op in _UNARY:
            for key in ("term", "child"):
                if given == {key}:
                    return self._field(expression[key]), None, False
        elif op in {"in", "not in"}:
            for key in ("term", "child", "left"):
                if given == {key, "values"} and isinstance(expression["values"], list):
                    return self._field(expression[key]), expression["values"], False
        elif given == {"term", "value"}:
            return self._field(expression["term"]), _value(expression["value"]), False
        elif given == {"left", "right"}:
            left, right = expression["left"], expression["right"]
            if _is_literal(left) and op in _MIRRORED:
                return self._field(right), _value(left), True
            return self._field(left), _value(right), False
        raise _refused(f"the expression {_word(kind)} in an unknown form")

    def _field(self, term: Any) -> NestedField:
        """Return the column that a term refers to, by name in the current schema or by id in any."""
        if isinstance(term, dict):
            kind = term.get("type")
            if kind == "transform" and term.get("transform") == "identity":
                return self._field(term.get("term"))
            if kind != "reference":
                raise _refused(f"the term {_word(term.get('transform', kind))}")
            keys = set(term) - {"type"}
            if keys == {"id"}:
                return self._by_id(term["id"])
            if keys not in ({"term"}, {"name"}):
                raise _refused("the term reference in an unknown form")
            term = term.get("term", term.get("name"))
        if not isinstance(term, str):
            raise _refused("a filter on something other than a column")
        try:
            field = self.metadata.schema().find_field(term, case_sensitive=True)
        except ValueError:
            raise _refused("a filter on a column that the table does not have") from None
        return self._readable(field)

    def _by_id(self, field_id: object) -> NestedField:
        if isinstance(field_id, int) and not isinstance(field_id, bool):
            for schema in (self.base, self.metadata.schema(), *self.metadata.schemas):
                try:
                    return self._readable(schema.find_field(field_id))
                except ValueError:
                    continue
        raise _refused("a filter on a column that the table does not have")

    def _readable(self, field: NestedField) -> NestedField:
        if field.field_id in self.base.field_ids and struct_fields(self.base.fields, field.field_id) is None:
            raise _refused("a filter inside a list or map")
        return field

    def _literals(self, kind: str, op: str, column: IcebergType, value: Any) -> tuple[Any, ...]:
        if op in _UNARY:
            if op in {"is nan", "is not nan"} and str(column) not in {"float", "double"}:
                raise _refused(f"the expression {_word(kind)} for a column of this type")
            return ()
        if op in _PREFIXES and not isinstance(column, StringType):
            raise _refused(f"the expression {_word(kind)} for a column of this type")
        if isinstance(column, UnsupportedType) or not isinstance(column, PrimitiveType):
            raise _refused(f"the expression {_word(kind)} for a column of this type")
        values = value if op in {"in", "not in"} else [value]
        self._charge(len(values))
        try:
            return tuple(to_literal(column, _unpacked(column, one)) for one in values)
        except (LiteralTypeError, ValueError, TypeError):
            raise _refused(f"the expression {_word(kind)} with a value of another type") from None

    def _charge(self, count: int) -> None:
        self._count += count
        if self._count > MOST_PREDICATES:
            raise _refused(f"a filter of more than {MOST_PREDICATES} comparisons")


def _kind_of(expression: Any, depth: int) -> str:
    if depth > MOST_DEPTH:
        raise _refused(f"a filter with more than {MOST_DEPTH} expressions inside one another")
    if isinstance(expression, bool):
        return "true" if expression else "false"
    kind = expression.get("type") if isinstance(expression, dict) else None
    if not isinstance(kind, str):
        raise _refused("a filter of an unknown form")
    if kind == "literal" and isinstance(expression.get("value"), bool):
        return "true" if expression["value"] else "false"
    if kind in {"true", "false"} and len(expression) > 1:
        raise _refused(f"the expression {_word(kind)} in an unknown form")
    return kind


def _child(expression: Mapping[str, Any]) -> Any:
    if set(expression) != {"type", "child"}:
        raise _refused("the expression not in an unknown form")
    return expression["child"]


def _side(expression: Mapping[str, Any], side: str) -> Any:
    if set(expression) != {"type", "left", "right"}:
        raise _refused(f"the expression {_word(expression['type'])} in an unknown form")
    return expression[side]


def _is_literal(term: Any) -> bool:
    return isinstance(term, dict) and term.get("type") == "literal"


def _value(term: Any) -> Any:
    if not isinstance(term, dict):
        return term
    if not _is_literal(term) or not {"type", "value"} <= set(term) <= {"type", "value", "data-type"}:
        raise _refused("a comparison of a column with something other than a value")
    return term["value"]


def _unpacked(kind: IcebergType, value: Any) -> Any:
    """Return a value without the hexadecimal digits in which bytes are written (Iceberg, Appendix D)."""
    if isinstance(value, dict):
        value = _value(value)
    return bytes.fromhex(value) if isinstance(kind, (BinaryType, FixedType)) else value


def _masks(found: Any, metadata: TableMetadata, base: Schema) -> dict[int, str]:
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise _refused("column projections of an unknown form")
    masks: dict[int, str] = {}
    for one in found:
        field_id, action = _projection(one)
        if field_id in masks:
            raise _refused("two actions for one column")
        masks[field_id] = action
    if not set(masks) <= {field_id for schema in metadata.schemas for field_id in schema.field_ids}:
        raise _refused("an action for a column that the table does not have")
    bound = {field_id: action for field_id, action in masks.items() if field_id in set(base.field_ids)}
    for field_id, action in bound.items():
        down = struct_fields(base.fields, field_id)
        if down is None:
            raise _refused(f"the action {action} inside a list or map")
        _check_fits(action, down[-1])
        if not {*(one.field_id for one in down[:-1]), *_inside(down[-1])}.isdisjoint(masks):
            raise _refused("an action for a column inside another one with an action")
    return bound


def _projection(one: Any) -> tuple[int, str]:
    """Return the field and the action of a column projection."""
    action = one.get("action") if isinstance(one, dict) else None
    if not isinstance(action, str) or action not in ACTIONS:
        raise _refused(f"the action {_word(action)}")
    field_id = one.get("field-id")
    if set(one) != {"action", "field-id"} or not isinstance(field_id, int) or isinstance(field_id, bool):
        raise _refused(f"the action {_word(action)} in an unknown form")
    return field_id, action


def _check_fits(action: str, field: NestedField) -> None:
    kinds = ACTIONS[action]
    if kinds is not None and not isinstance(field.field_type, kinds):
        raise _refused(f"the action {action} for a column of another type")
    if action == "replace-with-null" and field.required:
        raise _refused(f"the action {action} for a required column")


def _inside(field: NestedField) -> Iterable[int]:
    """Return the ids of all fields inside a field."""
    if isinstance(field.field_type, StructType) or not field.field_type.is_primitive:
        return (field_id for field_id in Schema(field).field_ids if field_id != field.field_id)
    return ()


def _word(text: object) -> str:
    """Return a word of the specification's in quotes; a text of another form may hold anything."""
    return repr(text) if isinstance(text, str) and _WORD.fullmatch(text) else "of an unknown form"


def _refused(what: str) -> RefusalError:
    detail = f"The table cannot be read: its catalog demands {what}, which is not supported"
    return RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_read_restriction"))

"""Parse table metadata that has parts this server does not know, so that only those parts cannot be read.

Metadata that is whole and valid is never called damaged: what the whole table depends on is refused by name,
and a column of an unknown type costs no other column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from pyiceberg.conversions import from_json
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, PrimitiveType, StructType

from strata.outcomes import Reason, RefusalError, Refused

FORMAT_VERSIONS = frozenset({1, 2, 3})
"""Versions of Iceberg's table format that are read; a table of another one is refused."""

MOST_NESTED = 32
"""Types of a column within each other; with more the table is refused. Each takes 15 frames of Python."""

_SIMPLE = frozenset(
    {
        *("boolean", "int", "long", "float", "double", "date", "time", "string", "uuid", "binary"),
        *("timestamp", "timestamptz", "timestamp_ns", "timestamptz_ns"),
    }
)
_UNKNOWN_TRANSFORM = "of several columns"


class UnsupportedType(PrimitiveType):
    """The type of a column that cannot be read; its one value is the type as the metadata writes it."""

    root: tuple[str]

    def __str__(self) -> str:
        return self.root[0]


def parse_metadata(found: dict[str, Any]) -> TableMetadata:
    """Parse the JSON of a metadata file, which is changed.

    Columns of unknown types, or with defaults that cannot be read, get an :class:`UnsupportedType`.
    Transforms of several columns become unknown ones, by which nothing is pruned.

    Raises:
        RefusalError: UNSUPPORTED for a view, and for a format version that is not known.
        Exception: Of many kinds, if the metadata is damaged.
    """
    if "view-uuid" in found:
        refuse("it is a view")
    version = found["format-version"]
    if isinstance(version, int) and version not in FORMAT_VERSIONS:
        refuse(f"it has format version {version}")
    schemas = [*(found.get("schemas") or ()), *([found["schema"]] if "schema" in found else [])]
    for schema in schemas:
        for field in schema["fields"]:
            _accept_field(field, MOST_NESTED)
    for field in _transformed(found):
        sources: list[int] = field.get("source-ids") or []
        if "source-id" not in field and len(sources) > 1:
            field["source-id"], field["transform"] = sources[0], _UNKNOWN_TRANSFORM
    for snapshot in found.get("snapshots") or ():
        snapshot.pop("summary", None)  # unused, and its operation may be of a later version
    # One at a time: pydantic holds the interpreter while it parses a list of dictionaries.
    for key, model in (("snapshots", Snapshot), ("schemas", Schema)):
        if found.get(key):
            found[key] = [model.model_validate(one) for one in found[key]]
    return TableMetadataUtil.parse_obj(found)


def has_unsupported(kind: IcebergType) -> bool:
    """Test whether a column's type is, or contains, an :class:`UnsupportedType`."""
    return next(_unsupported(kind), None) is not None


def refuse_unsupported(fields: Iterable[NestedField]) -> None:
    """Refuse to read columns of which one has an :class:`UnsupportedType`.

    Raises:
        RefusalError: UNSUPPORTED, naming the first such column and its type.
    """
    for field in fields:
        for kind in _unsupported(field.field_type):
            detail = f"Column {field.name!r} cannot be read: its type is {kind}. Leave it out of the columns."
            raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))


def _unsupported(kind: IcebergType) -> Iterator[UnsupportedType]:
    if isinstance(kind, UnsupportedType):
        yield kind
    for field in _inner(kind):
        yield from _unsupported(field.field_type)


def _inner(kind: IcebergType) -> Iterable[NestedField]:
    match kind:
        case StructType():
            return kind.fields
        case ListType():
            return (kind.element_field,)
        case MapType():
            return (kind.key_field, kind.value_field)
    return ()


def _accept_field(field: dict[str, Any], depth: int) -> None:
    field["type"] = _accepted(field["type"], depth)
    field.pop("write-default", None)
    default = field.pop("initial-default", None)
    if default is None or isinstance(field["type"], UnsupportedType):
        return
    try:
        from_json(_parsed(field["type"]), default)
    except Exception:  # noqa: BLE001  # whatever pyiceberg makes of a default that it does not know
        field["type"] = UnsupportedType((f"{_name(field['type'])} with a default that is not supported",))
    else:
        field["initial-default"] = default


def _accepted(kind: Any, depth: int) -> Any:
    """Return a type as JSON, with an :class:`UnsupportedType` in place of each that is not known.

    Raises:
        RefusalError: UNSUPPORTED if there are more than ``depth`` types around one.
    """
    if not depth:
        refuse(f"a column of it has more than {MOST_NESTED} types within each other")
    if isinstance(kind, str):
        if kind in _SIMPLE:
            return kind
        try:
            _parsed(kind)
        except Exception:  # noqa: BLE001  # whatever pyiceberg's parsers raise
            return UnsupportedType((kind,))
        return kind
    match kind.get("type"):
        case "struct":
            for field in kind["fields"]:
                _accept_field(field, depth - 1)
        case "list":
            kind["element"] = _accepted(kind["element"], depth - 1)
        case "map":
            kind["key"], kind["value"] = (_accepted(kind[part], depth - 1) for part in ("key", "value"))
        case other:
            return UnsupportedType((str(other),))
    return kind


def _parsed(kind: Any) -> Any:
    return NestedField(1, "field", kind).field_type


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else str(kind.get("type"))


def _transformed(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in ("partition-specs", "sort-orders"):
        for one in found.get(kind) or ():
            yield from one["fields"]


def refuse(why: str) -> NoReturn:
    """Refuse a table.

    Raises:
        RefusalError: UNSUPPORTED, for the reason ``why``.
    """
    detail = f"The table cannot be read: {why}"
    raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))

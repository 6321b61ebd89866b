"""Find fields of structs, by id in a schema and by name in an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
from pyiceberg.types import NestedField, StructType


def struct_fields(fields: Sequence[NestedField], field_id: int) -> tuple[NestedField, ...] | None:
    """Return the fields down to a field through structs; ``None`` if it is absent or inside a list or map."""
    for field in fields:
        if field.field_id == field_id:
            return (field,)
        if isinstance(field.field_type, StructType):
            below = struct_fields(field.field_type.fields, field_id)
            if below is not None:
                return (field, *below)
    return None


def struct_path(fields: Sequence[NestedField], field_id: int) -> tuple[str, ...] | None:
    """Return the names down to a field through structs; ``None`` if it is absent or inside a list or map."""
    down = struct_fields(fields, field_id)
    return None if down is None else tuple(field.name for field in down)


def leaf_of(column: Any, path: Sequence[str]) -> Any:
    """Return the field at ``path`` of ``column``, the top-level column with which ``path`` begins.

    A field of a null struct is null.

    Raises:
        LookupError: If there is no such field (pyarrow would take its index -1 for the last field).
    """
    for name in path[1:]:
        index = column.type.get_field_index(name)
        if index < 0:
            raise LookupError(f"the column has no field {name}")
        column = pc.struct_field(column, [index])
    return column

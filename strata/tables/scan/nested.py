"""Fields of structs, found by id in a schema and by position in an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
from pyiceberg.types import NestedField, StructType


def struct_path(fields: Sequence[NestedField], field_id: int) -> tuple[str, ...] | None:
    """Return the names down to a field through structs; ``None`` if it is absent or inside a list or map."""
    for field in fields:
        if field.field_id == field_id:
            return (field.name,)
        if isinstance(field.field_type, StructType):
            below = struct_path(field.field_type.fields, field_id)
            if below is not None:
                return (field.name, *below)
    return None


def leaf_of(column: Any, path: Sequence[str]) -> Any:
    """Return the field at ``path`` below the top-level ``column`` that ``path`` begins with.

    A field of a null struct is null.

    Raises:
        LookupError: If there is no such field. An index of -1 would silently mean the last one.
    """
    for name in path[1:]:
        index = column.type.get_field_index(name)
        if index < 0:
            raise LookupError(f"the column has no field {name}")
        column = pc.struct_field(column, [index])
    return column

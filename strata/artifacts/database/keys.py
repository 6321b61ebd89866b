"""Conditions on the keys of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def among(columns: Sequence[sa.Column[Any]], keys: Sequence[Sequence[Any]]) -> sa.ColumnElement[bool]:
    """Return the condition that a row has one of some keys.

    The first column is tested by itself, too: SQLite looks up no list of several columns in an index, and
    would read all rows of the tenant instead.

    Args:
        columns: The columns of the key, in the order of an index, without the tenant.
        keys: The keys, each with a value of every column.
    """
    first = list(dict.fromkeys(key[0] for key in keys))
    return sa.and_(columns[0].in_(first), sa.tuple_(*columns).in_(keys))

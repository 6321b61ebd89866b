"""Random Iceberg tables with a history, and random scans of them, drawn by Hypothesis."""

from __future__ import annotations

import base64
import datetime as dt
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st
from pyiceberg import types as t
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo, LessThan
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform, TruncateTransform

from strata.demo.positional import delete_rows

Draw = Callable[[st.SearchStrategy[Any]], Any]

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4)
_MOMENT = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1))  # noqa: DTZ001  # times without zone

KINDS: dict[str, tuple[t.IcebergType, st.SearchStrategy[Any]]] = {
    "bool": (t.BooleanType(), st.booleans()),
    "int": (t.IntegerType(), st.integers(-5, 5) | st.integers(-(2**31), 2**31 - 1)),
    "long": (t.LongType(), st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)),
    "float": (t.FloatType(), st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.5, math.nan])),
    "double": (t.DoubleType(), st.floats() | st.sampled_from([0.0, -0.0, 1.5, math.nan])),
    "decimal": (t.DecimalType(9, 2), st.decimals(-1000, 1000, places=2)),
    "date": (t.DateType(), st.dates(dt.date(1950, 1, 1), dt.date(2100, 1, 1))),
    "time": (t.TimeType(), st.times()),
    "timestamp": (t.TimestampType(), _MOMENT),
    "timestamptz": (t.TimestamptzType(), _MOMENT.map(lambda m: m.replace(tzinfo=dt.UTC))),
    "string": (t.StringType(), st.sampled_from(["", "a", "ab", "b", "é"]) | _TEXT),
    "binary": (t.BinaryType(), st.binary(max_size=4)),
    "fixed": (t.FixedType(3), st.binary(min_size=3, max_size=3)),
    "uuid": (t.UUIDType(), st.integers(0, 5).map(lambda i: uuid.UUID(int=i).bytes)),
    "list": (
        t.ListType(100, t.StringType(), element_required=False),
        st.lists(st.none() | _TEXT, max_size=3),
    ),
    "struct": (
        t.StructType(t.NestedField(101, "a", t.IntegerType()), t.NestedField(102, "b", t.StringType())),
        st.fixed_dictionaries({"a": st.none() | st.integers(-9, 9), "b": st.none() | _TEXT}),
    ),
    "map": (
        t.MapType(103, t.StringType(), 104, t.LongType(), value_required=False),
        st.dictionaries(_TEXT, st.integers(-9, 9), max_size=2).map(lambda d: list(d.items())),
    ),
}
"""Type and values by kind; rows also hold nulls."""

FILTERABLE = ("int", "long", "decimal", "date", "timestamp", "timestamptz", "string", "binary")
"""Kinds that pyiceberg filters correctly; floating point has a test of its own."""


@attrs.define
class RandomTable:
    """A table under construction, and the state for drawing its next change.

    Attributes:
        table: The table.
        kinds: Kind of each current column, by name.
        next_id: Value of ``id`` for the next row, which identifies it.
        snapshots: Snapshot id and the schema id it was written with.
    """

    table: Table
    kinds: dict[str, str]
    next_id: int = 0
    snapshots: list[int] = attrs.field(factory=list)
    steps: list[str] = attrs.field(factory=list)

    def append(self, draw: Draw) -> None:
        """Append up to twelve rows."""
        self.table.append(self.rows(draw, draw(st.integers(1, 12))))
        self._note("append")

    def rows(self, draw: Draw, count: int) -> pa.Table:
        """Return random rows of the current schema."""
        schema = schema_to_pyarrow(self.table.schema(), include_field_ids=False)
        columns = []
        for field in schema:
            if field.name == "id":
                values: list[Any] = list(range(self.next_id, self.next_id + count))
            else:
                kind = self.kinds[field.name]
                one = KINDS[kind][1]
                values = draw(st.lists(one | st.none(), min_size=count, max_size=count))
            columns.append(pa.array(values, field.type))
        self.next_id += count
        return pa.Table.from_arrays(columns, schema=schema)

    def step(self, draw: Draw) -> None:
        """Apply one random change."""
        draw(st.sampled_from([
            self.append, self.append, self.overwrite, self.delete, self.delete_positions, self.add_column,
            self.drop_column, self.rename_column, self.move_column, self.promote,
        ]))(draw)  # fmt: skip

    def overwrite(self, draw: Draw) -> None:
        """Replace at most one row."""
        which = EqualTo("id", draw(st.integers(0, max(0, self.next_id))))
        self.table.overwrite(self.rows(draw, 2), overwrite_filter=which)
        self._note("overwrite")

    def delete(self, draw: Draw) -> None:
        """Rewrite files without some rows."""
        self.table.delete(LessThan("id", draw(st.integers(0, 3))))
        self._note("delete")

    def delete_positions(self, draw: Draw) -> None:
        """Delete rows by position, once in a table's life."""
        if "delete_positions" in self.steps or not self.next_id:
            return
        which = draw(st.integers(0, 3))
        if delete_rows(self.table, pc.bit_wise_and(pc.field("id"), pc.scalar(3)) == which, columns=["id"]):
            self.table.refresh()
            self._note("delete_positions")

    def add_column(self, draw: Draw) -> None:
        """Add a column, perhaps under the name of a dropped one."""
        free = [name for name in "abcdef" if name not in self.kinds]
        if free:
            name, kind = draw(st.sampled_from(free)), draw(st.sampled_from(sorted(KINDS)))
            with self.table.update_schema() as update:
                update.add_column(name, KINDS[kind][0])
            self.kinds[name] = kind

    def drop_column(self, draw: Draw) -> None:
        """Drop a column."""
        name = self._some_column(draw)
        if name is not None:
            with self.table.update_schema() as update:
                update.delete_column(name)
            del self.kinds[name]

    def rename_column(self, draw: Draw) -> None:
        """Rename a column, perhaps to the name of a dropped one."""
        name = self._some_column(draw)
        free = [other for other in "abcdef" if other not in self.kinds]
        if name is not None and free:
            new = draw(st.sampled_from(free))
            with self.table.update_schema() as update:
                update.rename_column(name, new)
            self.kinds[new] = self.kinds.pop(name)

    def move_column(self, draw: Draw) -> None:
        """Move a column to the front."""
        name = self._some_column(draw)
        if name is not None:
            with self.table.update_schema() as update:
                update.move_first(name)

    def promote(self, draw: Draw) -> None:  # noqa: ARG002  # a step like the others
        """Widen an int to a long."""
        narrow = [name for name, kind in self.kinds.items() if kind == "int"]
        if narrow and not self._partitioned_by(narrow[0]):
            with self.table.update_schema() as update:
                update.update_column(narrow[0], t.LongType())
            self.kinds[narrow[0]] = "long"

    def _some_column(self, draw: Draw) -> str | None:
        names = sorted(name for name in self.kinds if not self._partitioned_by(name))
        return draw(st.sampled_from(names)) if names else None

    def _partitioned_by(self, name: str) -> bool:
        field_id = self.table.schema().find_field(name).field_id
        return any(
            field.source_id == field_id for spec in self.table.specs().values() for field in spec.fields
        )

    def _note(self, step: str) -> None:
        self.steps.append(step)
        snapshot = self.table.current_snapshot()
        if snapshot is not None and snapshot.snapshot_id not in self.snapshots:
            self.snapshots.append(snapshot.snapshot_id)


def draw_table(draw: Draw, directory: Path) -> RandomTable:
    """Return a table ``db.t`` in a new warehouse, with a history of up to six steps."""
    catalog = SqlCatalog("strata", uri=f"sqlite:///{directory}/catalog.db", warehouse=str(directory))
    catalog.create_namespace("db")
    kinds = {name: draw(st.sampled_from(sorted(KINDS))) for name in "abc"[: draw(st.integers(0, 3))]}
    fields = [t.NestedField(1, "id", t.LongType())]
    fields += [t.NestedField(2 + i, name, KINDS[kind][0]) for i, (name, kind) in enumerate(kinds.items())]
    limit = str(draw(st.sampled_from([2, 5, 1000])))
    table = catalog.create_table(
        "db.t",
        schema=Schema(*fields),
        partition_spec=draw(st.sampled_from(_specs(fields))),
        properties={"write.parquet.row-group-limit": limit, "format-version": "2"},
    )
    random = RandomTable(table, kinds)
    for _ in range(draw(st.integers(0, 6))):
        random.step(draw)
    return random


def _specs(fields: list[t.NestedField]) -> list[PartitionSpec]:
    specs = [PartitionSpec(), PartitionSpec(PartitionField(1, 1000, BucketTransform(3), "bucket"))]
    for field in fields[1:]:
        if isinstance(field.field_type, t.StringType):
            specs.append(
                PartitionSpec(PartitionField(field.field_id, 1000, TruncateTransform(1), "truncated"))
            )
        if isinstance(field.field_type, t.StringType | t.DateType | t.BooleanType):
            specs.append(PartitionSpec(PartitionField(field.field_id, 1000, IdentityTransform(), "same")))
    return specs


def wire_value(value: Any) -> Any:
    """Return a filter's value as the wire contract writes it."""
    if isinstance(value, dt.datetime):
        return f"__datetime__:{value.isoformat()}"
    if isinstance(value, dt.date):
        return f"__date__:{value.isoformat()}"
    if isinstance(value, Decimal):
        return f"__decimal__:{value}"
    if isinstance(value, str):
        return f"__str__:{value}"
    if isinstance(value, bytes):
        return f"__bytes__:{base64.b64encode(value).decode()}"
    return value

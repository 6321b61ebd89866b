"""Random tables in files as other engines write them, with the rows that the specification gives them.

The rows are kept in Python beside the files, and no reader computes them: INT96, hints of Arrow types, columns
that neither id nor mapping knows, widened types, absent columns with and without defaults, fields of structs
that are absent, equality and position deletes.
"""

from __future__ import annotations

import datetime as dt
import json
import operator
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs
import pyarrow as pa
from hypothesis import strategies as st

from foreign.maker import MAPPING, Maker, field, list_of, struct_of

Draw = Callable[[st.SearchStrategy[Any]], Any]
Row = dict[str, Any]

_TEXT = st.text("abé\U0001f600", max_size=3)
_FIRST, _LAST = dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)  # noqa: DTZ001  # within nanoseconds
_MOMENT = st.datetimes(_FIRST, _LAST).map(lambda at: at.replace(fold=0))
_MILLIS = _MOMENT.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))
_DAYS = st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1))


def _decimals(digits: int) -> st.SearchStrategy[Decimal]:
    most = Decimal(10**digits - 1).scaleb(-2)
    return st.decimals(-most, most, places=2)


def _utc(values: st.SearchStrategy[dt.datetime]) -> st.SearchStrategy[dt.datetime]:
    return values.map(lambda at: at.replace(tzinfo=dt.UTC))


@attrs.frozen
class Form:
    """A physical form of a type in a file.

    Attributes:
        arrow: What the writer has; the file's hint tells it.
        values: The values as the table has them.
        make: Makes the writer's array; by default of the values.
        version: The first format version that reads this form.
        last: The last one; a column of microseconds has no files of nanoseconds in version 3.
    """

    arrow: pa.DataType
    values: st.SearchStrategy[Any]
    make: Callable[[list[Any], pa.DataType], pa.Array] = pa.array
    version: int = 2
    last: int = 3


def _as_category(values: list[Any], _kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode()


def _as_json(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.string()))


def _as_days(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([None if value is None else value.date() for value in values], kind)


_INT = st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1)
_LONG = st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1)
_FLOAT = st.floats(width=32, allow_nan=False)
_MIDNIGHT = _DAYS.map(lambda day: dt.datetime(day.year, day.month, day.day))  # noqa: DTZ001

FORMS: dict[str, list[Form]] = {
    "boolean": [Form(pa.bool_(), st.booleans())],
    "int": [Form(pa.int32(), _INT), Form(pa.int8(), st.integers(-128, 127)), Form(pa.uint16(), st.integers(0, 65_535))],
    "long": [Form(pa.int64(), _LONG), Form(pa.int32(), _INT), Form(pa.int64(), _LONG)],
    "float": [Form(pa.float32(), _FLOAT)],
    "double": [Form(pa.float64(), st.floats(allow_nan=False)), Form(pa.float32(), _FLOAT)],
    "decimal(9, 2)": [
        Form(pa.decimal128(9, 2), _decimals(9)), Form(pa.decimal128(5, 2), _decimals(5)),
        Form(pa.decimal32(9, 2), _decimals(9)), Form(pa.decimal64(9, 2), _decimals(9)), Form(pa.decimal32(4, 2), _decimals(4)),
    ],
    "date": [Form(pa.date32(), _DAYS)],
    "time": [Form(pa.time64("us"), st.times().map(lambda at: at.replace(fold=0)))],
    "timestamp": [
        Form(pa.timestamp("us"), _MOMENT), Form(pa.timestamp("ms"), _MILLIS), Form(pa.timestamp("ns"), _MOMENT, last=2),
        Form(pa.date32(), _MIDNIGHT, _as_days, version=3),
    ],
    "timestamptz": [
        Form(pa.timestamp("us", "UTC"), _utc(_MOMENT)), Form(pa.timestamp("us", "America/New_York"), _utc(_MOMENT)),
        Form(pa.timestamp("ms", "+02:00"), _utc(_MILLIS)),
    ],
    "string": [
        Form(pa.string(), _TEXT), Form(pa.large_string(), _TEXT), Form(pa.string(), _TEXT, _as_category),
        Form(pa.json_(pa.string()), _TEXT, _as_json),
    ],
    "binary": [Form(pa.binary(), st.binary(max_size=3)), Form(pa.large_binary(), st.binary(max_size=3))],
    "fixed[3]": [Form(pa.binary(3), st.binary(min_size=3, max_size=3))],
    "uuid": [Form(pa.binary(16), st.integers(0, 2**128 - 1).map(lambda n: uuid.UUID(int=n)),
                  lambda values, kind: pa.array([None if one is None else one.bytes for one in values], kind))],
    "list": [
        Form(kind(pa.string()), st.lists(st.none() | _TEXT, max_size=3)) for kind in (pa.list_, pa.large_list, pa.list_view)
    ],
}  # fmt: skip

DEFAULTS: dict[str, tuple[Any, Any]] = {
    "boolean": (True, True), "int": (7, 7), "long": (-(2**40), -(2**40)), "float": (0.5, 0.5), "double": (0.1, 0.1),
    "decimal(9, 2)": ("1.25", Decimal("1.25")), "date": ("1969-12-31", dt.date(1969, 12, 31)), "string": ("d\u00e9", "d\u00e9"),
    "timestamp": ("1969-12-31T23:59:59.999999", dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)),  # noqa: DTZ001
}  # fmt: skip
"""Defaults by type: as the metadata has them, and in Python."""

FILTERABLE = (
    "int", "long", "double", "decimal(9, 2)", "date", "timestamp", "timestamptz", "string", "binary", "time",
)  # fmt: skip

OPS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda value, among: value in among, "not in": lambda value, among: value not in among,
}  # fmt: skip


def holds(op: str, value: Any, operand: Any) -> bool:
    """Decide a filter by SQL's rules: what is unknown is not true."""
    if op in {"is null", "is not null"}:
        return (value is None) == (op == "is null")
    return value is not None and OPS[op](value, operand)


@attrs.define
class Column:
    """A column of the table, or a field of its struct.

    Attributes:
        number: Its id.
        name: Its name.
        kind: Its type, a key of :data:`FORMS`.
        default: Value in files without the column.
        json: The field as Iceberg's JSON.
    """

    number: int
    name: str
    kind: str
    default: Any
    json: Row


@attrs.define
class RandomFiles:
    """A random table, with its rows.

    Attributes:
        columns: Its columns besides ``id`` and ``st``.
        inner: The fields of its struct ``st``.
        rows: Its rows now.
        past: Its rows by snapshot id.
    """

    maker: Maker
    columns: list[Column]
    inner: list[Column]
    rows: list[Row] = attrs.field(factory=list)
    past: dict[int, list[Row]] = attrs.field(factory=dict)
    _manifests: list[Row] = attrs.field(factory=list)
    _files: list[tuple[Row, list[Row]]] = attrs.field(factory=list)
    _next: int = 0

    def value(self, row: Row, name: str) -> Any:
        """Return the value of a column or of a field ``st.…``; null where the struct is."""
        for step in name.split("."):
            if row is None:
                return None
            row = row[step]
        return row

    def step(self, draw: Draw) -> None:
        """Add a file, or delete rows."""
        kind = draw(st.sampled_from(["file", "file", "file", "equality", "positions"]))
        if kind == "file" or not self.rows:
            self.add_file(draw)
        elif kind == "equality":
            self.delete_equal(draw)
        else:
            self.delete_positions(draw)
        self.past[self.maker.snapshot(*self._manifests)] = list(self.rows)

    def add_file(self, draw: Draw) -> None:
        """Write a file with some of the columns, in any order, among others that the table does not know."""
        count = draw(st.integers(0, 5))
        ids_in_file = draw(st.booleans())
        rows = [{"id": self._next + at} for at in range(count)]
        self._next += count
        found = [(1, pa.field("id", pa.int64()), pa.array([row["id"] for row in rows], pa.int64()))]
        for column in self.columns:
            found += self._drawn(draw, column, rows)
        inner = self._struct(draw, rows)
        ids: dict[int, list[int | None]] = {}
        if inner is not None:
            found.append((2, pa.field("st", inner.type), inner))
            ids[2] = [number for number, _ in self._inner_fields]
        found = draw(st.permutations(found))
        for at in range(draw(st.integers(0, 2))):
            extra = pa.array([draw(st.none() | st.integers(0, 9)) for _ in rows], pa.int64())
            place = draw(st.integers(0, len(found)))
            found.insert(place, (None, pa.field(f"unknown{at}", extra.type), extra))
        numbers: list[int | None] = []
        for number, one, _ in found:
            numbers.append(number)
            numbers += ids.get(number, []) if number is not None else []
            if one.name in {column.name for column in self.columns if column.kind == "list"}:
                numbers.append((number or 0) + 50)
        data = pa.table([array for *_, array in found], schema=pa.schema([one for _, one, _ in found]))
        file = self.maker.parquet(
            data,
            ids=numbers if ids_in_file else (),
            row_group_size=draw(st.sampled_from([1, 2, 1000])),
            use_deprecated_int96_timestamps=draw(st.booleans()),
            store_decimal_as_integer=draw(st.booleans()),
            use_dictionary=draw(st.booleans()),
            data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
            compression=draw(st.sampled_from(["none", "snappy", "zstd"])),
            store_schema=draw(st.booleans()),
        )
        self._manifests.append(self.maker.manifest(file))
        self._files.append((file, rows))
        self.rows += rows

    def _drawn(self, draw: Draw, column: Column, rows: list[Row]) -> list[tuple[int, pa.Field, pa.Array]]:
        """Draw a column's values into the rows; the column of the file, or none if it is absent there."""
        if draw(st.integers(0, 3)) == 0:
            for row in rows:
                row[column.name] = column.default
            return []
        array = self._array(draw, column, rows)
        return [(column.number, pa.field(column.name, array.type), array)]

    def _array(self, draw: Draw, column: Column, rows: list[Row]) -> pa.Array:
        forms = [form for form in FORMS[column.kind] if form.version <= self.maker.version <= form.last]
        form = draw(st.sampled_from(forms))
        values = [draw(st.none() | form.values) for _ in rows]
        for row, value in zip(rows, values, strict=True):
            row[column.name] = value
        return form.make(values, form.arrow)

    _inner_fields: list[tuple[int | None, pa.Field]] = attrs.field(factory=list)

    def _struct(self, draw: Draw, rows: list[Row]) -> pa.Array | None:
        """Draw the struct into the rows; None if the file has none."""
        if draw(st.integers(0, 3)) == 0:
            for row in rows:
                row["st"] = None
            return None
        inside: list[Row] = [{} for _ in rows]
        arrays = []
        for column in self.inner:
            arrays += self._drawn(draw, column, inside)
        arrays = draw(st.permutations(arrays))
        if not arrays or draw(st.booleans()):
            arrays.append((None, pa.field("unknown", pa.int32()), pa.array([1] * len(rows), pa.int32())))
        null = [draw(st.booleans()) for _ in rows]
        self._inner_fields = [(number, one) for number, one, _ in arrays]
        for row, one, gone in zip(rows, inside, null, strict=True):
            row["st"] = None if gone else {column.name: one[column.name] for column in self.inner}
        mask = pa.array(null, pa.bool_())
        return pa.StructArray.from_arrays(
            [array for *_, array in arrays], fields=[one for _, one, _ in arrays], mask=mask
        )

    def delete_equal(self, draw: Draw) -> None:
        """Delete rows by id, or by a column's value, in all files so far."""
        keys = draw(st.lists(st.sampled_from(self.rows), min_size=1, max_size=3))
        gone = {row["id"] for row in keys}
        data = pa.table({"id": pa.array(sorted(gone), pa.int64())})
        self._manifests.append(self.maker.manifest(self.maker.equality_deletes(data, [1]), content=1))
        self.rows = [row for row in self.rows if row["id"] not in gone]

    def delete_positions(self, draw: Draw) -> None:
        """Delete rows of one file by their positions, or as its deletion vector once."""
        file, rows = draw(st.sampled_from([one for one in self._files if one[1]] or [self._files[0]]))
        if not rows:
            return
        places = draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, unique=True))
        deleted = self.maker.position_deletes([(file, at) for at in places])
        self._manifests.append(self.maker.manifest(deleted, content=1))
        gone = {rows[at]["id"] for at in places}
        self.rows = [row for row in self.rows if row["id"] not in gone]


def draw_files(draw: Draw, maker: Maker) -> RandomFiles:
    """Return a random table of up to five snapshots, written to the folder of ``maker``."""
    maker.version = draw(st.sampled_from([2, 3]))
    columns = [
        _column(draw, maker, 10 + at, name) for at, name in enumerate("abc"[: draw(st.integers(1, 3))])
    ]
    inner = [_column(draw, maker, 20 + at, name, nested=True) for at, name in enumerate("xy")]
    maker.fields = [
        field(1, "id", "long"),
        field(2, "st", struct_of(*(column.json for column in inner))),
        *(column.json for column in columns),
    ]
    names = [_named(1, "id"), _named(2, "st", [_named(one.number, one.name) for one in inner])]
    names += [
        _named(one.number, one.name, [_named(one.number + 50, "element")] if one.kind == "list" else None)
        for one in columns
    ]
    maker.properties = {MAPPING: json.dumps(names)}
    table = RandomFiles(maker, columns, inner)
    for _ in range(draw(st.integers(1, 5))):
        table.step(draw)
    return table


def _named(number: int, name: str, fields: list[Row] | None = None) -> Row:
    return {"field-id": number, "names": [name]} | ({"fields": fields} if fields else {})


def _column(draw: Draw, maker: Maker, number: int, name: str, *, nested: bool = False) -> Column:
    kind = draw(st.sampled_from(sorted(set(FORMS) - {"list"} if nested else FORMS)))
    written, default = DEFAULTS.get(kind, (None, None))
    if maker.version < 3 or draw(st.booleans()):  # defaults are of version 3
        written, default = None, None
    more = {} if written is None else {"initial-default": written}
    iceberg = list_of(number + 50, "string") if kind == "list" else kind
    return Column(number, name, kind, default, field(number, name, iceberg, **more))

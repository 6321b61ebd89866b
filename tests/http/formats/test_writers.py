"""Each format holds every value exactly, or refuses it: read back and compared with what was written."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import json
import uuid
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.http.formats.exact_text import FormatError, json_values
from strata.http.formats.messages import BATCH, Decoder, Messages
from strata.http.formats.writers import WRITERS, ArrowWriter, Writer

NAN = float("nan")


def written(writer: Writer, table: pa.Table) -> bytes:
    parts = [writer.begin(table.schema)]
    parts += [writer.write(batch) for batch in table.to_batches(max_chunksize=2) if batch.num_rows]
    return b"".join([*parts, writer.end()])


def lines(table: pa.Table) -> list[dict]:
    return [json.loads(line) for line in written(WRITERS["jsonl"](), table).splitlines()]


def cells(table: pa.Table) -> list[list[str]]:
    header, *rows = csv.reader(io.StringIO(written(WRITERS["csv"](), table).decode(), newline=""))
    assert table.column_names == header
    return rows


VALUES = {
    "null": (pa.null(), None, None),
    "bool": (pa.bool_(), True, True),
    "int64": (pa.int64(), -(2**63), -(2**63)),
    "uint64": (pa.uint64(), 2**64 - 1, 2**64 - 1),
    "float64": (pa.float64(), 0.1, 0.1),
    "subnormal": (pa.float64(), 5e-324, 5e-324),
    "minus zero": (pa.float64(), -0.0, -0.0),
    "float16": (pa.float16(), 0.5, 0.5),
    "infinity": (pa.float64(), float("inf"), "Infinity"),
    "minus infinity": (pa.float32(), float("-inf"), "-Infinity"),
    "decimal": (
        pa.decimal128(38, 10),
        Decimal("-1234567890123456789012345678.0000000001"),
        "-1234567890123456789012345678.0000000001",
    ),
    "small decimal": (pa.decimal128(38, 20), Decimal("1e-20"), "0.00000000000000000001"),
    "text": (pa.string(), 'a"b\\,\n\r\u2028é', 'a"b\\,\n\r\u2028é'),
    "bytes": (pa.binary(), b"\x00\xff", base64.b64encode(b"\x00\xff").decode()),
    "fixed": (pa.binary(2), b"\x00\xff", base64.b64encode(b"\x00\xff").decode()),
    "date": (pa.date32(), dt.date(1, 1, 1), "0001-01-01"),
    "time": (pa.time64("us"), dt.time(23, 59, 59, 999999), "23:59:59.999999"),
    "timestamp": (
        pa.timestamp("us"),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001  # a timestamp without a zone
        "1969-12-31T23:59:59.999999",
    ),
    "nanoseconds": (pa.timestamp("ns"), 1, "1970-01-01T00:00:00.000000001"),
    "seconds": (pa.timestamp("s"), 1, "1970-01-01T00:00:01"),
    "with a zone": (pa.timestamp("us", "America/New_York"), 0, "1970-01-01T00:00:00.000000Z"),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), "x", "x"),
    "list": (pa.list_(pa.float64()), [1.5, None, NAN], [1.5, None, "NaN"]),
    "large list": (pa.large_list(pa.int64()), [], []),
    "fixed list": (pa.list_(pa.int64(), 2), [1, 2], [1, 2]),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.binary())]),
        {"a": None, "b": b"x"},
        {"a": None, "b": "eA=="},
    ),
    "empty struct": (pa.struct([]), {}, {}),
    "map": (pa.map_(pa.int64(), pa.date32()), [(1, dt.date(2020, 2, 29)), (1, None)], [[1, "2020-02-29"], [1, None]]),
    "deep": (pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.list_(pa.int8())))])), [{"m": [("k", [1])]}, None], [{"m": [["k", [1]]]}, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_a_value_has_one_text(name: str) -> None:
    """Each type's value in JSON, beside nulls and in slices that do not begin at the first row."""
    kind, value, expected = VALUES[name]
    array = pa.array([None, value, None, value, value], kind)
    table = pa.table({"c": array, "n": range(5)})
    assert [None, expected, None, expected, expected] == [line["c"] for line in lines(table)]
    assert [expected, None] == json_values(array.slice(1, 2))
    rows = cells(table)
    if isinstance(expected, list | dict):
        assert expected == json.loads(rows[1][0])
    elif isinstance(expected, float | bool):
        assert expected == json.loads(rows[1][0])
        assert str(expected)[0] == rows[1][0].upper()[0]
    elif name == "infinity":
        assert "inf" == rows[1][0]
    elif name != "minus infinity":
        assert str("" if expected is None else expected) == rows[1][0]


def test_uuids_are_written_as_such() -> None:
    """The canonical extension type, not its bytes."""
    value = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
    array = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([value.bytes, None], pa.binary(16)))
    table = pa.table({"u": array, "n": [1, 2]})
    assert [str(value), None] == [line["u"] for line in lines(table)]
    assert [str(value), ""] == [row[0] for row in cells(table)]


def test_nan_and_null_differ() -> None:
    """In no format is one of them the other."""
    table = pa.table({"x": [NAN, None, 1.0], "n": [1, 2, 3]})
    assert ["NaN", None, 1.0] == [line["x"] for line in lines(table)]
    assert ["nan", "", "1"] == [row[0] for row in cells(table)]
    found = pq.read_table(io.BytesIO(written(WRITERS["parquet"](), table)))
    assert str(table["x"].to_pylist()) == str(found["x"].to_pylist())


def test_an_empty_text_and_a_null_differ_in_csv() -> None:
    """One is quoted, the other is nothing."""
    table = pa.table({"x": ["", None], "n": [1, 2]})
    assert b'"x","n"\n"",1\n,2\n' == written(WRITERS["csv"](), table)


@pytest.mark.parametrize(
    ("form", "table", "words"),
    [
        ("csv", pa.table({"a": pa.array([1], pa.duration("us"))}), "duration"),
        ("jsonl", pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), "interval"),
        ("jsonl", pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "one name"),
        ("parquet", pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "one name"),
        ("parquet", pa.table({"a": pa.array([1], pa.timestamp("s"))}), "timestamp"),
        ("parquet", pa.table({"a": pa.array([[1]], pa.list_(pa.time32("s")))}), "time32"),
        ("parquet", pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), "interval"),
        ("parquet", pa.table({"a": pa.array([{}], pa.struct([]))}), "struct"),
        ("parquet", pa.table({"a": [1]}).select([]), "without columns"),
        ("csv", pa.table({"a": [1]}).select([]), "without columns"),
        ("csv", pa.table({"a": ["x", None]}), "alone in its line"),
        ("csv", pa.table({"a": pa.array([2_932_897], pa.date32())}), "9999"),
        ("jsonl", pa.table({"a": pa.array([-(2**62)], pa.timestamp("us"))}), "9999"),
        ("jsonl", pa.table({"a": pa.array([253_402_300_800], pa.timestamp("s"))}), "9999"),
        ("jsonl", pa.table({"a": [list(range(200_000))]}), "too large"),
        ("csv", pa.table({"a": ["x" * (17 << 20)]}), "too large"),
    ],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_refused(form: str, table: pa.Table, words: str) -> None:
    """An error that names the column or the cause, never another value or a lost row."""
    with pytest.raises(FormatError, match=words):
        written(WRITERS[form](), table)


def test_rows_without_columns_are_counted_in_json() -> None:
    """Zero columns and three rows are three empty objects."""
    batch = pa.record_batch([pa.array([1, 2, 3])], ["a"]).select([])
    writer = WRITERS["jsonl"]()
    writer.begin(batch.schema)
    assert b"{}\n{}\n{}\n" == writer.write(batch)


TABLES = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(),
        st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
        st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**12), max_value=10**12),
        st.none() | st.datetimes(),
        st.none() | st.lists(st.none() | st.binary(max_size=3), max_size=3),
    ),
    max_size=7,
)  # fmt: skip
SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("t", pa.string()),
        ("d", pa.decimal128(20, 3)),
        ("m", pa.timestamp("us")),
        ("l", pa.list_(pa.binary())),
    ]
)


@given(TABLES)
def test_any_rows_come_back(rows: list[tuple]) -> None:
    """Random rows are the same when they are read back from each format by another reader."""
    table = pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)
    expected = str(table.to_pylist())  # NaN is equal to itself as text
    assert expected == str(pq.read_table(io.BytesIO(written(WRITERS["parquet"](), table))).to_pylist())
    for codec in (None, "zstd", "lz4"):
        assert expected == str(pa.ipc.open_stream(written(ArrowWriter(codec), table)).read_all().to_pylist())
    back = [_back(line) for line in lines(table)]
    assert expected == str(back)
    assert expected == str([_from_csv(row) for row in _split(written(WRITERS["csv"](), table))])


def _back(line: dict) -> dict:
    return {
        "i": line["i"],
        "f": None if line["f"] is None else float(line["f"]),
        "t": line["t"],
        "d": None if line["d"] is None else Decimal(line["d"]),
        "m": None if line["m"] is None else dt.datetime.fromisoformat(line["m"]),
        "l": None if line["l"] is None else [None if x is None else base64.b64decode(x) for x in line["l"]],
    }


def _split(text: bytes) -> list[list[str | None]]:
    """Read CSV by hand, since Python's reader does not tell a null from an empty text."""
    rows: list[list[str | None]] = []
    row: list[str | None] = []
    rest = text.decode()
    while rest:
        if rest.startswith('"'):
            end = 1
            while rest[end : end + 2] == '""' or rest[end] != '"':
                end += 2 if rest[end] == '"' else 1
            row.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 1 :]
        else:
            end = min(place for place in (rest.find(","), rest.find("\n")) if place >= 0)
            row.append(rest[:end] or None)
            rest = rest[end:]
        if rest[0] == "\n":
            rows.append(row)
            row = []
        rest = rest[1:]
    return rows[1:]


def _from_csv(row: list[str | None]) -> dict:
    i, f, t, d, m, nested = row
    line = {"i": None if i is None else int(i), "f": f, "t": t, "d": d, "m": m}
    return _back(line | {"l": None if nested is None else json.loads(nested)})


def test_messages_are_cut_at_any_place_with_their_dictionaries() -> None:
    """A stream with dictionaries that are replaced and extended is read message by message, byte by byte."""
    kind = pa.dictionary(pa.int8(), pa.string())
    arrays = [pa.array(values, kind) for values in (["a", "b"], ["a", "b", "c"], ["x"], ["x", None])]
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, pa.schema([("k", kind)]), options=options) as writer:
        for array in arrays:
            writer.write_batch(pa.record_batch([array], ["k"]))
    messages, decoder, found = Messages(), Decoder(), []
    for place in range(len(sink.getvalue())):
        messages.feed(sink.getvalue()[place : place + 1])
        while (head := messages.head()) is not None and (message := messages.take(head.size)) is not None:
            if head.kind == BATCH:
                found += [batch.column(0).to_pylist() for batch in decoder.batches(message)]
            else:
                decoder.keep(head, message)
    assert [array.to_pylist() for array in arrays] == found
    assert messages.ended
    assert decoder.nbytes < len(sink.getvalue()) / 2, "a replaced dictionary was kept"

"""Texts that are no valid UTF-8 are refused by file and column, and none of them reaches a reader."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import expand_file, read_row_group
from strata.tables.read.texts import check_texts

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False), NestedField(2, "s", StringType(), required=False)
)
BAD = [b"good", b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80"]
"""Latin-1 and half of a surrogate pair, as old writers leave them."""


def texts(values: list[bytes | None], kind: pa.DataType | None = None) -> pa.Array:
    """Return bytes as texts, as Arrow decodes them from a file."""
    binary = pa.array(values, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind or pa.string(), len(values), binary.buffers())


def batch(array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(range(len(array))), array], ["id", "s"])


@pytest.mark.parametrize("columns", [None, ["s"]])
def test_a_scan_of_a_file_with_such_a_text_is_refused(warehouse, columns) -> None:
    """By the names of the file and of the column; other columns of the file can be read."""
    warehouse.create(SCHEMA)
    path = warehouse.directory / "latin1.parquet"
    pq.write_table(
        pa.table({"id": pa.array([1, 2, 3, 4]), "s": texts(BAD)}),
        path,
        write_statistics=False,
        store_schema=False,
    )
    warehouse.table().add_files([f"file://{path}"])
    plan = warehouse.plan({} if columns is None else {"columns": columns})
    (task,) = expand_file(plan, plan.files[0])
    found = read_row_group(plan, task, batch_rows=10)
    assert isinstance(found, Refused)
    assert Reason.DATA_UNREADABLE is found.reason
    assert "The data file latin1.parquet has a text in the column s that is not valid UTF-8" == found.detail
    plan = warehouse.plan({"columns": ["id"]})
    (task,) = expand_file(plan, plan.files[0])
    assert [1, 2, 3, 4] == read_row_group(plan, task, batch_rows=10)[0]["id"].to_pylist()


@pytest.mark.parametrize("value", BAD[1:])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda array: array,
        lambda array: pa.StructArray.from_arrays([pa.nulls(len(array)), array], ["n", "t"]),
        lambda array: pa.ListArray.from_arrays([0, len(array)], array),
        lambda array: pa.MapArray.from_arrays([0, len(array)], array, pa.array(range(len(array)))),
        lambda array: pa.MapArray.from_arrays([0, len(array)], pa.array(range(len(array))), array),
        lambda array: pa.ListArray.from_arrays([0, len(array)], pa.StructArray.from_arrays([array], ["t"])),
    ],
)
def test_texts_inside_others_are_looked_at(value: bytes, wrapped) -> None:
    """In structs, lists, keys and values of maps; a valid text of any script passes."""
    check_texts(batch(wrapped(texts(["grün".encode(), "緑".encode(), "🍏".encode()]))), "f", ["s"])
    with pytest.raises(RefusalError):
        check_texts(batch(wrapped(texts([b"x", value]))), "f", ["s"])


def test_the_column_of_a_rule_is_not_named() -> None:
    """A column that is read for a rule about rows alone is none of the caller's."""
    with pytest.raises(RefusalError) as refused:
        check_texts(batch(texts(BAD, pa.large_string())), "/secret/f.parquet", ["id"])
    assert "The data file f.parquet has a text that is not valid UTF-8" == refused.value.refused.detail

"""Batches of visible rows are the same bytes whatever the hidden rows between them are."""

from __future__ import annotations

import random
import uuid
from typing import Any

import pyarrow as pa
import pytest

from strata.tables.read.ipc import encode
from strata.tables.read.visible_batches import BATCH_BYTES, COARSE_ROWS, VisibleBatches

ADDRESS = pa.struct([("city", pa.large_string()), ("flat", pa.int32())])
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("flag", pa.bool_()),
        ("price", pa.decimal128(9, 2)),
        ("text", pa.large_string()),
        ("bytes", pa.large_binary()),
        ("code", pa.binary(3)),
        ("id", pa.uuid()),
        ("tags", pa.large_list(pa.large_string())),
        ("address", ADDRESS),
        ("counts", pa.map_(pa.large_string(), pa.int64())),
        ("never", pa.null()),
    ]
)


def some(draw: random.Random, value: Any) -> Any:
    return None if draw.random() < 0.2 else value


def row(draw: random.Random, width: int = 9) -> dict[str, Any]:
    text = "x" * draw.randint(0, width)
    return {
        "number": some(draw, draw.randrange(-(2**60), 2**60)),
        "flag": some(draw, draw.random() < 0.5),
        "price": some(draw, draw.randrange(10**6)),
        "text": some(draw, text),
        "bytes": some(draw, draw.randbytes(4)),
        "code": some(draw, draw.randbytes(3)),
        "id": some(draw, uuid.UUID(int=draw.getrandbits(128))),
        "tags": some(draw, [some(draw, text) for _ in range(draw.randint(0, 3))]),
        "address": some(draw, {"city": some(draw, text), "flat": some(draw, draw.randint(0, 99))}),
        "counts": some(draw, [(text, draw.randint(0, 9))]),
        "never": None,
    }


def result(
    visible: list[dict[str, Any]], draw: random.Random, *, schema: pa.Schema = SCHEMA, most: int = 1000
) -> tuple[bytes, list[int]]:
    """Return the encoded batches, and their rows, of visible rows among hidden ones in random batches."""
    batches = VisibleBatches(schema, most)
    made: list[pa.RecordBatch] = []
    waiting = list(visible)
    while waiting:
        rows, mask = [], []
        for _ in range(draw.choice([1, 7, 64, 700])):
            shown = bool(waiting) and draw.random() < 0.6
            rows.append(waiting.pop(0) if shown else row(draw, 20))
            mask.append(shown)
        batch = pa.RecordBatch.from_pylist(rows, schema=schema)
        begin = draw.randint(0, 3)
        pieces = [batch.slice(0, begin), batch.slice(begin)]  # views, whose buffers go on behind them
        kept = [
            piece.filter(pa.array(part, pa.bool_()))
            for piece, part in zip(pieces, [mask[:begin], mask[begin:]], strict=True)
        ]
        made += batches.add(kept if draw.random() < 0.8 else [batch.filter(pa.array(mask))])
    made += batches.finish()
    return encode(made).to_bytes(), [batch.num_rows for batch in made]


@pytest.mark.parametrize("seed", range(4))
def test_hidden_rows_leave_no_trace_in_the_bytes(seed: int) -> None:
    """The same visible rows among other hidden ones, in other batches, are the same bytes, padding included."""
    draw = random.Random(seed)
    visible = [row(draw) for _ in range(draw.choice([3, 500, 2500]))]
    first, again = (result(visible, random.Random(f"{seed}-{other}"), most=700) for other in "ab")
    assert first == again
    assert len(visible) == sum(first[1])


def test_a_view_that_is_visible_whole_brings_no_value_after_it() -> None:
    """A past error: an encoded buffer is padded with what follows it, here the hidden rows of its batch."""
    secret = 0x5EC12E7
    batch = pa.RecordBatch.from_pydict({"n": pa.array([1, 2, 3, *[secret] * 9], pa.int32())})
    seen = batch.slice(0, 3)
    assert secret.to_bytes(4, "little") in encode([seen]).to_bytes(), "else this test shows nothing"
    batches = VisibleBatches(batch.schema, 10)
    data = encode([*batches.add([seen]), *batches.finish()]).to_bytes()
    assert secret.to_bytes(4, "little") not in data


def test_rows_wait_for_a_full_batch() -> None:
    """A batch ends at its most rows or at its bytes; the rest comes at the end, in order."""
    batches = VisibleBatches(pa.schema([("n", pa.int64())]), 1000)
    numbers = [pa.RecordBatch.from_pydict({"n": pa.array([i], pa.int64())}) for i in range(2500)]
    early = [batch for one in numbers for batch in batches.add([one])]
    late = batches.finish()
    assert [1000, 1000] == [batch.num_rows for batch in early]
    assert [500] == [batch.num_rows for batch in late]
    assert list(range(2500)) == [n for batch in (*early, *late) for n in batch.column(0).to_pylist()]


def test_wide_rows_end_a_batch_early() -> None:
    """No more than one row beyond its bytes, so that little waits in memory."""
    wide = pa.RecordBatch.from_pydict({"t": pa.array(["x" * 100_000] * 20, pa.large_string())})
    narrow = pa.RecordBatch.from_pydict({"t": pa.array(["x" * 1000] * 2000, pa.large_string())})
    batches = VisibleBatches(wide.schema, 65_536)
    made = [*batches.add([wide]), *batches.add([narrow]), *batches.finish()]
    assert 2020 == sum(batch.num_rows for batch in made)
    assert [6, 6, 6] == [batch.num_rows for batch in made[:3]]
    for batch in made[3:-1]:
        assert BATCH_BYTES <= pa.ipc.get_record_batch_size(batch) < BATCH_BYTES + 1001 * COARSE_ROWS


def test_rows_without_columns_are_counted() -> None:
    """A count of visible rows has batches of the most rows, whatever was read at a time."""
    schema = pa.schema([])
    one = pa.RecordBatch.from_struct_array(pa.Array.from_buffers(pa.struct([]), 30, [None]))
    batches = VisibleBatches(schema, 50)
    made = [batch for _ in range(4) for batch in batches.add([one])] + batches.finish()
    assert [50, 50, 20] == [batch.num_rows for batch in made]

"""Messages of an Arrow stream, however its bytes are cut."""

import random

import pyarrow as pa
import pytest

from strata.executor.protocol.arrow_framing import FramingError
from strata.http.formats.messages import BATCH, Decoder, Messages

ROWS = pa.table({"id": pa.array(range(5000)), "name": pa.array(["a", "b"] * 2500).dictionary_encode()})


def stream() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROWS.schema) as writer:
        writer.write_table(ROWS, max_chunksize=700)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("most", [1, 7, 4096, 1 << 20])
def test_the_rows_are_the_same_however_the_bytes_are_cut(most: int) -> None:
    """A message is complete when its last byte has come, and not before; nothing of the next one is lost."""
    data, cuts, messages, decoder = stream(), random.Random(most), Messages(), Decoder()
    found: list[pa.RecordBatch] = []
    place = 0
    while not messages.ended:
        head = messages.head()
        taken = None if head is None else messages.take(head.size)
        if head is None or taken is None:
            if messages.ended:
                break
            assert place < len(data)
            step = cuts.randint(0, most)
            messages.feed(data[place : place + step])
            place += step
        elif head.kind == BATCH:
            assert head.size == sum(map(len, taken))
            found += decoder.batches(taken)
        else:
            decoder.keep(head, taken)
    assert pa.Table.from_batches(found).equals(ROWS)


def test_a_large_message_is_not_copied_when_it_is_taken() -> None:
    """Its parts are those that came: to join them is work for a thread."""
    messages, parts = Messages(), [bytes([place]) * 1000 for place in range(9)]
    for part in parts:
        messages.feed(part)
    taken = messages.take(8500)
    assert taken is not None
    assert all(one is part for one, part in zip(taken[:8], parts, strict=False))
    assert [500] == [len(taken[8])]
    assert messages.take(501) is None
    assert [parts[8][:500]] == messages.take(500)


def test_a_length_below_nothing_is_no_message() -> None:
    """Its bytes would never be complete."""
    messages = Messages()
    messages.feed(b"\xff\xff\xff\xff\xf0\xff\xff\xff")
    with pytest.raises(FramingError):
        messages.head()

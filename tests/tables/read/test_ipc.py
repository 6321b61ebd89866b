"""Parts of an Arrow IPC stream."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.tables.read.ipc import EOS, decode, encode, schema_message

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.large_string()), ("tags", pa.list_(pa.string()))])


def batch(*ids: int) -> pa.RecordBatch:
    return pa.record_batch([list(ids), [f"n{i}" for i in ids], [["a"] * (i % 3) for i in ids]], schema=SCHEMA)


def test_several_row_groups_make_one_stream_with_one_marker() -> None:
    """A reader of the whole stream sees every row group, not only those before a first marker."""
    pieces = [encode([batch(1, 2), batch(3)]), encode([]), encode([batch(4)])]
    stream = schema_message(SCHEMA) + b"".join(piece.to_bytes() for piece in pieces) + EOS

    assert pa.Table.from_batches([batch(1, 2), batch(3), batch(4)]) == pa.ipc.open_stream(stream).read_all()
    assert (3, 0, 1) == tuple(piece.rows for piece in pieces)


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=4), st.integers(0, 3))
def test_decode_gives_back_what_was_encoded(groups: list[list[int]], cut: int) -> None:
    """Slices are encoded with their own rows, not with their parent's buffers."""
    batches = [batch(*group).slice(min(cut, len(group))) for group in groups]
    encoded = encode(batches)

    assert batches == decode(SCHEMA, encoded.to_bytes())
    assert encoded.nbytes == len(encoded.to_bytes())


def test_encoding_copies_no_column() -> None:
    """The parts are the batch's own buffers."""
    column = pa.array(range(100_000))
    encoded = encode([pa.record_batch([column], names=["x"])])

    assert column.buffers()[1].address in {p.address for p in encoded.parts if isinstance(p, pa.Buffer)}


def test_rows_without_columns_keep_their_count() -> None:
    """A batch without columns keeps its number of rows."""
    rows = pa.record_batch([pa.array([1, 2, 3])], names=["x"]).select([])

    assert [3] == [b.num_rows for b in decode(rows.schema, encode([rows]).to_bytes())]


def test_a_dictionary_column_is_refused() -> None:
    """A dictionary would be a message of its own."""
    rows = pa.record_batch([pa.array(["a"]).dictionary_encode()], names=["x"])

    with pytest.raises(ValueError, match="dictionary"):
        encode([rows])


def test_batches_of_two_schemas_are_refused() -> None:
    """No stream has batches that do not match its schema."""
    with pytest.raises(ValueError, match="one schema"):
        encode([batch(1), batch(1).select(["id"])])


def test_cut_bytes_do_not_decode() -> None:
    """A torn segment is an error, not fewer rows."""
    data = encode([batch(1, 2, 3)]).to_bytes()

    with pytest.raises((pa.ArrowInvalid, OSError)):
        decode(SCHEMA, data[: len(data) - 8])

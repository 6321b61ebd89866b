import contextlib
import io
import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.client.decoder import StreamDecoder
from strata.client.errors import BadAnswerError, StrataError, TruncatedStreamError
from strata.tables.read import ipc

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("name", pa.large_string()),
        pa.field("nested", pa.struct([pa.field("xs", pa.list_(pa.float32()))])),
    ],
    metadata={"k": "v"},
)
BATCHES = [
    pa.record_batch(
        [
            pa.array(range(n), pa.int64()),
            pa.array([None if i % 3 == 0 else f"n{i}" for i in range(n)], pa.large_string()),
            pa.array([{"xs": [float(i), None]} for i in range(n)], SCHEMA.field("nested").type),
        ],
        schema=SCHEMA,
    )
    for n in (5, 0, 1, 300)
]


def stream(batches=BATCHES, schema=SCHEMA, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


STREAM = stream()


def decode(data, size=None):
    decoder = StreamDecoder()
    batches = []
    step = size or len(data) or 1
    for at in range(0, len(data), step):
        batches += decoder.feed(data[at : at + step])
    return decoder.finish(), batches


@pytest.mark.parametrize("size", [None, 1, 7, 8, 64, 1000])
def test_batches_come_out_as_they_went_in_however_the_bytes_are_cut(size):
    """Chunks may end anywhere: inside a prefix, inside metadata, between messages."""
    schema, batches = decode(STREAM, size)

    assert schema.equals(SCHEMA, check_metadata=True)
    assert BATCHES == batches
    for batch in batches:
        batch.validate(full=True)


@given(st.lists(st.integers(1, 900), max_size=30))
def test_any_sequence_of_chunk_sizes_decodes_to_the_same(sizes):
    """Chunk sizes never matter."""
    decoder = StreamDecoder()
    batches, at = [], 0
    for size in sizes:
        batches += decoder.feed(STREAM[at : at + size])
        at += size
    batches += decoder.feed(STREAM[at:])

    assert decoder.finish() == SCHEMA
    assert BATCHES == batches


def test_a_stream_cut_at_any_byte_is_an_error_and_never_a_short_table():
    """pyarrow itself takes a stream cut between two messages for a complete one."""
    silent = 0
    for end in range(len(STREAM)):
        with pytest.raises(TruncatedStreamError):
            decode(STREAM[:end])
        try:
            pa.ipc.open_stream(STREAM[:end]).read_all()
            silent += 1
        except (pa.ArrowException, OSError):
            pass

    assert silent > 0, "there is a cut which pyarrow does not notice, so this decoder is needed"


def test_an_empty_result_keeps_its_schema():
    """A result without rows has its columns."""
    schema, batches = decode(stream([]))

    assert schema == SCHEMA
    assert batches == []


def test_a_result_without_columns_keeps_its_rows():
    """`columns: []` returns batches without columns that carry the number of rows."""
    schema = pa.schema([])
    batch = pa.table({"x": [1, 2, 3]}).select([]).to_batches()[0]
    decoded_schema, batches = decode(stream([batch], schema))

    assert schema == decoded_schema
    assert [3] == [found.num_rows for found in batches]


def test_the_servers_own_pieces_make_a_stream():
    """Schema message, encoded row groups and one end marker are decoded, as the server sends them."""
    data = ipc.schema_message(SCHEMA) + ipc.encode(BATCHES).to_bytes() + ipc.EOS

    assert BATCHES == decode(data, 100)[1]


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_bodies_decode(compression):
    """Another server of the contract may compress its messages."""
    data = stream(options=pa.ipc.IpcWriteOptions(compression=compression))

    assert BATCHES == decode(data, 50)[1]


@pytest.mark.parametrize("deltas", [False, True])
def test_dictionaries_and_their_replacements_decode(deltas):
    """Each batch is decoded with the dictionaries received before it."""
    first = pa.array(["a", "b", "a"]).dictionary_encode()
    longer = pa.DictionaryArray.from_arrays(pa.array([2, 0], pa.int32()), pa.array(["a", "b", "c"]))
    batches = [pa.record_batch([array], names=["d"]) for array in (first, longer)]
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    _, decoded = decode(stream(batches, batches[0].schema, options=options), 33)

    assert [["a", "b", "a"], ["c", "a"]] == [batch.column(0).to_pylist() for batch in decoded]


def test_bytes_behind_the_end_marker_are_an_error():
    """Concatenated streams are no stream: a reader would stop at the first marker and lose rows."""
    with pytest.raises(BadAnswerError, match="continues after"):
        decode(STREAM + STREAM)
    with pytest.raises(BadAnswerError, match="continues after"):
        decode(STREAM + b"\n")


@pytest.mark.parametrize(
    "data",
    [
        b'{"hit": true, "artifact_uri": ""}',
        b"<html>proxy error</html>",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff\xf8\xff\xff\xff",
        b"\xff\xff\xff\xff" + struct.pack("<i", 8) + b"\xff" * 8,
        b"\xff\xff\xff\xff" + struct.pack("<i", 8) + bytes(8),
        ipc.encode(BATCHES).to_bytes(),
    ],
)
def test_what_is_no_arrow_stream_is_a_bad_answer(data):
    """No parser crashes, and no gigantic buffer is allocated."""
    with pytest.raises(BadAnswerError):
        decode(data)


@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_crashes_the_decoder(at, flip):
    """Damaged bytes cause a client error or another value in a column, and nothing else."""
    damaged = bytearray(STREAM)
    damaged[at] ^= flip
    with contextlib.suppress(StrataError):
        decode(bytes(damaged))


def test_bodies_are_aligned_and_memory_is_one_message():
    """Columns are aligned to 64 bytes if the sender aligned them, and earlier messages are freed."""
    batch = pa.record_batch([pa.array(range(100_000), pa.int64())], names=["x"])
    data = stream([batch] * 8, batch.schema)
    decoder = StreamDecoder()
    before = pa.total_allocated_bytes()
    peak = seen = 0
    for at in range(0, len(data), 65536):
        for found in decoder.feed(data[at : at + 65536]):
            assert found.column(0).buffers()[1].address % 64 == 0
            seen += found.num_rows
        peak = max(peak, pa.total_allocated_bytes() - before)
    decoder.finish()

    assert seen == 800_000
    assert peak < 2 * batch.nbytes + 65536, "the last batch handed out, and the one that is being read"

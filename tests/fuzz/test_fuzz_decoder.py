"""The client's decoder and answers: complete, or an error of the client's own, whatever a server sends."""

from __future__ import annotations

import io
import itertools
import json

import pyarrow as pa
import pytest
from fuzz_kit import damaged, documents, fuzz
from hypothesis import given
from hypothesis import strategies as st

from strata.client.answers import (
    Artifact,
    ArtifactPage,
    Build,
    CacheStats,
    Explanation,
    Materialized,
    Name,
    Status,
    parse_answer,
)
from strata.client.decoder import StreamDecoder
from strata.client.errors import BadAnswerError, StrataError, TruncatedStreamError

pytestmark = pytest.mark.slow

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.large_string()), ("xs", pa.list_(pa.int32()))])
BATCH = pa.record_batch([[1, 2, 3], ["a", None, "ccc"], [[1], [], None]], schema=SCHEMA)
WORDS = pa.record_batch([pa.array(["x", "y", "x"]).dictionary_encode()], names=["word"])


def stream(batch: pa.RecordBatch, **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    return sink.getvalue()


STREAMS = [stream(BATCH), stream(WORDS), stream(BATCH, compression="zstd"), stream(BATCH, compression="lz4")]


def decode(data: bytes, cuts: list[int]) -> list[pa.RecordBatch]:
    decoder = StreamDecoder()
    batches: list[pa.RecordBatch] = []
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(borders):
        batches += decoder.feed(data[begin:end])
    decoder.finish()
    return batches


def outcome(data: bytes, cuts: list[int]) -> list[pa.RecordBatch] | type[StrataError]:
    try:
        return decode(data, cuts)
    except (BadAnswerError, TruncatedStreamError) as error:
        return type(error)


cuts = st.lists(st.integers(0, 2000), max_size=4)


@fuzz
@given(data=st.one_of(damaged(st.sampled_from(STREAMS)), st.binary(max_size=64)), one=cuts, other=cuts)
def test_a_damaged_stream_is_read_whole_or_not_at_all(data, one, other) -> None:
    """The outcome does not depend on chunk sizes."""
    first = outcome(data, one)
    second = outcome(data, other)
    if isinstance(first, list):
        for batch in first:
            batch.validate()
        assert isinstance(second, list)
        assert [batch.num_rows for batch in first] == [batch.num_rows for batch in second]
    else:
        assert not isinstance(second, list)


@fuzz
@given(whole=st.sampled_from(STREAMS), keep=st.integers(0, 2000), at=cuts)
def test_a_stream_cut_off_anywhere_is_known_to_be(whole, keep, at) -> None:
    """Only the end-of-stream marker ends a stream."""
    found = outcome(whole[:keep], at)
    if keep >= len(whole):
        assert [3, 3] == [batch.num_rows for batch in found]
    else:
        assert found is TruncatedStreamError


kinds = st.sampled_from([Materialized, Build, Artifact, ArtifactPage, Explanation, Name, CacheStats, Status])
nearly = st.fixed_dictionaries(
    {"hit": st.booleans(), "artifact_uri": st.text(max_size=5), "state": st.text(max_size=5)},
    optional={"build_id": documents, "version": documents, "artifacts": documents, "status": documents},
)


@fuzz
@given(
    kind=kinds,
    body=st.one_of(
        st.one_of(nearly, documents).map(lambda d: json.dumps(d).encode()), st.binary(max_size=40)
    ),
)
def test_any_body_is_an_answer_or_a_bad_answer(kind, body) -> None:
    """Exceptions of the client's libraries do not leak."""
    try:
        found = parse_answer(kind, body)
    except BadAnswerError:
        return
    assert isinstance(found, kind)

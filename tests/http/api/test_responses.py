"""The first chunk of a streamed response, and the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strata.http.api.responses import FIRST_BYTES, stream_answer
from strata.http.door.context import Context
from strata.tenants.messages import Opened
from strata.tenants.shared.byte_stream import ByteStream, Tail

DATA = bytes(range(256)) * 2048


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    """Return a growing blob of half a megabyte, all of it in memory and in the file."""
    blob = tmp_path / "blob"
    blob.write_bytes(DATA)
    found = Tail(os.open(blob, os.O_RDONLY))
    found.keep(0, [DATA], on_file=len(DATA))
    found.advance(len(DATA))
    yield found
    found.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_the_first_bytes_of_a_growing_result_wait_for_no_others(tail: Tail, *, chunked: bool) -> None:
    """A growing result's first chunk has FIRST_BYTES; a finished result's is not limited to them."""
    stream = ByteStream(os.dup(tail.fd), tail=tail)
    if not chunked:
        tail.end()
    registry: Any = None
    context = Context("request-1", registry, chunked=chunked)
    answer = await stream_answer(Opened(stream, "a", 1), context)
    assert (FIRST_BYTES if chunked else len(DATA)) == len(answer.first)
    tail.end()
    rest = b""
    while part := await stream.chunk():
        rest += part
    assert DATA == answer.first + rest
    stream.close()

"""Bodies of parts: what is written is read, however it is cut; what is malformed is refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.executor.protocol.multipart import (
    MultipartBody,
    MultipartError,
    MultipartReader,
    Part,
    PartHead,
    boundary_of,
)


def read(data: bytes, boundary: str, step: int) -> dict[str, bytes]:
    """Return the parts of a body by name, read in pieces of ``step`` bytes."""

    async def source() -> AsyncIterator[bytes]:
        for at in range(0, len(data), step):
            yield data[at : at + step]

    async def take() -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        name = ""
        async for one in MultipartReader(boundary).read(source()):
            if isinstance(one, PartHead):
                name = one.name
                found[name] = b""
            else:
                found[name] += one
        return found

    return run(take())


def run(coroutine):
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


@given(
    st.lists(
        st.binary(max_size=200) | st.sampled_from([b"\r\n--x", b"\r\n--x--", b"\r\n", b"--x\r\n"]), max_size=5
    ),
    st.integers(1, 300),
)
def test_what_is_written_is_read(contents: list[bytes], step: int) -> None:
    """Parts of any bytes, also of beginnings of a boundary, come out as they went in, however they are cut."""
    body = MultipartBody(
        [Part(f"p{index}", "f", "application/octet-stream", data) for index, data in enumerate(contents)],
        "xy",
    )

    async def whole() -> bytes:
        return b"".join([part async for part in body])

    data = run(whole())
    assert body.size == len(data)
    assert {f"p{index}": content for index, content in enumerate(contents)} == read(data, "xy", step)


async def test_a_file_is_sent_in_chunks_and_a_short_one_is_an_error(tmp_path: Path) -> None:
    """The length is that of the file; one that has shrunk is an error, not a short part."""
    (tmp_path / "f").write_bytes(b"0123456789")
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        good = MultipartBody([Part("a", "a", "x/y", descriptor=descriptor, size=10)])
        assert b"0123456789" in b"".join([part async for part in good])
        bad = MultipartBody([Part("a", "a", "x/y", descriptor=descriptor, size=11)])
        with pytest.raises(OSError, match="shorter"):
            _ = [part async for part in bad]
    finally:
        os.close(descriptor)


MALFORMED = [
    b"",
    b"--b\r\n",
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nhalf',
    b"--b\r\n\r\n\r\n--b--\r\n",
    b"--b\r\nContent-Type: x\r\n\r\nx\r\n--b--\r\n",
    b'--b\r\nContent-Disposition: form-data; name=""\r\n\r\nx\r\n--b--\r\n',
    b"--bX\r\n",
    b"--b\r\n" + b"H: " + b"x" * 9000,
    b"".join(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' for _ in range(300))
    + b"--b--\r\n",
]


@pytest.mark.parametrize("data", MALFORMED)
def test_a_malformed_body_is_refused(data: bytes) -> None:
    """Bodies that are cut, without names, or with too much of anything are errors."""
    with pytest.raises(MultipartError):
        read(data, "b", 7)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=a b"]
)
def test_a_type_without_a_boundary_is_refused(kind: str) -> None:
    """Only form data with one boundary is a body of parts."""
    with pytest.raises(MultipartError):
        boundary_of(kind)

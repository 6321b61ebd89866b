"""Limits of values and bundles: what has exactly the limit is kept or read, and one more is not."""

from __future__ import annotations

import io
import json
import socket
import tempfile

import pytest

from strata.cells.bundle import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_MEMBERS,
    SCHEMA,
    BundleError,
    BundleWriter,
    read_bundle,
)
from strata.cells.remote import MAX_PARTS, RemoteCells
from strata.cells.runner import CellInput, CellJob, CellOutcome, Ended, Interrupt
from strata.cells.values import JSON, MAX_JSON_DEPTH, MAX_JSON_ITEMS, MAX_NUMBER, PICKLE, keep, load
from strata.executor.protocol.client import Executor


def nested(depth: int) -> list[object]:
    found: list[object] = []
    for _ in range(depth - 1):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("at", "beyond"),
    [
        ([0] * MAX_JSON_ITEMS, [0] * (MAX_JSON_ITEMS + 1)),
        ({str(key): 0 for key in range(MAX_JSON_ITEMS)}, {str(key): 0 for key in range(MAX_JSON_ITEMS + 1)}),
        (nested(MAX_JSON_DEPTH), nested(MAX_JSON_DEPTH + 1)),
        (MAX_NUMBER - 1, MAX_NUMBER),
        (1 - MAX_NUMBER, -MAX_NUMBER),
    ],
    ids=["list", "dict", "depth", "number", "negative"],
)
def test_what_is_larger_than_json_holds_is_pickled(at: object, beyond: object) -> None:
    """Either form gives back the same value."""
    for value, form in ((at, JSON), (beyond, PICKLE)):
        kept = keep("v", value)
        assert form == kept.content_type
        file = io.BytesIO()
        kept.write(file)
        assert kept.nbytes == len(file.getvalue())
        assert value == load(form, memoryview(file.getvalue()))


def read(members: int, manifest: bytes) -> int:
    """Read a bundle with so many members beside its manifest; returns how many it has."""
    with tempfile.TemporaryFile() as file:
        writer = BundleWriter(file)
        for number in range(members):
            writer.add(f"files/{number}", b"")
        writer.add(MANIFEST, manifest)
        file.write(bytes(1024))
        file.flush()
        return len(read_bundle(file.fileno()).members)


def manifest(size: int) -> bytes:
    head = json.dumps({"schema_version": SCHEMA, "more": ""}).encode()
    return head.replace(b'""', b'"' + b"x" * (size - len(head)) + b'"')


def test_members_of_a_bundle() -> None:
    """The manifest is one of them."""
    assert MAX_MEMBERS == read(MAX_MEMBERS - 1, manifest(100))
    with pytest.raises(BundleError, match="too many"):
        read(MAX_MEMBERS, manifest(100))


def test_bytes_of_a_manifest() -> None:
    """One more is refused, and the refusal has the limit."""
    assert 1 == read(0, manifest(MAX_MANIFEST_BYTES))
    with pytest.raises(BundleError, match=f"more than {MAX_MANIFEST_BYTES} bytes"):
        read(0, manifest(MAX_MANIFEST_BYTES + 1))


async def test_values_that_are_sent_to_a_worker() -> None:
    """So many are sent, here to a port on which no worker listens; of more the cell is told before."""

    async def console(_stream: str, _data: bytes) -> None:
        return

    async def answer(_question: object) -> tuple[dict[str, str], None]:
        return {}, None

    with tempfile.TemporaryFile() as file, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # its port, which does not listen, is no other program's
        remote = RemoteCells("side", Executor(f"http://127.0.0.1:{closed.getsockname()[1]}"))

        async def sent(count: int) -> CellOutcome:
            inputs = [CellInput(f"x{number}", JSON, 0, 0, 0) for number in range(count)]
            job = CellJob(source="1", name="c", inputs=inputs, files=[file.fileno()])
            found = await remote.run(job, file.fileno(), console, answerer=answer, interrupt=Interrupt())
            assert Ended.NOT_STARTED is found.ended
            return found

        assert "cannot be reached" in (await sent(MAX_PARTS)).message
        assert f"takes at most {MAX_PARTS}" in (await sent(MAX_PARTS + 1)).message

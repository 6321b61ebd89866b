"""The frames of a notebook's cell on an executor: what it prints and asks, its bundle, its outcome.

An executor answers ``notebook_cell@v1`` with a stream of :data:`CELL_STREAM`, which the server accepts. The
server brings the answer to a question in a request of its own: the process of a cell needs no address and no
token of the server.
"""

from __future__ import annotations

import enum
import json
import os
import struct
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from typing import Any, Final

import attrs
import trio

RUNTIME_CHANGED: Final = "RuntimeChanged"
"""Code of the refusal (409) of a cell whose ``runtime_id`` is not the executor's."""

CELL_STREAM: Final = "application/vnd.strata.notebook-cell"
"""Media type of the frames."""

HEAD: Final = struct.Struct("!BI")
"""The head of a frame: its kind, and the bytes that follow."""

ANSWER_HEAD: Final = struct.Struct("!I")
"""What an answer begins with: the bytes of its JSON text, behind which a file may follow."""

FRAME_BYTES: Final = 1024 * 1024
"""Maximum bytes of a frame, its head aside."""

ANSWER_BYTES: Final = 1024 * 1024
"""Maximum bytes of the JSON text of an answer."""

PING_SECONDS: Final = 3.0
"""Seconds between two signs of life of an executor that runs a cell."""

CHUNK_BYTES: Final = 256 * 1024
"""Bytes of a file that are read at a time."""


class CellStreamError(Exception):
    """The bytes are no frames of a cell; the message says why."""


class CellKind(enum.IntEnum):
    """What a frame is."""

    PING = 0
    STDOUT = 1
    STDERR = 2
    ASK = 3
    OUTPUT = 4
    ENDED = 5


def frame_of(kind: CellKind, payload: bytes = b"") -> bytes:
    """Return a frame as it is sent."""
    return HEAD.pack(kind, len(payload)) + payload


def facts_of(payload: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a frame or an answer.

    Raises:
        CellStreamError: If it is none.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CellStreamError("a frame holds no JSON object")
    return found


async def read_frames(body: AsyncIterable[bytes]) -> AsyncGenerator[tuple[CellKind, bytes]]:
    """Yield the frames of a stream; the last one is ``ENDED``.

    Raises:
        CellStreamError: If the stream is malformed, cut off, or goes on behind its end.
    """
    data = bytearray()
    ended = False
    async for part in body:
        data += part
        while len(data) >= HEAD.size:
            kind, size = HEAD.unpack_from(data)
            if ended or size > FRAME_BYTES or kind not in set(CellKind):
                raise CellStreamError("it holds what is no frame")
            if len(data) < HEAD.size + size:
                break
            payload = bytes(data[HEAD.size : HEAD.size + size])
            del data[: HEAD.size + size]
            ended = kind == CellKind.ENDED
            yield CellKind(kind), payload
    if data or not ended:
        raise CellStreamError("it ends before the cell's outcome")


@attrs.frozen(eq=False)
class AnswerBody:
    """The answer to a question: JSON, and a file if there is one.

    Attributes:
        head: The answer with its length.
        descriptor: An open file, which the caller closes; None: there is none.
        size: Bytes of both.
    """

    head: bytes
    descriptor: int | None
    size: int

    @classmethod
    def of(cls, answer: Mapping[str, Any], descriptor: int | None) -> AnswerBody:
        """Return the body of an answer."""
        text = json.dumps({"answer": dict(answer), "file": descriptor is not None}).encode()
        head = ANSWER_HEAD.pack(len(text)) + text
        more = 0 if descriptor is None else os.fstat(descriptor).st_size
        return cls(head, descriptor, len(head) + more)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body; the file is read in a thread, a chunk at a time.

        Raises:
            OSError: If the file cannot be read, or has become shorter.
        """
        yield self.head
        at, left = 0, self.size - len(self.head)
        while left and self.descriptor is not None:
            chunk = await trio.to_thread.run_sync(os.pread, self.descriptor, min(CHUNK_BYTES, left), at)
            if not chunk:
                raise OSError("the file of an answer is shorter than it was")
            at, left = at + len(chunk), left - len(chunk)
            yield chunk

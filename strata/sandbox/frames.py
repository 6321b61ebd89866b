"""The frames in which a sandboxed process answers: data with its rows, a question, or the end."""

from __future__ import annotations

import enum
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs

FRAME: Final = struct.Struct("!BQQ")
"""The head of a frame: its kind, its rows and the bytes that follow."""


class Kind(enum.IntEnum):
    """What a frame is."""

    WALLS = 0
    DATA = 1
    DONE = 2
    FAILED = 3
    LOG = 4
    ASK = 5


@attrs.frozen
class Frame:
    """A frame.

    Attributes:
        kind: What it is.
        rows: Rows of the data.
        payload: The data, or a JSON text.
    """

    MOST_BYTES: ClassVar = 64 * 1024 * 1024

    kind: Kind
    rows: int
    payload: bytes

    @classmethod
    def of(cls, kind: int, rows: int, length: int, payload: bytes) -> Frame:
        """Return the frame of a head.

        Raises:
            ValueError: If the kind is unknown, or the frame is larger than ``MOST_BYTES``.
        """
        if length > cls.MOST_BYTES:
            raise ValueError("the process sent a frame that is too large")
        return cls(Kind(kind), rows, payload)

    def facts(self) -> Mapping[str, Any]:
        """Return the JSON object of the payload; raises :class:`ValueError` for anything else."""
        found = json.loads(self.payload)
        if not isinstance(found, dict):
            raise ValueError("the process sent no object")  # noqa: TRY004  # one error for all that is wrong
        return found


def send(link: socket.socket, kind: Kind, parts: Sequence[bytes | memoryview], rows: int = 0) -> None:
    """Send a frame; blocking, from within the process."""
    link.sendall(FRAME.pack(kind, rows, sum(len(part) for part in parts)))
    for part in parts:
        link.sendall(part)


def receive_job(link: socket.socket, descriptors: int) -> tuple[dict[str, Any], list[int]]:
    """Receive the job with its open files; blocking, from within the process."""
    head, files, _, _ = socket.recv_fds(link, 4, descriptors)
    while len(head) < 4:  # noqa: PLR2004  # bytes of the length
        head += _received(link, 4 - len(head))
    (length,) = struct.unpack("!I", head)
    text = b""
    while len(text) < length:
        text += _received(link, length - len(text))
    return json.loads(text), list(files)


def _received(link: socket.socket, count: int) -> bytes:
    part = link.recv(count)
    if not part:
        raise EOFError("the server left")
    return part

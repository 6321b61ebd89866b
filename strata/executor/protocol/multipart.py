"""Bodies of several parts (``multipart/form-data``, RFC 7578), written and read piece by piece."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final

import attrs
import trio

CHUNK_BYTES: Final = 1024 * 1024
"""Most bytes of a file that are read at a time."""

HEAD_BYTES: Final = 8 * 1024
"""Most bytes of the headers of a part."""

MOST_PARTS: Final = 256
"""Most parts of a body."""

_DISPOSITION: Final = re.compile(
    r'form-data\s*;\s*name="([^"\r\n]{1,256})"(?:\s*;\s*filename="([^"\r\n]{0,256})")?'
)
_BOUNDARY: Final = re.compile(
    r'multipart/form-data\s*;\s*boundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?\s*', re.IGNORECASE
)


class MultipartError(Exception):
    """A body is not what its type says; the message is for its sender."""


@attrs.frozen
class Part:
    """A part to send: bytes, or a file.

    Attributes:
        name: Its name.
        filename: The name of its file.
        content_type: Its media type.
        data: Its bytes, if it is no file.
        descriptor: An open file, which the caller closes; -1 if it is none.
        size: Bytes of the file.
        offset: Offset of the first one of them in the file.
    """

    name: str
    filename: str
    content_type: str
    data: bytes = b""
    descriptor: int = -1
    size: int = 0
    offset: int = 0

    @property
    def length(self) -> int:
        """Bytes of the part's content."""
        return self.size if self.descriptor >= 0 else len(self.data)


@attrs.frozen(eq=False)
class MultipartBody:
    """A body of parts, whose length is known before it is sent.

    Attributes:
        parts: The parts, in their order; names hold no quote or line break.
        boundary: What separates them.
    """

    parts: Sequence[Part]
    boundary: str = attrs.field(factory=lambda: f"strata-{secrets.token_hex(16)}")

    @property
    def content_type(self) -> str:
        """The media type of the body."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(len(self._head(part)) + part.length + 2 for part in self.parts) + len(self._end())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body; a file is read in a thread, a chunk at a time.

        Raises:
            OSError: If a file cannot be read, or is shorter than was said.
        """
        for part in self.parts:
            yield self._head(part)
            if part.descriptor < 0:
                yield part.data
            offset = 0
            while part.descriptor >= 0 and offset < part.size:
                wanted = min(CHUNK_BYTES, part.size - offset)
                chunk = await trio.to_thread.run_sync(os.pread, part.descriptor, wanted, part.offset + offset)
                if not chunk:
                    raise OSError(f"the file of {part.name} is shorter than {part.size} bytes")
                offset += len(chunk)
                yield chunk
            yield b"\r\n"
        yield self._end()

    def _head(self, part: Part) -> bytes:
        text = (
            f"--{self.boundary}\r\n"
            f'Content-Disposition: form-data; name="{part.name}"; filename="{part.filename}"\r\n'
            f"Content-Type: {part.content_type}\r\n\r\n"
        )
        return text.encode()

    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()


@attrs.frozen
class PartHead:
    """The head of a part that is read.

    Attributes:
        name: Its name.
        filename: The name of its file; empty if it has none.
    """

    name: str
    filename: str = ""


def boundary_of(content_type: str) -> str:
    """Return the boundary of a media type.

    Raises:
        MultipartError: If it is not that of a body of parts.
    """
    match = _BOUNDARY.fullmatch(content_type)
    if match is None:
        raise MultipartError("The body is not multipart/form-data with a boundary.")
    return match[1]


@attrs.define(eq=False)
class MultipartReader:
    """Reads a body of parts: heads, each followed by the bytes of its part.

    Memory holds one piece of the source and at most a boundary's length besides.

    Attributes:
        boundary: What separates the parts.
        parts: Parts that have begun.
    """

    boundary: str
    parts: int = 0
    _rest: bytearray = attrs.field(factory=bytearray)
    _state: str = "preamble"

    async def read(self, source: AsyncIterable[bytes]) -> AsyncIterator[PartHead | bytes]:
        """Yield the head of each part, then its bytes in pieces.

        Raises:
            MultipartError: If the body is malformed, or ends before its last boundary.
        """
        self._rest += b"\r\n"  # the first boundary may be the body's first bytes
        async for piece in source:
            self._rest += piece
            for found in self._take():
                yield found
        if self._state != "end":
            raise MultipartError("The body ended before its last boundary.")

    def _take(self) -> list[PartHead | bytes]:
        """Return what the bytes held so far complete."""
        found: list[PartHead | bytes] = []
        steps = {
            "preamble": self._content,
            "content": self._content,
            "boundary": self._after,
            "head": self._begin,
        }
        while self._state != "end" and steps[self._state](found):
            pass
        if self._state == "end":
            self._rest.clear()
        return found

    @property
    def _mark(self) -> bytes:
        return b"\r\n--" + self.boundary.encode()

    def _content(self, found: list[PartHead | bytes]) -> bool:
        """Take bytes up to the next boundary; returns whether it was found, as the next steps do."""
        rest, mark = self._rest, self._mark
        at = rest.find(mark)
        end = at if at >= 0 else max(0, len(rest) - len(mark) + 1)
        if end and self._state == "content":
            found.append(bytes(rest[:end]))
        del rest[:end]
        if at >= 0:
            self._state = "boundary"
        return at >= 0

    def _after(self, _found: list[PartHead | bytes]) -> bool:
        """Take a boundary."""
        rest, length = self._rest, len(self._mark)
        if len(rest) < length + 2:
            return False
        after = bytes(rest[length : length + 2])
        if after not in (b"--", b"\r\n"):
            raise MultipartError("A boundary is not followed by a part.")
        self._state = "end" if after == b"--" else "head"
        del rest[:length]  # the line break is the head's
        return True

    def _begin(self, found: list[PartHead | bytes]) -> bool:
        """Take the headers of a part."""
        rest = self._rest
        at = rest.find(b"\r\n\r\n")
        if at > HEAD_BYTES or (at < 0 and len(rest) > HEAD_BYTES):
            raise MultipartError(f"The headers of a part are longer than {HEAD_BYTES} bytes.")
        if at < 0:
            return False
        found.append(self._head(bytes(rest[2:at])))
        del rest[: at + 4]
        self._state = "content"
        return True

    def _head(self, text: bytes) -> PartHead:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise MultipartError(f"The body has more than {MOST_PARTS} parts.")
        for line in text.split(b"\r\n"):
            name, _, value = line.decode("utf-8", "replace").partition(":")
            if name.strip().lower() == "content-disposition":
                match = _DISPOSITION.fullmatch(value.strip())
                if match is not None:
                    return PartHead(match[1], match[2] or "")
        raise MultipartError("A part has no name.")

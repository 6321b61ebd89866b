"""The two parts of an upload: ``metadata``, a small JSON text, and behind it ``data``, piece by piece."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from strata.http.door.uploads import UploadBody
from strata.http.problems import Problem, ProblemError

MOST_METADATA: Final = 1024 * 1024
"""Bytes of the largest ``metadata``."""

MOST_HEADERS: Final = 8 * 1024
"""Bytes of the headers of a part, and of what is before the first one."""

_BOUNDARY: Final = re.compile(rb"--[0-9A-Za-z'()+_,\-./:=? ]{1,70}\r\n")
_NAME: Final = re.compile(
    rb"""content-disposition:[^\r\n]*?;[ \t]*name="?([A-Za-z]+)"?[ \t]*(?:;|\r\n)""", re.IGNORECASE
)


class Multipart:
    """A body of ``multipart/form-data`` (RFC 7578) with the parts ``metadata`` and ``data``, in this order.

    Args:
        body: The body, as it arrives.
    """

    def __init__(self, body: UploadBody) -> None:
        self._pieces = aiter(body)
        self._held = bytearray()
        self._end = b""

    async def metadata(self) -> bytes:
        """Return the text of ``metadata``, the first part.

        Raises:
            ProblemError: 400 for another form of body, 413 if the part is too large; as reading the body.
        """
        line = await self._until(b"\r\n", MOST_HEADERS)
        if not _BOUNDARY.fullmatch(line + b"\r\n"):
            raise malformed("it does not begin with a boundary")
        self._end = b"\r\n" + line.rstrip(b" ")
        await self._headers(b"metadata")
        try:
            return await self._until(self._end, MOST_METADATA)
        finally:
            self._end = bytes(self._end)

    async def data(self) -> AsyncIterator[bytes]:
        """Yield the bytes of ``data``, the second and last part.

        Raises:
            ProblemError: 400 for another form of body; as reading the body.
        """
        if await self._until(b"\r\n", MOST_HEADERS):
            raise malformed("it has no part data behind metadata")
        await self._headers(b"data")
        kept = len(self._end) - 1  # the boundary may be in two pieces
        while (place := self._held.find(self._end)) < 0:
            if len(self._held) > kept:
                yield bytes(self._held[: len(self._held) - kept])
                del self._held[: len(self._held) - kept]
            await self._more()
        if place:
            yield bytes(self._held[:place])
        del self._held[: place + len(self._end)]
        while len(self._held) < 2:  # noqa: PLR2004  # the two hyphens of the last boundary
            await self._more()
        if not self._held.startswith(b"--"):
            raise malformed("it has a part behind data")
        async for _ in self._pieces:  # an epilogue says nothing
            pass

    async def _headers(self, name: bytes) -> None:
        head = await self._until(b"\r\n\r\n", MOST_HEADERS)
        found = _NAME.search(head + b"\r\n")
        if found is None or found[1] != name:
            raise malformed(f"its parts are metadata and data, in this order; {name.decode()} is not there")

    async def _until(self, end: bytes, most: int) -> bytes:
        """Return the bytes before ``end``, and drop both."""
        start = 0
        while (place := self._held.find(end, start)) < 0:
            start = max(0, len(self._held) - len(end) + 1)
            if start > most:
                raise ProblemError(Problem(413, f"A part has more than {most} bytes.", "upload_too_large"))
            await self._more()
        taken = bytes(self._held[:place])
        del self._held[: place + len(end)]
        return taken

    async def _more(self) -> None:
        try:
            self._held += await anext(self._pieces)
        except StopAsyncIteration:
            raise malformed("it ends within a part") from None


def malformed(why: str) -> ProblemError:
    """Return the 400 of a body of another form."""
    loc = [{"loc": ["body"], "msg": why}]
    detail = f"The body must be multipart/form-data with the parts metadata and data: {why}."
    return ProblemError(Problem(400, detail, "invalid_multipart", loc))

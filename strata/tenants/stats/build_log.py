"""What a transform prints while it is built: the newest characters, for readers who follow them."""

from __future__ import annotations

from typing import Final

import attrs
import trio

MOST_CHARACTERS: Final = 64 * 1024
"""Characters that are kept of a build; older ones are dropped."""


@attrs.define(eq=False)
class BuildLog:
    """The log of one build.

    Attributes:
        text: What is kept of it.
        start: Characters that were dropped before it.
        ended: Whether the build has ended.
    """

    text: str = ""
    start: int = 0
    ended: bool = False
    _moved: trio.Event = attrs.field(factory=trio.Event)

    @property
    def end(self) -> int:
        """Characters so far, the dropped ones included."""
        return self.start + len(self.text)

    def add(self, text: str) -> None:
        """Append what was printed."""
        if not text or self.ended:
            return
        self.text += text
        over = len(self.text) - MOST_CHARACTERS
        if over > 0:
            self.text, self.start = self.text[over:], self.start + over
        self._wake()

    def close(self) -> None:
        """Note that nothing follows."""
        self.ended = True
        self._wake()

    def after(self, position: int) -> tuple[int, str]:
        """Return what is kept from a position on, with the position of its first character."""
        begin = max(position, self.start)
        return begin, self.text[begin - self.start :]

    async def beyond(self, position: int) -> None:
        """Wait until there is something after a position, or nothing follows."""
        while self.end <= position and not self.ended:
            await self._moved.wait()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

"""Files of results that a proxy was told to send, and that it opens a moment later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

LENT_SECONDS: Final = 10.0
"""Seconds in which a proxy opens a local file that it was told of."""

MOST_LENT: Final = 100_000
"""Files that are lent at a time; the server sends further ones itself."""

Blob = tuple[str, str]
"""Prefix of the tenant, and SHA-256."""


@attrs.define(eq=False)
class LentFiles:
    """Files that are not removed yet, since a proxy may be about to open them; on the event loop.

    Attributes:
        seconds: Time for which a file stays after the last answer that named it.
    """

    seconds: float = LENT_SECONDS
    _until: OrderedDict[Blob, float] = attrs.field(factory=OrderedDict)  # the one that ends first is first
    _going: set[Blob] = attrs.field(factory=set)
    _kept: set[str] = attrs.field(factory=set)

    def lend(self, blob: Blob) -> bool:
        """Keep a file for :attr:`seconds`; returns false if that cannot be promised."""
        now = trio.current_time()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if blob in self._going or (len(self._until) >= MOST_LENT and blob not in self._until):
            return False
        self._until[blob] = now + self.seconds
        self._until.move_to_end(blob)
        return True

    @contextmanager
    def removing(self, tenant: str, blob: Blob) -> Iterator[bool]:
        """Whether a file may be removed in the block, in which it is not lent.

        A tenant's file that may not is one of those that :meth:`take_kept` tells.
        """
        if self._until.get(blob, 0.0) > trio.current_time():
            self._kept.add(tenant)
            yield False
            return
        self._going.add(blob)
        try:
            yield True
        finally:
            self._going.discard(blob)

    def take_kept(self) -> tuple[str, ...]:
        """Return the tenants with files that could not be removed since the last call."""
        kept, self._kept = tuple(self._kept), set()
        return kept

"""Connections that were cut, counted; a flood of them is a line a minute in the log, not a line each."""

from __future__ import annotations

from collections import Counter

import structlog
import trio

PAUSE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Tally:
    """Counts by reason since the server started, and says so now and then.

    Attributes:
        counts: How often each thing happened.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self._last = -PAUSE_SECONDS

    def note(self, what: str) -> None:
        """Count ``what``; the first of a minute is logged together with all that was not yet."""
        self.counts[what] += 1
        if trio.current_time() - self._last >= PAUSE_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Log what was counted since the last time, if anything was."""
        new = self.counts - self._told
        if new:
            log.warning("connections cut", **dict(sorted(new.items())))
            self._told = Counter(self.counts)
            self._last = trio.current_time()

"""One line about a result that arrives: rows and bytes, each with its total where the server states it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

import attrs

ProgressCallback = Callable[[int, int | None], None]
"""Called after each chunk with the bytes received so far, and the rows of the whole result when known."""

ProgressOption = ProgressCallback | bool | None
"""True for a line on standard error, a function, or nothing."""

PERIOD_SECONDS = 0.1
"""Least time between two changes of the line on a terminal."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_STEP = 1000


@attrs.frozen
class Progress:
    """How much of a result has arrived; totals are None where the server does not state them."""

    rows: int
    total_rows: int | None
    bytes: int
    total_bytes: int | None


class ProgressDisplay(Protocol):
    """Shows the progress of one result."""

    def show(self, progress: Progress) -> None:
        """Show how far the result is; called after each chunk."""

    def end(self, progress: Progress, *, whole: bool) -> None:
        """Show the end; ``whole``: whether all of the result arrived."""


def size_text(count: int) -> str:
    """Return a number of bytes for people: ``1.5 MB``."""
    size, unit = float(count), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{count} bytes"


def progress_text(progress: Progress) -> str:
    """Return rows and bytes, each with its total if it is known."""
    rows = f"{progress.rows:,}"
    if progress.total_rows is not None:
        rows += f" of {progress.total_rows:,}"
    size = size_text(progress.bytes)
    if progress.total_bytes is not None:
        size += f" of {size_text(progress.total_bytes)}"
    return f"{rows} rows, {size}"


class ProgressLine:
    """Writes the progress of one result: on a terminal a line that changes, elsewhere one line at the end.

    Args:
        out: Where to; default: standard error.
        clock: Returns seconds on a monotonic clock.
    """

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._next = 0.0

    def show(self, progress: Progress) -> None:
        """Show how far the result is."""
        now = self._clock()
        if self._out.isatty() and now >= self._next:
            self._next = now + PERIOD_SECONDS
            self._out.write(f"\r\x1b[K{progress_text(progress)}")
            self._out.flush()

    def end(self, progress: Progress, *, whole: bool) -> None:
        """Write the last line; ``whole``: whether all of the result arrived."""
        start = "\r\x1b[K" if self._out.isatty() else ""
        text = progress_text(progress)
        self._out.write(f"{start}{text}\n" if whole else f"{start}{text}, then it broke off\n")
        self._out.flush()


class _Calls:
    """Calls a function with the bytes received and the rows of the whole result."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback

    def show(self, progress: Progress) -> None:
        self._callback(progress.bytes, progress.total_rows)

    def end(self, progress: Progress, *, whole: bool) -> None:
        pass


def display_of(progress: ProgressOption) -> ProgressDisplay | None:
    """Return what shows the progress: a line for True, calls of a function, or nothing."""
    if progress is True:
        return ProgressLine()
    return _Calls(progress) if callable(progress) else None

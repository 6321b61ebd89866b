"""Write standard error from a thread, so that a reader that stops, or a disk that hangs, stops no request.

Everything that Python code writes to standard error goes through the queue: log lines, warnings, tracebacks.
The queue is bounded; text that finds it full is dropped and counted. A line tells the count when writing goes
on.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO, cast

QUEUED_BYTES = 4 * 1024 * 1024
"""Most bytes that wait to be written; further text is dropped and counted."""

GATHER_SECONDS = 0.05
"""Seconds after a write in which text gathers for the next one: a busy server rarely wakes the thread."""

FLUSH_SECONDS = 1.0
"""Most seconds that the end of the process waits for queued text; what is left then is lost."""

STDERR = 2
"""File descriptor of standard error."""


class StderrQueue(io.TextIOBase):
    """A text stream whose writes are queued and never wait.

    Args:
        fd: File descriptor that a thread writes the text to, in order.
        most: Most bytes that wait to be written.
        write: As :func:`os.write`.

    Attributes:
        dropped: Pieces of text, which are mostly lines, that were dropped: the queue was full, or they could
            not be written.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(
        self, fd: int, *, most: int = QUEUED_BYTES, write: Callable[[int, memoryview], int] = os.write
    ) -> None:
        super().__init__()
        self._fd = fd
        self._most = most
        self._write = write
        self._queue: deque[bytes] = deque()
        self._bytes = 0  # queued, or being written
        self._missing = 0  # dropped since the last line that tells the count
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._ending = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Queue a text; drops and counts it if the queue is full."""
        piece = text.encode(self.encoding, self.errors)
        with self._lock:
            # Once something is missing, nothing is queued before the line that tells the count.
            if self._missing or self._bytes + len(piece) > self._most:
                self._missing += 1
                self.dropped += 1
            else:
                self._queue.append(piece)
                self._bytes += len(piece)
        if not self._ready.is_set():
            self._ready.set()
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor that is written to."""
        return self._fd

    def isatty(self) -> bool:
        """Whether the text is written to a terminal."""
        return os.isatty(self._fd)

    def end(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Write what is queued and end the thread; returns whether that was done within ``seconds``."""
        self._ending.set()
        self._ready.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ending.is_set() or self._queue or self._missing:
            self._ready.wait()
            self._ready.clear()
            with self._lock:
                pieces = tuple(self._queue)
                self._queue.clear()
                missing, self._missing = self._missing, 0
            if not self._put(b"".join(pieces)):
                with self._lock:
                    self.dropped += len(pieces)
            if missing:
                self._put(_notice(missing))
            with self._lock:
                self._bytes -= sum(map(len, pieces))
            self._ending.wait(GATHER_SECONDS)

    def _put(self, data: bytes) -> bool:
        """Write bytes, for however long that takes; returns whether they were written."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._write(self._fd, left) :]
            except BlockingIOError:  # another process has made the shared pipe non-blocking
                select.select([], [self._fd], [])
            except OSError:  # a full disk, or a pipe whose reader left: nothing can be said there
                return False
        return True


def _notice(missing: int) -> bytes:
    event = {"event": "log lines dropped", "level": "warning", "lines": missing}
    return json.dumps(event).encode() + b"\n"


def install() -> StderrQueue | None:
    """Queue what this process writes to ``sys.stderr``, until its end; None if that is not standard error.

    A standard stream that is closed becomes the null device first: otherwise the next file or socket would
    have its descriptor, and get what is written to it.
    """
    if isinstance(sys.stderr, StderrQueue):
        return sys.stderr
    for fd in range(STDERR + 1):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003  # has no keyword
    if sys.stderr is not None:
        try:
            if sys.stderr.fileno() != STDERR:
                return None
        except (OSError, ValueError):  # a stream without a file, as in tests
            return None
        sys.stderr.flush()
    found = StderrQueue(STDERR)
    sys.stderr = cast("TextIO", found)
    atexit.register(end)
    os.register_at_fork(after_in_child=_restore)
    return found


def _restore() -> None:
    """Write directly again: at the end, and in a forked process, which does not have the thread."""
    if isinstance(sys.stderr, StderrQueue):
        sys.stderr = sys.__stderr__


def end() -> None:
    """Write what is queued for standard error, within :data:`FLUSH_SECONDS`, and later text directly.

    If the queue cannot be written in time, what is in it and later text are lost.
    """
    if isinstance(sys.stderr, StderrQueue) and sys.stderr.end():
        _restore()


def dropped() -> int:
    """Return how many pieces of text for standard error, which are mostly lines, were dropped so far."""
    return sys.stderr.dropped if isinstance(sys.stderr, StderrQueue) else 0

"""Have Parquet footers touched by a process that may die before the server reads them.

pyarrow 26's accessors of column chunks and statistics end the process on some damaged footers: C++ exceptions
that Cython does not translate (apache/arrow, issue 45283). Parsing a footer and decoding pages raise errors.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import attrs
import structlog
from cachetools import LRUCache

from strata.outcomes import Reason, RefusalError, Refused

CHECK_SECONDS = 10.0
"""Seconds a check may take; beyond, the process is ended and the footer refused."""

ATTEMPTS = 2
"""Processes that a footer may end before it is refused: the first may have ended for another reason."""

REMEMBERED = 4096
"""Footers whose refusal is remembered, so that one does not end a process a request."""

NO_PROCESS = Refused(
    Reason.UNAVAILABLE, "The server cannot start a process to check a data file.", retry_after=5
)

_DEADLY = "reading the fields of its footer ends the process"

_PROGRAM = Path(__file__).with_name("footer_child.py")

log = structlog.get_logger(__name__)


class DeadlyFooterError(ValueError):
    """A footer that ends the process which reads its fields."""


@attrs.define(eq=False)
class _Checker:
    """A process that touches footers, one at a time.

    Attributes:
        process: The process.
        link: Its standard input and output.
    """

    process: subprocess.Popen[bytes]
    link: socket.socket

    @classmethod
    def start(cls) -> _Checker:
        ours, theirs = socket.socketpair()
        with theirs:
            # No environment and no signals of the terminal: it ends when the link is closed.
            process = subprocess.Popen(  # noqa: S603  # the interpreter and a file of the package
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,
            )
        ours.settimeout(CHECK_SECONDS)
        return cls(process, ours)

    def send(self, tail: bytes) -> None:
        """Send a footer; raises OSError if the process has ended or does not read."""
        self.link.sendall(len(tail).to_bytes(4, "big") + tail)

    def wait(self) -> None:
        """Wait until the footer's fields were read, or raised; raises OSError if that ended the process."""
        if not self.link.recv(1):
            raise ConnectionResetError("the process ended")

    def end(self) -> int:
        """End the process; return its status, a negative signal where one ended it."""
        self.link.close()
        self.process.kill()
        return self.process.wait()


@attrs.define
class _Attempt:
    passed: bool = False


class FooterCheck:
    """Check footers, each in an idle process or in a new one. Thread-safe.

    There are as many processes as checks ran at a time, which are no more than the threads of the work pool.
    """

    def __init__(self) -> None:
        self._idle: list[_Checker] = []
        self._lock = Lock()
        self._deadly: LRUCache[bytes, None] = LRUCache(REMEMBERED)
        self._needed = True

    def needless(self) -> None:
        """Check nothing any more: this process may die itself."""
        self._needed = False

    @contextlib.contextmanager
    def checking(self, tail: bytes) -> Iterator[None]:
        """Check a footer while the body parses it; blocking at the end, usually for less than a millisecond.

        The body may parse the footer and its schema, but touch no column chunk. A footer whose fields raise
        passes: they raise in the server, with their reason.

        Args:
            tail: The end of a Parquet file from its footer on.

        Raises:
            DeadlyFooterError: If it would end the process, or takes longer than :data:`CHECK_SECONDS`.
            RefusalError: UNAVAILABLE if no process can be started.
        """
        if not self._needed:
            yield
            return
        key = hashlib.sha256(tail).digest()
        with self._lock:
            known = key in self._deadly
        if known:
            raise DeadlyFooterError(_DEADLY)
        with self._attempt(tail) as first:
            yield
        if first.passed:
            return
        for _ in range(ATTEMPTS - 1):
            with self._attempt(tail) as again:
                pass
            if again.passed:
                return
        with self._lock:
            self._deadly[key] = None
        raise DeadlyFooterError(_DEADLY)

    @contextlib.contextmanager
    def _attempt(self, tail: bytes) -> Iterator[_Attempt]:
        """Send a footer to a process, and wait for its answer at the end."""
        attempt = _Attempt()
        checker = self._take()
        with contextlib.suppress(OSError):  # which the wait meets again
            checker.send(tail)
        try:
            yield attempt
        finally:
            attempt.passed = self._finish(checker)

    def _finish(self, checker: _Checker) -> bool:
        """Take a process's answer; returns whether there was one."""
        try:
            checker.wait()
        except OSError as error:
            log.warning("footer check ended", error=type(error).__name__, status=_name(checker.end()))
            return False
        self._give(checker)
        return True

    def prepare(self) -> None:
        """Start a process now, which takes a fifth of a second, rather than at the first footer; blocking."""
        with contextlib.suppress(RefusalError):  # the first footer tries again
            self._give(self._take())

    def _take(self) -> _Checker:
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            return idle
        try:
            return _Checker.start()
        except OSError as error:  # no process or descriptor left, which says nothing about the file
            raise RefusalError(NO_PROCESS) from error

    def _give(self, checker: _Checker) -> None:
        with self._lock:
            self._idle.append(checker)

    def close(self) -> None:
        """End the idle processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for checker in idle:
            with contextlib.suppress(OSError):
                checker.end()


def _name(status: int) -> str | int:
    return signal.Signals(-status).name if status < 0 else status


FOOTER_CHECK = FooterCheck()
"""The checks of this process; their processes end with it."""

atexit.register(FOOTER_CHECK.close)

"""Have cells analysed by child processes, which a hostile source may end.

The parser holds the interpreter's lock for as long as it takes, and no limit of nesting keeps it from running
out of stack or memory on every platform. A child's end is a finding of the cell.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import Final

import attrs
import structlog

from strata.notebooks.names.analysis import PYTHON, SQL, Analysis, analyse, failed
from strata.outcomes import Reason, RefusalError, Refused

ANSWER_SECONDS: Final = 30.0
"""Seconds an analysis may take; beyond, the machine is overloaded and the request is refused."""

ATTEMPTS: Final = 2
"""Children that a cell may end before it counts as too complex: one may have ended for another reason."""

SMALL_BYTES: Final = 256
"""Bytes of SQL that is analysed without a child, in less than a millisecond."""

CPU_SECONDS: Final = 2
"""Seconds of the processor that one analysis may take; beyond, the system ends the child."""

TOO_COMPLEX: Final = "The code takes too long, or too much memory, to analyse. Split the cell."

OVERLOADED: Final = Refused(
    Reason.UNAVAILABLE,
    "The server cannot analyse a cell right now.",
    code="analysis_unavailable",
    retry_after=5,
)

_ROOT: Final = str(Path(__file__).parents[3])
_MODULE: Final = "strata.notebooks.names.analyser_child"

log = structlog.get_logger(__name__)


@attrs.frozen
class Analysed:
    """An analysis, and the seconds of the processor that it took."""

    analysis: Analysis
    seconds: float


@attrs.define(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    link: socket.socket

    @classmethod
    def start(cls) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            # No environment and no signals of the terminal: it ends when the link is closed.
            process = subprocess.Popen(  # noqa: S603  # the interpreter and a module of the package
                [sys.executable, "-P", "-S", "-m", _MODULE, str(CPU_SECONDS)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LC_ALL": "C.UTF-8", "PYTHONPATH": _ROOT},
                cwd="/",
                start_new_session=True,
            )
        ours.settimeout(ANSWER_SECONDS)
        return cls(process, ours)

    def ask(self, question: bytes) -> bytes:
        """Return the answer; raises OSError if the process ends, TimeoutError if it takes too long."""
        self.link.sendall(len(question).to_bytes(4, "big") + question)
        return self._receive(int.from_bytes(self._receive(4), "big"))

    def _receive(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            part = self.link.recv(size - len(found))
            if not part:
                raise ConnectionResetError("the process ended")
            found += part
        return bytes(found)

    def end(self) -> int:
        self.link.close()
        self.process.kill()
        return self.process.wait()


class Analyser:
    """Analyse cells, each in an idle child or in a new one. Thread-safe.

    There are as many children as analyses ran at a time, no more than the threads that wait for them.
    """

    def __init__(self) -> None:
        self._idle: list[_Child] = []
        self._lock = Lock()

    def analyse(self, language: str, source: str) -> Analysed:
        """Return the analysis of a cell; blocking, usually for a millisecond or two.

        A cell whose analysis ends the process, by memory or by time of the processor, is too complex: that is
        its finding.

        Raises:
            RefusalError: UNAVAILABLE if no process can be started, or none answers in time.
        """
        if language not in (PYTHON, SQL) or (language == SQL and len(source) <= SMALL_BYTES):
            return Analysed(analyse(language, source), 0.0)
        try:
            question = json.dumps([language, source]).encode()
            for _ in range(ATTEMPTS):
                answer = self._attempt(question)
                if isinstance(answer, bytes):
                    values, seconds = json.loads(answer)
                    return Analysed(Analysis.of_json(values), seconds)
                if answer == -signal.SIGXCPU:  # again it would take as long
                    break
        except TimeoutError as error:
            raise RefusalError(OVERLOADED) from error
        return Analysed(failed("too_complex", TOO_COMPLEX), float(ATTEMPTS * CPU_SECONDS))

    def _attempt(self, question: bytes) -> bytes | int:
        """Return the answer of a child, or its status if it ended."""
        child = self._take()
        try:
            answer = child.ask(question)
        except TimeoutError:
            child.end()
            raise
        except OSError as error:
            status = child.end()
            log.warning("cell analysis ended", error=type(error).__name__, status=status)
            return status
        with self._lock:
            self._idle.append(child)
        return answer

    def _take(self) -> _Child:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            return _Child.start()
        except OSError as error:  # no process or descriptor left, which says nothing about the cell
            raise RefusalError(OVERLOADED) from error

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            with contextlib.suppress(OSError):
                child.end()


ANALYSER: Final = Analyser()
"""The analyser of this process; its children end with it."""

atexit.register(ANALYSER.close)

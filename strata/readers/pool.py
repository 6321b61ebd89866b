"""The readers of this process: as few as are in use, and a few more than the work pool has slots."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

import structlog
from cachetools import TTLCache

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers.messages import Request, TellWalls, Walls
from strata.readers.openers import Opener, Openers
from strata.readers.processes import (
    ForkServer,
    ForkServerEndedError,
    Reader,
    ReaderDiedError,
    ReaderLateError,
)
from strata.sandbox.walls import WALLS
from strata.tables.files.confined import LocalFileIO

NO_PROCESS = Refused(
    Reason.UNAVAILABLE, "The server cannot start a process to read a data file.", retry_after=5
)

REMEMBERED = 4096
"""Files whose refusal is remembered, so that one does not end two readers a request."""

REMEMBERED_SECONDS = 60.0
"""Seconds for which it is."""

LEAST_BYTES = 64 << 20
"""Bytes of data that each reader may hold, besides those it begins with, however small the memory budget."""

END_SECONDS = 1.0
"""Seconds to wait for the end of each reader when the pool is closed."""

SPARE = 2
"""Readers beyond the cores: a row group stays in its reader, and two that run may have the same one."""

_MISSING = {errno.ENOSYS, errno.EPERM}
"""Errors of a system, or of a container's filter of system calls, that lacks what readers need."""

WALLS_SECONDS = 30.0
"""Seconds in which a reader must say which walls it lacks."""

MOST_BUSY = 4
"""Times as many readers there may be while all of them wait for a disk that does not answer."""

log = structlog.get_logger(__name__)


class ReaderPool:
    """Readers, forked when they are first needed or by :meth:`prepare`. Thread-safe.

    Args:
        size: Usual number of readers; default: of cores, and :data:`SPARE`.

    Attributes:
        available: Whether this system has what readers need; without, files are read in this process.
        ends: Readers that ended before their time, by what ended them: the name of a signal, ``late`` for
            one that did not answer in time, ``idle`` for one that read nothing then.
        retries: Steps that were begun again in another reader.
        steps: Steps of files, by kind.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size or len(os.sched_getaffinity(0)) + SPARE
        self._memory = 0
        self._server: ForkServer | None = None
        self._readers: list[Reader] = []
        self._lock = Lock()
        self._openers = Openers(self._fork_opener)
        self._deadly: TTLCache[str, None] = TTLCache(REMEMBERED, REMEMBERED_SECONDS)
        self.available = sys.platform == "linux"
        self.ends: Counter[str] = Counter()
        self.retries = 0
        self.steps: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<ReaderPool {len(self._readers)}/{self._size} readers, {self.ends.total()} ended early>"

    @property
    def alive(self) -> int:
        """Readers that are alive."""
        return sum(reader.alive for reader in self._readers)

    def begin(self) -> None:
        """Start the fork server, which imports for a second what readers need."""
        with self._lock, suppress(OSError):  # the first file tries again, and is refused
            if self.available:
                self._begun()

    def prepare(self) -> None:
        """Fork all readers now rather than when they are needed; blocking, at most about a second."""
        for _ in range(self._size):
            with self._lock:
                if not self.available or len(self._readers) >= self._size:
                    return
                try:
                    self._fork(ahead=True)
                except OSError as error:  # the first file tries again
                    log.warning("no reader process", error=type(error).__name__)
                    return

    def missing_walls(self) -> tuple[str, ...]:
        """Return the walls that readers lack on this machine; blocking.

        Raises:
            RefusalError: UNAVAILABLE if there can be no reader.
        """
        reader = self.lease()
        try:
            with reader.lock:
                answer, _ = reader.call(Request(TellWalls()), _no_file, WALLS_SECONDS)
        except (ReaderDiedError, ReaderLateError) as error:
            raise RefusalError(NO_PROCESS) from error
        finally:
            self.release(reader)
        return tuple(answer.missing) if isinstance(answer, Walls) else WALLS

    def limit(self, nbytes: int) -> None:
        """Divide bytes among the readers forked from now on; each has :data:`LEAST_BYTES` at least."""
        self._memory = max(LEAST_BYTES, nbytes // self._size)

    def lease(self, *, alone: bool = False, again: Reader | None = None) -> Reader:
        """Return the reader with the fewest row groups, which counts one more until :meth:`release`.

        Args:
            alone: Return one that reads nothing else.
            again: Return this one if it is alive.

        Raises:
            RefusalError: UNAVAILABLE if no process can be started.
        """
        with self._lock:
            self._readers = [reader for reader in self._readers if reader.alive]
            if again is not None and again in self._readers:
                again.load += 1
                return again
            free = [reader for reader in self._readers if not reader.lock.locked()]
            found = min(free, key=_load, default=None)
            room = len(self._readers) < self._size * (1 if free else MOST_BUSY)
            if (found is None or found.load) and (room or alone):
                try:
                    found = self._fork()
                except OSError as error:  # no process or descriptor left, which says nothing about the file
                    if found is None:
                        raise RefusalError(NO_PROCESS) from error
            if found is None:
                found = min(self._readers, key=_load)
            found.load += 1
            return found

    def release(self, reader: Reader) -> None:
        """Give a reader back."""
        with self._lock:
            reader.load -= 1
            if not reader.load and len(self._readers) > self._size and reader in self._readers:
                self._readers.remove(reader)  # it was forked while others were busy
                reader.end()

    def open(self, io: LocalFileIO, location: str, seconds: float, late: Refused) -> int:
        """Return the descriptor of one file; raises what :meth:`open_all` returns, too."""
        [found] = self.open_all(io, [location], seconds, late)
        if isinstance(found, int):
            return found
        try:
            raise found
        finally:
            del found  # with its traceback it would wait for the collector

    def open_all(
        self, io: LocalFileIO, locations: Sequence[str], seconds: float, late: Refused
    ) -> list[int | OSError | RefusalError]:
        """See :meth:`strata.readers.openers.Openers.open`; here, where there are no processes."""
        if self.available:
            return self._openers.open(io, locations, seconds, late)
        found: list[int | OSError | RefusalError] = []
        for location in locations:
            try:
                found.append(io.open_descriptor(location))
            except (OSError, RefusalError) as error:
                found.append(error.with_traceback(None))
        return found

    def is_deadly(self, file_key: str) -> bool:
        """Test whether readers died at a file lately."""
        with self._lock:
            return file_key in self._deadly

    def peak_bytes(self) -> int:
        """Return the most memory that a reader which is alive has had, in bytes; 0 without one."""
        with self._lock:
            readers = [reader for reader in self._readers if reader.alive]
        return max((reader.peak_bytes() for reader in readers), default=0)

    def note_step(self, kind: str) -> None:
        """Count a step of a kind."""
        with self._lock:
            self.steps[kind] += 1

    def note_ended(self, reason: str) -> None:
        """Count a reader that ended, or was ended, and not by a file."""
        with self._lock:
            self.ends[reason] += 1

    def note_death(self, file_key: str, status: str, *, again: bool) -> None:
        """Count a reader that died at a file; remember the file if it was the second."""
        with self._lock:
            self.ends[status] += 1
            self.retries += not again
            if again:
                self._deadly[file_key] = None

    def _begun(self) -> ForkServer:
        if self._server is None:
            self._server = ForkServer()
        return self._server

    def _fork_opener(self) -> Opener:
        with self._lock:
            for last in (False, True):
                server = self._begun()
                try:
                    return Opener.forked(server)
                except ForkServerEndedError:
                    self._server = None
                    server.close()
                    if last:
                        raise
            raise AssertionError("unreachable")

    def _fork(self, *, again: bool = False, ahead: bool = False) -> Reader:
        server = self._begun()
        try:
            reader = Reader.forked(server, self._memory, ahead=ahead)
        except ForkServerEndedError:
            self._server = None
            server.close()
            if again:
                raise
            return self._fork(again=True, ahead=ahead)  # by another fork server
        except OSError as error:  # no descriptor, memory or process: the other readers go on
            if error.errno in _MISSING:
                self.available = False
                log.warning("no reader processes here: files are read in the server", error=error.strerror)
            raise
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            server, self._server = self._server, None
            readers, self._readers = self._readers, []
        self._openers.close(END_SECONDS)
        for reader in readers:
            reader.end(END_SECONDS)
        if server is not None:
            server.close()


def _no_file(location: str) -> tuple[int, None]:  # noqa: ARG001  # none is wanted
    raise PermissionError(errno.EPERM, "no file")


def _load(reader: Reader) -> int:
    return reader.load


READERS = ReaderPool()
"""The readers of this process, which end with it."""

atexit.register(READERS.close)

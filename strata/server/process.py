"""Configure the process: allocator, garbage collection, file descriptors."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import structlog
import trio

from strata.observability import stderr_queue

PURGE_DELAY_MS = "100"
"""Milliseconds after which free memory is returned to the system.

The allocator's default is a second, in which a scan goes through hundreds of megabytes: a stream of a
gigabyte, of which no more than 40 MiB were alive at any time, added up to 85 MiB to the process. Pages
returned at once are allocated again by the next slice, and the system has to clear them.
Measured with pyarrow 26 (mimalloc 3.4), added memory and throughput of a cold scan: 4 ms 31 to 35 MiB and
300 MB/s; 100 ms 37 to 44 MiB and 360 MB/s; a second 380 MB/s.
"""


def return_memory_soon() -> None:
    """Set the allocator's purge delay to :data:`PURGE_DELAY_MS`; call it before Arrow is imported.

    A value that the operator has set in the environment stays.
    """
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", PURGE_DELAY_MS)


YOUNG_OBJECTS = 5_000
"""Newly allocated objects that start a collection of the young generation, also on a busy loop.

Python's default of 700 started hundreds of collections a minute, some of them full ones of 20 to 50 ms.
"""

IDLE_OBJECTS = 1_000
"""Newly allocated objects that are worth a collection on an idle loop (0.15 ms)."""

MIDDLE_COLLECTIONS = 10
"""Collections of the young generation after which the middle one is collected, too: Python's default."""


def begin() -> None:
    """Exempt imported objects from garbage collection, which would stop the loop for 0.1 s to scan them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()


def end() -> None:
    """End the process with status 0, without the interpreter's shutdown if another thread is alive.

    Everything is closed by now, but a call that was abandoned goes on in its thread. Up to Python 3.13
    the interpreter's shutdown unwinds the stack of a thread that comes back from native code, for which C++
    aborts the process (python/cpython issue 87135).
    """
    stderr_queue.end()
    if threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as it is where the process started without
                stream.flush()
        os._exit(0)


CLOSING_SECONDS = 1.5
"""Seconds from the end of the grace period to the end of the process, whatever still waits."""

FLUSH_SECONDS = 0.5
"""Seconds that closing the stores and writing the last line may take then."""


Leave: TypeAlias = "Callable[[float, Callable[[], None]], None]"
"""Ends the process after some seconds; the function, which may block, closes the stores."""


@asynccontextmanager
async def leaving() -> AsyncIterator[Leave]:
    """Yield a function that ends the process after some seconds, unless the block has ended by then.

    A call that waits (a frozen database, a hung disk) cannot be ended, nor a task that must know its outcome.
    What was not committed is undone by the next start, as after a crash.
    """
    timers: list[threading.Timer] = []

    def within(seconds: float, close: Callable[[], None]) -> None:
        timers.append(threading.Timer(seconds, _leave, (close,)))
        timers[-1].daemon = True
        timers[-1].start()

    try:
        yield within
    finally:
        for timer in timers:
            timer.cancel()


def _leave(close: Callable[[], None]) -> None:
    def last() -> None:
        log.warning("leaving while threads wait", threads=threading.active_count() - 1)
        close()
        sys.stdout.flush()
        sys.stderr.flush()

    # In a thread of its own, which may hang as well: in a log pipe without a reader, or in the stores.
    ending = threading.Thread(target=last, daemon=True)
    ending.start()
    ending.join(FLUSH_SECONDS)
    os._exit(0)


@contextmanager
def collected_when_idle(busy: Callable[[], bool]) -> Iterator[None]:
    """Collect young garbage when the loop is about to sleep and no thread works; call it in a Trio task.

    Args:
        busy: Returns whether a thread works for a request.
    """
    collector = _Collector(busy)
    trio.lowlevel.add_instrument(collector)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(collector)


class _Collector(trio.abc.Instrument):
    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy

    def before_io_wait(self, timeout: float) -> None:
        """See Trio."""
        if timeout <= 0:
            return
        young, middle, _old = gc.get_count()
        if young >= IDLE_OBJECTS and gc.isenabled() and not self._busy():
            gc.collect(0 if middle <= MIDDLE_COLLECTIONS else 1)


RESERVED = 512
"""File descriptors kept for files, databases and catalogs; client connections get the others."""

DESCRIPTORS_A_CONNECTION = 3
"""Descriptors of a connection on which a result is sent: the socket, the result's file, and the socket's
duplicate while a thread sends."""

log = structlog.get_logger(__name__)


def connections_within(wanted: int) -> int:
    """Raise the soft limit on file descriptors to the hard one, and return how many connections fit.

    Args:
        wanted: ``max_connections``.

    Raises:
        OSError: If the system refuses the new limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fitting = max(1, (hard - RESERVED) // DESCRIPTORS_A_CONNECTION)
    if hard == resource.RLIM_INFINITY or wanted <= fitting:
        return wanted
    log.warning(
        "fewer connections than max_connections", fitting=fitting, max_connections=wanted, nofile=hard
    )
    return fitting

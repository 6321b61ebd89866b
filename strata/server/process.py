"""What is set once for the whole process: the allocator, garbage collection, file descriptors."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import trio

PURGE_DELAY_MS = "100"
"""After how many milliseconds free memory goes back to the system.

The allocator's own default is a second, in which a scan goes through hundreds of megabytes: a stream of a
gigabyte, of which no more than 40 MiB were alive at any time, added up to 85 MiB to the process. Given back
at once, on the other hand, the same pages are asked for again by the next slice, and the system clears each.
Measured with pyarrow 26 (mimalloc 3.4), added memory and throughput of a cold scan: 4 ms 31 to 35 MiB and
300 MB/s; 100 ms 37 to 44 MiB and 360 MB/s; a second 380 MB/s.
"""


def return_memory_soon() -> None:
    """Have free memory given back soon; must come before Arrow is imported, which reads it then.

    An operator who has set the allocator's own variable has decided otherwise.
    """
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", PURGE_DELAY_MS)


YOUNG_OBJECTS = 5_000
"""How many more objects there are before the youngest are looked through, whoever waits.

With Python's 700 that alone started hundreds of collections a minute, and now and then a full one of 20 to
50 ms.
"""

IDLE_OBJECTS = 1_000
"""How many where nobody waits: 0.15 ms. Fewer are not worth it."""

MIDDLE_COLLECTIONS = 10
"""After how many collections of the youngest the next one takes those along that they have left: Python's."""


def begin() -> None:
    """Have what was imported stay: looking through it for garbage stops the loop for a tenth of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()


@contextmanager
def collected_when_idle(busy: Callable[[], bool]) -> Iterator[None]:
    """Look for young garbage when the loop is about to sleep and no thread works; in a Trio task.

    Args:
        busy: Whether a thread works for somebody.
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
"""Descriptors for everything that is no client's connection: files, databases, catalogs."""

log = structlog.get_logger(__name__)


def connections_within(wanted: int) -> int:
    """Raise the soft limit of descriptors to the hard one, and return how many connections fit into it.

    Args:
        wanted: ``max_connections``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY or wanted <= hard - RESERVED:
        return wanted
    fitting = max(1, hard - RESERVED)
    log.warning(
        "fewer connections than max_connections", fitting=fitting, max_connections=wanted, nofile=hard
    )
    return fitting

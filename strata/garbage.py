"""When garbage is looked for: while nobody waits, as far as that can be had.

What requests and builds leave behind is in no cycles, so there is little to find. But how many objects there
are goes up and down, and Python looks through the youngest whenever there are so many more of them: 0.8 ms
for 5,000, in the middle of somebody's request, and of everybody's, as it holds the interpreter's lock.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

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

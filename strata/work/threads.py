"""Threads for the pool's quanta, which give way to the loop.

With Trio's own threads a quantum and the loop are equals to the operating system: with as many quanta as
cores, whoever is served by the loop waits for a time slice again and again, milliseconds each time. Threads
may be made less urgent than their process (Linux: setpriority(2), "C library/kernel differences"); that takes
no privilege but cannot be undone: so these are threads of their own, for quanta alone.
"""

from __future__ import annotations

import contextvars
import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import outcome
import trio

T = TypeVar("T")

NICENESS = 10
"""How much less urgent than the loop a quantum is: a tenth of its share where both want the same core.

Measured on two cores (Linux 6.18, 50 tenants of which 5 scan): the loop waits 7 s for a core in 45 s with 5,
4.5 s with 10; with another busy process on the machine 13 s and 7, and a quiet tenant's p99 is 46 and 15 ms.
Without any the loop starves: 1.9 s. With 15 and more it stands still for 100 ms now and then, as if a quantum
that holds the interpreter's lock had to wait for a core behind ordinary processes.
"""

IDLE_SECONDS = 10.0
"""After which a thread ends that nobody has work for."""

FREED_BYTES = 16 * 1024 * 1024
"""What a removed file must have at least for its last close to be work: 3 ms."""

Deliver = Callable[[outcome.Outcome[Any]], None]


class Threads:
    """As many threads as there is work at the same time; idle ones are used again."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], object], Deliver]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def start(self, work: Callable[[], object], deliver: Deliver) -> None:
        """Have ``work`` done, and its outcome handed to ``deliver`` in the same thread.

        Raises:
            RuntimeError: If the system has no thread for it; then it is not done.
        """
        with self._lock:
            taken = self._idle > 0
            self._idle -= taken
        if not taken:
            threading.Thread(target=self._run, name="strata-quantum", daemon=True).start()
        self._work.put((work, deliver))

    def _run(self) -> None:
        _give_way()
        while True:
            try:
                work, deliver = self._work.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # otherwise somebody counts on this one already
                        self._idle -= 1
                        return
                continue
            result = outcome.capture(work)
            with self._lock:
                self._idle += 1  # before the news is out: what follows from it finds this thread
            deliver(result)
            del work, deliver, result


def _give_way() -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may not know the call; then all are equals, as elsewhere
            urgency = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), urgency + NICENESS)


_THREADS = Threads()


async def run_in_thread(work: Callable[[], T], *, abandon: bool, finished: Callable[[], None]) -> T:
    """Run ``work`` in a thread and return what it returns.

    Args:
        work: A blocking callable, which sees the caller's context variables; its exceptions are the caller's.
        abandon: Return at once when cancelled, though the work goes on.
        finished: Called on the loop when the thread is done with it, whoever still waits.
    """
    waiting: list[trio.lowlevel.Task] = [trio.lowlevel.current_task()]
    token = trio.lowlevel.current_trio_token()

    def report(result: outcome.Outcome[T]) -> None:
        finished()
        if waiting:
            trio.lowlevel.reschedule(waiting.pop(), result)

    def deliver(result: outcome.Outcome[T]) -> None:
        with suppress(trio.RunFinishedError):  # whoever asked is long gone
            token.run_sync_soon(report, result)

    def abort(_raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        if not abandon:
            return trio.lowlevel.Abort.FAILED
        waiting.clear()
        return trio.lowlevel.Abort.SUCCEEDED

    try:
        _THREADS.start(partial(contextvars.copy_context().run, work), deliver)
    except RuntimeError:
        finished()
        raise
    return cast("T", await trio.lowlevel.wait_task_rescheduled(abort))


def close_file(descriptor: int) -> None:
    """Close a file; on the loop, and never for long.

    With the last descriptor of a file that was removed the system frees its blocks: 70 ms for 400 MB (ext4),
    in which the loop would serve nobody. A large one is left to a thread.
    """
    found = os.fstat(descriptor)
    if not found.st_nlink and found.st_size >= FREED_BYTES:
        with suppress(RuntimeError):  # the system has no thread
            _THREADS.start(partial(os.close, descriptor), _nobody_waits)
            return
    os.close(descriptor)


def _nobody_waits(_result: outcome.Outcome[Any]) -> None:
    """A close that failed has closed all the same (close(2), "Dealing with error returns")."""

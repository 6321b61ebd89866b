"""Run quanta in threads of lower scheduling priority than the event loop.

The operating system schedules Trio's own threads like the loop: with as many quanta as cores, requests served
by the loop wait for a time slice again and again, milliseconds each time. A thread may lower its priority
(Linux: setpriority(2), "C library/kernel differences") without a privilege, but not raise it again: so these
threads run quanta only.
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
"""Nice levels of a quantum below the loop: a tenth of the loop's share where both compete for a core.

Measured on two cores (Linux 6.18, 50 tenants of which 5 scan): the loop waits 7 s for a core in 45 s with 5,
4.5 s with 10; with another busy process on the machine 13 s and 7, and a quiet tenant's p99 is 46 and 15 ms.
With 0 the loop starves: 1.9 s. With 15 and more the loop stands still for 100 ms now and then, as if a
quantum that holds the interpreter's lock had to wait for a core behind ordinary processes.
"""

IDLE_SECONDS = 10.0
"""Seconds without work after which a thread ends."""

FREED_BYTES = 16 * 1024 * 1024
"""Bytes of a removed file from which its last close is left to a thread: 3 ms."""

Deliver = Callable[[outcome.Outcome[Any]], None]


class Threads:
    """Start a thread for each piece of work, or reuse an idle one."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], object], Deliver]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def start(self, work: Callable[[], object], deliver: Deliver) -> None:
        """Run ``work`` in a thread, then call ``deliver`` with its outcome in the same thread.

        Raises:
            RuntimeError: If the system has no thread; ``work`` is not run then.
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
                    if self._idle:  # else start() has just claimed this thread
                        self._idle -= 1
                        return
                continue
            result = outcome.capture(work)
            with self._lock:
                self._idle += 1  # before delivery: work that follows from it finds this thread
            deliver(result)
            del work, deliver, result


def _give_way() -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may lack the call; priorities stay equal then
            urgency = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), urgency + NICENESS)


_THREADS = Threads()


async def run_in_thread(work: Callable[[], T], *, abandon: bool, finished: Callable[[], None]) -> T:
    """Run ``work`` in a thread and return what it returns.

    Args:
        work: Blocking callable, run with the caller's context variables; its exceptions are raised here.
        abandon: Return at once when cancelled, while the work goes on.
        finished: Called on the loop when the work is done, also after an abandoned call.

    Raises:
        RuntimeError: If the system has no thread; ``finished`` has been called then.
    """
    waiting: list[trio.lowlevel.Task] = [trio.lowlevel.current_task()]
    token = trio.lowlevel.current_trio_token()

    def report(result: outcome.Outcome[T]) -> None:
        finished()
        if waiting:
            trio.lowlevel.reschedule(waiting.pop(), result)

    def deliver(result: outcome.Outcome[T]) -> None:
        with suppress(trio.RunFinishedError):  # the run that started the work is over
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
    """Close a file without blocking the loop.

    Closing the last descriptor of a removed file frees its blocks, which takes 70 ms for 400 MB (ext4): files
    of :data:`FREED_BYTES` and more are closed in a thread, if the system has one.

    Raises:
        OSError: If ``descriptor`` is not open.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:  # whatever cannot be told of the file, its descriptor must not stay open
        os.close(descriptor)
        return
    if not found.st_nlink and found.st_size >= FREED_BYTES:
        with suppress(RuntimeError):  # the system has no thread
            _THREADS.start(partial(os.close, descriptor), _ignore)
            return
    os.close(descriptor)


def _ignore(_result: outcome.Outcome[Any]) -> None:
    """A close that failed has closed all the same (close(2), "Dealing with error returns")."""

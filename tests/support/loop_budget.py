"""Fail a test in which a task of the server holds the event loop for longer than its budget.

A pytest plugin, and what server processes of tests run with (:func:`program`). Measured is the processor's time
of the loop's thread, since on a busy machine a step of any length takes long; without garbage collection, which
in a process of tests has to look at all of pytest. Steps of a test's own tasks are not the server's.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from strata.tenants.stats.runtime import BUDGET_SECONDS

SERVER = "strata."
"""Beginning of the names of the server's tasks: the module of the function that they run."""

TRACED = 5
"""Factor of the budget under a tracer such as that of coverage, or a profiler such as a test's own."""

SHARED = 2
"""Factor of the budget beside other tests: two threads of a core share it, and each counts its whole time."""

HELD = "held the event loop"

_SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ

_collecting = threading.local()


def _collected(phase: str, _info: dict[str, int]) -> None:
    """Add up the time that the present thread collects garbage."""
    if phase == "start":
        _collecting.began = time.thread_time()
    else:
        _collecting.total = _total_collected() + time.thread_time() - getattr(_collecting, "began", 0.0)


def _total_collected() -> float:
    return getattr(_collecting, "total", 0.0)


def _worked() -> float:
    """Return the seconds the present thread has worked, without garbage collection."""
    return time.thread_time() - _total_collected()


class LoopBudget(trio.abc.Instrument):
    """Measures the steps of one event loop.

    Args:
        held: Called with a line for each step that takes longer than the budget.
        clock: Returns the seconds that the loop's thread has worked.
    """

    def __init__(self, held: Callable[[str], object], clock: Callable[[], float] = _worked) -> None:
        self._held = held
        self._clock = clock
        self._began = 0.0

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        """See Trio."""
        self._began = self._clock()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See Trio."""
        seconds = self._clock() - self._began
        plain = sys.gettrace() is None and sys.getprofile() is None
        budget = BUDGET_SECONDS * (1 if plain else TRACED) * (SHARED if _SIDE_BY_SIDE else 1)
        if seconds > budget and task.name.startswith(SERVER):
            self._held(f"{task.name} {HELD} for {seconds * 1000:.0f} ms")


def install(held: Callable[[str], object]) -> None:
    """Have every event loop of this process measured from now on."""
    real = trio.run

    def run(*args: Any, instruments: Any = (), **more: Any) -> Any:
        return real(*args, instruments=[*instruments, LoopBudget(held)], **more)

    trio.run = run
    gc.callbacks.append(_collected)


def program(module: str = "loop_budget") -> list[str]:
    """Return the beginning of a command that runs ``strata`` measured; lines of long steps are in its log.

    Args:
        module: The module of this folder whose ``main`` does that.
    """
    here = str(Path(__file__).parent)
    return [
        sys.executable,
        "-c",
        f"import sys; sys.path.append({here!r}); import {module}; {module}.main()",
    ]


def main() -> None:
    """Run ``strata`` measured, as ``python -m strata`` does."""
    install(lambda line: sys.stderr.write(f"{line}\n"))
    runpy.run_module("strata", run_name="__main__", alter_sys=True)


_found: list[str] = []


def note_log(text: str) -> None:
    """Note the long steps in the log of a server process."""
    _found.extend(line for line in text.splitlines() if HELD in line and line.startswith(SERVER))


@pytest.fixture(autouse=True)
def _no_task_holds_the_loop() -> Iterator[None]:
    _found.clear()
    yield
    found, _found[:] = list(_found), []
    if found:
        lines = "\n".join(f"  {line}" for line in found[:10])
        pytest.fail(f"steps longer than {BUDGET_SECONDS * 1000:.0f} ms:\n{lines}", pytrace=False)


def pytest_configure(config: pytest.Config) -> None:
    """Measure the event loops of tests."""
    install(_found.append)

"""Run ``strata``, and note in a file each step of a task that holds the event loop for over a millisecond.

``python steps.py FILE serve …`` runs ``strata serve …``. A line of the file has the moment at which the step
ended (``time.perf_counter()``), the milliseconds of the processor that the loop's thread took for it, and the
task's name: what another program of the machine takes in between is not the server's.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import trio

NOTED_MS = 1.0


class Steps(trio.abc.Instrument):
    """Notes long steps of one event loop."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = 0.0

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        """See Trio."""
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See Trio."""
        milliseconds = (time.thread_time() - self._began) * 1000
        if milliseconds >= NOTED_MS:
            self._file.write(f"{time.perf_counter()} {milliseconds} {task.name}\n")


def main() -> None:
    """Run the program with its event loops measured."""
    file = Path(sys.argv.pop(1)).open("a", buffering=1)  # noqa: SIM115  # as long as the process
    real = trio.run

    def run(*given: Any, instruments: Any = (), **more: Any) -> Any:
        return real(*given, instruments=[*instruments, Steps(file)], **more)

    trio.run = run
    runpy.run_module("strata", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

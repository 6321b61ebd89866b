"""A cell whose process waited for it, and rehearsed, is as one whose process was forked for it."""

from __future__ import annotations

import os

import trio
from cell_kit import cells
from processes import family, waiting

from strata.cells.runner import Interrupt

LOOK = """
import os, signal, sys
print(os.getpid())

def is_open(number):
    try: os.fstat(number)
    except OSError: return False
    return True

found = {
    "names": sorted(globals()),
    "main": vars(sys.modules["__main__"]) is globals(),
    "interrupt": signal.getsignal(signal.SIGINT).__qualname__,
    "open": [one for one in range(256) if is_open(one)],
}
found
"""


async def test_nothing_of_the_rehearsal_is_left() -> None:
    """Names, console, module, open files and displays are those of a new process; so is the bundle."""
    before = family(os.getpid())
    async with cells() as found:
        first = await found.run(LOOK, "found")
        assert first.outcome.ok, first.outcome
        there = await waiting(before)
        second = await found.run(LOOK, "found")
        assert int(first.stdout) not in there
        assert int(second.stdout) in there
        assert first.value("found") == second.value("found")
        assert first.shown() == second.shown()
        missing = await found.run("print(x)")
        assert "NameError: name 'x' is not defined" == missing.outcome.message


async def test_a_process_that_rehearsed_is_interrupted() -> None:
    """Its first cell ignores interrupts at its end, its own one does not."""
    before = family(os.getpid())
    async with cells() as found:
        await found.run("pass")
        await waiting(before)
        interrupt, printing = Interrupt(), trio.Event()
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                await printing.wait()
                interrupt.asked.set()

            nursery.start_soon(stop)
            source = (
                "import time\ntry: print('now'); time.sleep(60)\nexcept KeyboardInterrupt: print('caught')"
            )
            ended = await found.run(source, interrupt=interrupt, printing=printing)
        assert (True, "now\ncaught\n") == (ended.outcome.ok, ended.stdout)

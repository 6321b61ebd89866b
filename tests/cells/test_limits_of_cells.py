"""Each limit is passed just below and reached at it, with a sentence that names it; others go on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cell_kit import Cells, Ran, cells

from strata.cells import runner
from strata.cells.displays import MAX_DISPLAYS, MAX_TEXT_CHARACTERS
from strata.cells.program import MAX_FILES as PROGRAM_FILES
from strata.cells.program import MAX_TRACEBACK_CHARACTERS
from strata.cells.runner import Interrupt
from strata.tenants.sessions.cell_run import MAX_FILES

MEBIBYTE = 1 << 20


async def test_memory() -> None:
    """A cell may allocate what is within its limit and no more; the sentence says how much that is."""
    async with cells() as found:
        source = "import mmap\nkept = [mmap.mmap(-1, {} << 20, flags=mmap.MAP_PRIVATE)]\ndel kept"
        assert (await found.run(source.format(126), memory_bytes=128 * MEBIBYTE)).outcome.ok
        over = await found.run("b = bytes(129 << 20)", memory_bytes=128 * MEBIBYTE)
        assert "memory_limit" == over.ended.value
        assert f"{128 * MEBIBYTE} bytes of memory, its limit (memory_bytes)" in over.outcome.message


async def test_output_is_bounded_to_the_byte() -> None:
    """A bundle of exactly the limit is kept; of one byte less room it is not, and nothing of it is left."""
    async with cells() as found:
        source = "b = bytes(5000)\nb[:3]"
        size = os.fstat((await found.run(source, "b")).file).st_size
        assert (await found.run(source, "b", output_bytes=size)).outcome.ok
        over = await found.run(source, "b", output_bytes=size - 1)
        assert "output_limit" == over.ended.value
        assert f"more than {size - 1} bytes, its limit (output_bytes)" in over.outcome.message
        assert 0 == os.fstat(over.file).st_size


async def test_console_is_bounded_to_the_byte() -> None:
    """What is within the limit comes whole; a byte more ends the cell, and what it printed stays."""
    async with cells() as found:
        fits = await found.run("print('a' * 999)", console_bytes=1000)
        assert (fits.outcome.ok, fits.stdout) == (True, "a" * 999 + "\n")
        over = await found.run("print('a' * 1000)", console_bytes=1000)
        assert ("console_limit", "a" * 1000) == (over.ended.value, over.stdout)
        flood = await found.run("while True: print('x' * 10_000)", console_bytes=MEBIBYTE)
        assert ("console_limit", MEBIBYTE) == (flood.ended.value, len(flood.stdout))


@pytest.mark.slow
async def test_time_of_the_processor() -> None:
    """All threads of a cell together have their seconds; waiting costs none."""
    async with cells() as found:
        busy = await found.run("while True: pass", cpu_seconds=1)
        assert "cpu_limit" == busy.ended.value, busy.outcome
        assert "1 s of the processor, its limit (cpu_seconds)" in busy.outcome.message
        below = "import time\nwhile time.process_time() < 0.5: pass"
        assert (await found.run(below, cpu_seconds=1)).outcome.ok
        assert (await found.run("import time; time.sleep(1.2)", cpu_seconds=1)).outcome.ok


async def test_time_on_the_clock() -> None:
    """A cell that waits for longer than its limit is ended at it, whatever it catches."""
    async with cells() as found:
        source = "import time\nwhile True:\n    try: time.sleep(60)\n    except BaseException: pass"
        over = await found.run(source, wall_seconds=0.3)
        assert "timeout" == over.ended.value
        assert "0.3 s, its time limit (wall_seconds)" in over.outcome.message
        assert over.outcome.seconds >= 0.3


async def interrupted(found: Cells, source: str) -> tuple[str, str]:
    """Run a cell, interrupt it once it has printed a line, and return how it ended, and its sentence."""
    interrupt, printing, outcome = Interrupt(), trio.Event(), ("", "")

    async def run() -> None:
        nonlocal outcome
        ran = await found.run(source, interrupt=interrupt, printing=printing)
        outcome = ran.ended.value, ran.outcome.message

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await printing.wait()
        interrupt.asked.set()
    return outcome


async def test_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt is a KeyboardInterrupt; a cell that ignores or catches it is killed two seconds later."""
    async with cells() as found:
        await found.run("1")  # the libraries are loaded
        seconds = runner.INTERRUPT_SECONDS
        monkeypatch.setattr(runner, "INTERRUPT_SECONDS", 60.0)  # a busy machine may take more than two
        assert ("interrupted", "The cell was interrupted.") == await interrupted(
            found, "print(1)\nwhile True: pass"
        )
        assert ("interrupted", "The cell was interrupted.") == await interrupted(
            found, "import time; print(1); time.sleep(60)"
        )
        monkeypatch.setattr(runner, "INTERRUPT_SECONDS", seconds)
        for deaf in (
            "go = 1\nwhile True:\n    try:\n        if go:\n            go = 0\n            print(1)\n        while True: pass\n    except KeyboardInterrupt: pass",
            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint(1)\nwhile True: pass",
        ):
            ended, message = await interrupted(found, deaf)
            assert ("interrupted", True) == (ended, "it was killed" in message)


async def test_a_killed_cell_leaves_nothing_and_others_go_on() -> None:
    """While one cell is ended, another runs; afterwards there is no process of them, and no slot is held."""
    async with cells() as found:
        await found.run("1")
        results, processes, killed = [], set[str](), trio.Event()

        async def run(source: str, **more: Any) -> None:
            ran = await found.run(f"import os; print(os.getpid())\n{source}", **more)
            processes.add(ran.stdout.split()[0])
            results.append(ran.ended.value)
            killed.set()

        async def answer(_question: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
            await killed.wait()
            return {"error": "No such table"}, None

        threads = "import threading, time\nfor _ in range(9): threading.Thread(target=time.sleep, args=(99,)).start()\n"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run(threads + "time.sleep(99)", wall_seconds=0.3))
            waits = "try: strata.fetch('t')\nexcept Exception: print('on')"
            nursery.start_soon(lambda: run(waits, answerer=answer))
        assert ["timeout", "ok"] == results
        assert 0 == found.runner.launcher.running
        server = found.runner.launcher._server
        assert server is not None
        left = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        assert 2 == len(processes)
        with trio.fail_after(2):
            while processes.intersection(left.read_text().split()):  # noqa: ASYNC110
                await trio.sleep(0.01)  # until the kernel says so


async def test_what_is_printed_comes_while_the_cell_runs() -> None:
    """A line is told when it is printed, from either stream; parts of lines come at the end."""
    async with cells() as found:
        ran = await found.run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c', end='')")
        assert ("a\nc", "b\n") == (ran.stdout, ran.stderr)


async def test_errors_name_the_line_of_the_cell() -> None:
    """Errors and errors in the syntax have their line; the traceback shows the cell's source."""
    async with cells() as found:
        ran = await found.run("def f():\n    return 1 / 0\n\nf()")
        assert ("raised", "ZeroDivisionError: division by zero", 2) == (
            ran.ended.value,
            ran.outcome.message,
            ran.outcome.line,
        )
        assert "    return 1 / 0" in (ran.outcome.traceback or "")
        assert 2 == (await found.run("1\nx = (")).outcome.line
        assert "SystemExit: 3" == (await found.run("import sys; sys.exit(3)")).outcome.message
        assert "process_ended" == (await found.run("import os; os._exit(0)")).ended.value


async def test_time_on_the_clock_is_exact(mock_clock: trio.testing.MockClock) -> None:
    """Until the last moment of its time a cell runs; then it is ended."""
    async with cells() as found:
        printing, ended = trio.Event(), trio.Event()
        ran: list[Ran] = []

        async def run() -> None:
            source = "print('on')\nwhile True: pass"
            ran.append(await found.run(source, wall_seconds=100, printing=printing))
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await printing.wait()
            mock_clock.jump(99.5)
            await trio.testing.wait_all_tasks_blocked()
            assert not ended.is_set()
            mock_clock.jump(0.5)
        assert ("timeout", 100.0) == (ran[0].ended.value, ran[0].outcome.seconds)


async def test_a_cell_has_two_seconds_to_take_an_interrupt(mock_clock: trio.testing.MockClock) -> None:
    """Until the last moment of them a cell that ignores it runs; then it is killed."""
    async with cells() as found:
        printing, ended, interrupt = trio.Event(), trio.Event(), Interrupt()
        ran: list[Ran] = []

        async def run() -> None:
            source = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint(1)\nwhile True: pass"
            ran.append(await found.run(source, interrupt=interrupt, printing=printing))
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await printing.wait()
            interrupt.asked.set()
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(runner.INTERRUPT_SECONDS - 0.1)
            await trio.testing.wait_all_tasks_blocked()
            assert not ended.is_set()
            mock_clock.jump(0.1)
        assert ("interrupted", 2.0) == (ran[0].ended.value, ran[0].outcome.seconds)


async def test_tables_that_a_cell_reads_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads as many as its limit; one more is an error in the cell, which can go on without."""
    monkeypatch.setattr(runner, "MAX_ASKS", 3)
    asked = []

    async def answer(question: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
        asked.append(question["table"])
        return {"error": "No such table"}, None

    source = (
        "said = []\nfor n in range({}):\n    try: strata.fetch(f't{{n}}')\n"
        "    except Exception as error: said.append(str(error))\nprint(said)"
    )
    async with cells() as found:
        fits = await found.run(source.format(3), answerer=answer)
        assert (f"{['No such table'] * 3}\n", ["t0", "t1", "t2"]) == (fits.stdout, asked)
        over = await found.run(source.format(4), answerer=answer)
        assert over.outcome.ok
        assert "A cell reads at most 3 tables." in over.stdout
        assert 6 == len(asked)


async def test_errors_are_cut() -> None:
    """A sentence keeps its beginning; a traceback of the limit is whole, a longer one keeps its ends."""
    async with cells() as found:
        for length in (2000, 2001):
            ran = await found.run(f"raise ValueError('a' * {length})")
            assert f"ValueError: {'a' * length}"[:2000] == ran.outcome.message
        source = "raise ValueError('a' * {:6})"
        rest = len((await found.run(source.format(1))).outcome.traceback or "") - 1
        whole = (await found.run(source.format(MAX_TRACEBACK_CHARACTERS - rest))).outcome.traceback
        assert (MAX_TRACEBACK_CHARACTERS, False) == (len(whole or ""), "[cut out]" in str(whole))
        cut = (await found.run(source.format(MAX_TRACEBACK_CHARACTERS - rest + 1))).outcome.traceback or ""
        half = MAX_TRACEBACK_CHARACTERS // 2
        assert (half, half) == tuple(map(len, cut.split("\n[cut out]\n")))
        assert cut.startswith("Traceback")
        assert cut.endswith("aa\n")


async def test_a_cell_takes_values_of_as_many_cells_as_the_server_sends() -> None:
    """Each is an open file of its process, which has room for more of them than the server's limit."""
    async with cells() as found:
        await found.run("x0 = 1", "x0")
        for one in range(1, MAX_FILES):
            found.kept[f"x{one}"] = attrs.evolve(found.kept["x0"], file=os.dup(found.kept["x0"].file))
            facts = found.kept["x0"].bundle.manifest["variables"]
            facts[f"x{one}"] = facts["x0"]
        names = " ".join(f"x{one}" for one in range(MAX_FILES))
        ran = await found.run(f"print({' + '.join(names.split())})", reads=names)
        assert (f"{MAX_FILES}\n", True) == (ran.stdout, ran.outcome.ok), ran.outcome
        assert MAX_FILES < PROGRAM_FILES <= 253  # what one message of a socket carries on Linux


async def test_displays_are_counted_and_texts_cut() -> None:
    """A cell shows as many as the limit, and of others only their number is kept; a text is cut at its limit."""
    async with cells() as found:
        for count, left_out in ((MAX_DISPLAYS, 0), (MAX_DISPLAYS + 1, 1)):
            ran = await found.run(f"for n in range({count}): display(n)")
            assert ran.bundle is not None
            assert (MAX_DISPLAYS, left_out) == (len(ran.shown()), ran.bundle.manifest["displays_left_out"])
        most = MAX_TEXT_CHARACTERS
        ran = await found.run(f"display(Markdown('a' * {most}), Markdown('a' * {most + 1}))")
        assert ["a" * most, "a" * most + f"\n[cut off: {most + 1} characters]"] == ran.shown()

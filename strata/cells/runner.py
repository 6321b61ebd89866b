"""Run cells, each in a process of its own that is killed at its end, with every limit as an outcome."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from strata.sandbox.frames import Frame, Kind
from strata.sandbox.launcher import Launcher, Sandboxed, SandboxError

PROGRAM: Final = "strata.cells.program"
"""Module that the processes of cells run."""

PLAIN: Final = f"{PROGRAM}:load_plain"
"""The same, without libraries: those of an environment are loaded behind the walls."""

NO_ENVIRONMENT: Final = (
    "The notebook names an environment, and this worker makes none: cells with one run on an executor that "
    "was started with --environments."
)

INTERRUPT_SECONDS: Final = 2.0
"""Seconds that a cell has to end after an interrupt; then it is killed."""

STDERR: Final = 2
"""Number of the stream of errors in the frames of a cell."""

START_SECONDS: Final = 60.0
"""Seconds to start a cell's process, the first one with its libraries; at the bound the run fails."""

CPU_MEASURE: Final = 0.5
"""Part of the limit from which on a killed process counts as one that used its time: the kernel compares the
limit with a count of ticks, and shows another count."""

MAX_ASKS: Final = 1_000
"""Maximum tables that a cell reads."""

log = structlog.get_logger(__name__)


class Ended(enum.Enum):
    """How a run ended."""

    OK = "ok"
    RAISED = "raised"
    VALUE_NOT_KEPT = "value_not_kept"
    INTERRUPTED = "interrupted"
    TIMED_OUT = "timeout"
    MEMORY = "memory_limit"
    CPU = "cpu_limit"
    OUTPUT = "output_limit"
    CONSOLE = "console_limit"
    PROCESS_ENDED = "process_ended"
    NOT_STARTED = "not_started"
    WORKER_LOST = "worker_lost"


@attrs.frozen(kw_only=True)
class CellLimits:
    """What one run of a cell may use.

    Attributes:
        memory_bytes: Bytes that it may allocate.
        cpu_seconds: Whole seconds of the processor, of all of its threads together.
        wall_seconds: Seconds from its start to its end.
        output_bytes: Bytes of its bundle: values and displays.
        console_bytes: Bytes that it may print.
    """

    memory_bytes: int = 1024 * 1024 * 1024
    cpu_seconds: int = 600
    wall_seconds: float = 300.0
    output_bytes: int = 1024 * 1024 * 1024
    console_bytes: int = 1024 * 1024


@attrs.frozen
class CellInput:
    """A value that a cell reads.

    Attributes:
        name: Its name in the cell.
        content_type: Its form.
        file: Place of its file among those of the job.
        offset: Offset of its first byte there.
        nbytes: Its bytes.
    """

    name: str
    content_type: str
    file: int
    offset: int
    nbytes: int


@attrs.frozen(kw_only=True)
class CellJob:
    """A run of a cell.

    Attributes:
        source: Its source.
        name: What tracebacks call it.
        defines: Names that it may leave bound, which are kept.
        inputs: The values that it reads.
        files: Open files with the inputs.
        bound: Further names with plain values.
        language: ``python`` or ``sql``.
        tables: Tables that a query of an SQL cell sees: ``variable``, ``uri`` and ``snapshot``.
        result: Name of a query's result.
        limits: What it may use.
        lock: Requirements of the environment in which it runs; empty: in none.
        environment: Folder with the packages of that environment, where it is made.
    """

    source: str
    name: str
    defines: Sequence[str] = ()
    inputs: Sequence[CellInput] = ()
    files: Sequence[int] = ()
    bound: Mapping[str, Any] = attrs.field(factory=dict)
    limits: CellLimits = attrs.field(factory=CellLimits)
    language: str = "python"
    tables: Sequence[Mapping[str, Any]] = ()
    result: str = "result"
    lock: str = ""
    environment: str = ""


@attrs.frozen(kw_only=True)
class CellOutcome:
    """How a run ended.

    Attributes:
        ended: How.
        message: A sentence for the cell's author; empty if it ended well.
        traceback: The traceback, if it raised.
        line: The line of the cell where it failed, from 1, if that is known.
        seconds: Seconds from the start to the end.
    """

    ended: Ended
    message: str = ""
    traceback: str | None = None
    line: int | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the cell ended without an error."""
        return self.ended is Ended.OK


Console = Callable[[str, bytes], Awaitable[None]]
"""Takes what a cell prints: ``stdout`` or ``stderr``, and bytes of UTF-8."""

Answerer = Callable[[Mapping[str, Any]], Awaitable[tuple[Mapping[str, Any], int | None]]]
"""Answers what a cell asks for: the answer, and a file that belongs to it, which is closed afterwards."""


@attrs.define(eq=False)
class Interrupt:
    """Interrupts a run.

    Attributes:
        asked: Set by the caller that interrupts it.
    """

    asked: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class CellRunner:
    """Runs cells in sandboxed processes, forked from one that has their libraries loaded.

    Attributes:
        require_walls: Whether a cell runs only where no wall of the sandbox is missing.
        launcher: Starts the processes.
        plain: Starts those of cells in an environment.
    """

    require_walls: bool = True
    launcher: Launcher = attrs.field(factory=lambda: Launcher(PROGRAM))
    plain: Launcher = attrs.field(factory=lambda: Launcher(PLAIN))

    async def run(
        self,
        job: CellJob,
        output: int,
        console: Console,
        *,
        answerer: Answerer | None = None,
        interrupt: Interrupt | None = None,
        without: Sequence[str] = (),
    ) -> CellOutcome:
        """Run a cell.

        Args:
            job: The cell, with its inputs.
            output: An empty file, open for writing, for the bundle; what is in it is not checked.
            console: Takes what the cell prints, while it runs.
            answerer: Answers what it asks for; without one, each question is refused.
            interrupt: Interrupts it.
            without: Walls that are left out, so that a test can show what each is for.

        Returns:
            The outcome. When it is returned, no process of the cell is left.
        """
        if job.lock and not job.environment:
            return CellOutcome(ended=Ended.NOT_STARTED, message=NO_ENVIRONMENT)
        launcher = self.plain if job.environment else self.launcher
        run = _Run(self, job, console, answerer or _refuse, interrupt or Interrupt())
        try:
            async with launcher.process() as process:
                found = await run.watch(process, output, without)
        except (SandboxError, OSError) as error:
            log.warning("no process for a cell", error=str(error))
            found = CellOutcome(
                ended=Ended.NOT_STARTED, message=f"The cell's process could not be started: {error}."
            )
        return attrs.evolve(found, seconds=run.seconds)

    async def close(self) -> None:
        """End the processes that fork, and all others."""
        await self.launcher.close()
        await self.plain.close()


async def _refuse(_question: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
    return {"error": "Tables cannot be read here."}, None


class _Run:
    """One run: what it has printed and asked, and since when it runs."""

    def __init__(
        self, runner: CellRunner, job: CellJob, console: Console, answerer: Answerer, interrupt: Interrupt
    ) -> None:
        self.runner, self.job, self.console, self.answerer = runner, job, console, answerer
        self.interrupt = interrupt
        self.printed = 0
        self.asked = 0
        self.began = trio.current_time()
        self.seconds = 0.0
        self.unresponsive = False

    async def watch(self, process: Sandboxed, output: int, without: Sequence[str]) -> CellOutcome:
        """Give the process its job, and return how it ended."""
        limits = self.job.limits
        begun = False
        found: CellOutcome | None = None
        with trio.move_on_after(START_SECONDS) as patience:
            try:
                await process.give(self._message(without), [output, *self.job.files])
                walls = (await process.receive()).payload
                begun = True
            except SandboxError:
                pass
        if patience.cancelled_caught or not begun:
            return CellOutcome(ended=Ended.NOT_STARTED, message="The cell's process did not start.")
        if self.runner.require_walls and walls != b"[]" and not without:
            return CellOutcome(
                ended=Ended.NOT_STARTED,
                message="Cells do not run here: walls of the sandbox are missing on this machine.",
            )
        self.began = trio.current_time()
        with trio.move_on_after(limits.wall_seconds) as time:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._interrupted, process, nursery.cancel_scope)
                try:
                    found = await self._receive(process)
                except SandboxError:
                    found = await self._died(process)
                nursery.cancel_scope.cancel()
        self.seconds = trio.current_time() - self.began
        if found is not None:
            return found
        if self.unresponsive:
            return CellOutcome(
                ended=Ended.INTERRUPTED,
                message=f"The cell went on for {INTERRUPT_SECONDS:g} s after the interrupt; it was killed.",
            )
        assert time.cancelled_caught
        return CellOutcome(
            ended=Ended.TIMED_OUT,
            message=f"The cell ran for {limits.wall_seconds:g} s, its time limit (wall_seconds). Do less, or "
            "ask for more time by `# @timeout`.",
        )

    def _message(self, without: Sequence[str]) -> dict[str, object]:
        job = self.job
        return {
            "source": job.source,
            "name": job.name,
            "defines": list(job.defines),
            "inputs": [attrs.asdict(one) for one in job.inputs],
            "bound": dict(job.bound),
            "language": job.language,
            "tables": [dict(one) for one in job.tables],
            "result": job.result,
            "environment": job.environment,
            "memory_bytes": job.limits.memory_bytes,
            "output_bytes": job.limits.output_bytes,
            "cpu_seconds": job.limits.cpu_seconds,
            "without": list(without),
        }

    async def _interrupted(self, process: Sandboxed, scope: trio.CancelScope) -> None:
        await self.interrupt.asked.wait()
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
        await trio.sleep(INTERRUPT_SECONDS)
        self.unresponsive = True
        scope.cancel()

    async def _receive(self, process: Sandboxed) -> CellOutcome:
        while True:
            frame = await process.receive()
            match frame.kind:
                case Kind.DATA:
                    printed = await self._print(frame)
                    if printed is not None:
                        return printed
                case Kind.ASK:
                    await self._answer(process, frame)
                case Kind.DONE:
                    return self._outcome(frame)
                case _:
                    raise SandboxError("the process sent what no cell sends")

    async def _print(self, frame: Frame) -> CellOutcome | None:
        most = self.job.limits.console_bytes
        part = frame.payload[: most - self.printed]
        if part:
            await self.console("stderr" if frame.rows == STDERR else "stdout", part)
        self.printed += len(frame.payload)
        if self.printed <= most:
            return None
        return CellOutcome(
            ended=Ended.CONSOLE,
            message=f"The cell printed more than {most} bytes, its limit (console_bytes). Print less.",
        )

    async def _answer(self, process: Sandboxed, frame: Frame) -> None:
        self.asked += 1
        if self.asked > MAX_ASKS:
            await process.give({"error": f"A cell reads at most {MAX_ASKS} tables."}, [])
            return
        try:
            question = frame.facts()
        except ValueError:
            raise SandboxError("the process asked what is no question") from None
        answer, descriptor = await self.answerer(question)
        try:
            await process.give(answer, [] if descriptor is None else [descriptor])
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _outcome(self, frame: Frame) -> CellOutcome:
        try:
            facts = frame.facts()
            if facts["success"] is True:
                return CellOutcome(ended=Ended.OK)
            ended = Ended(facts["code"])
            line = facts["line"] if isinstance(facts["line"], int) else None
            message, text = str(facts["error"]), facts["traceback"]
        except (ValueError, KeyError):
            raise SandboxError("the process sent what is no outcome") from None
        limits = self.job.limits
        if ended is Ended.MEMORY:
            message = (
                f"The cell needs more than {limits.memory_bytes} bytes of memory, its limit (memory_bytes). "
                "Read fewer rows or columns at once."
            )
        elif ended is Ended.OUTPUT:
            message = (
                f"The values and displays of the cell have more than {limits.output_bytes} bytes, its limit "
                "(output_bytes). Keep less: `del` what no other cell reads."
            )
        return CellOutcome(
            ended=ended, message=message, traceback=None if text is None else str(text), line=line
        )

    async def _died(self, process: Sandboxed) -> CellOutcome:
        """Return the outcome of a cell whose process ended without one, or sent what is none."""
        limits = self.job.limits
        with trio.move_on_after(INTERRUPT_SECONDS):
            await trio.lowlevel.wait_readable(process.ended)
        if self.interrupt.asked.is_set():
            return CellOutcome(ended=Ended.INTERRUPTED, message="The cell was interrupted.")
        if was_killed(process.pid) and cpu_seconds_of(process.pid) >= limits.cpu_seconds * CPU_MEASURE:
            return CellOutcome(
                ended=Ended.CPU,
                message=f"The cell used {limits.cpu_seconds} s of the processor, its limit (cpu_seconds). "
                "Do less in it.",
            )
        return CellOutcome(
            ended=Ended.PROCESS_ENDED,
            message="The cell ended its own process. It may have called os._exit(), crashed in native code, "
            f"or needed more than {limits.memory_bytes} bytes of memory at once (memory_bytes).",
        )


def cpu_seconds_of(pid: int) -> float:
    """Return the seconds of the processor that a process has used, also of one that has ended."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def was_killed(pid: int) -> bool:
    """Return whether a process that has ended was killed by the kernel, as it is at its limit of time."""
    fields = _stat(pid)
    return bool(fields) and int(fields[49]) == signal.SIGKILL


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []

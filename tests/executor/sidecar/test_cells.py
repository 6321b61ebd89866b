"""Cells of notebooks on a real sidecar process: live console, questions, limits, interrupts, and how it is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
import trio
from executor_kit import answer, scripted

from strata.cells.bundle import read_bundle
from strata.cells.remote import MAX_MESSAGE_CHARACTERS, MAX_TRACEBACK_CHARACTERS, RemoteCells
from strata.cells.runner import CellInput, CellJob, CellLimits, CellOutcome, Ended, Interrupt
from strata.executor.protocol.cell_frames import CELL_STREAM, CellKind, frame_of
from strata.executor.protocol.client import Executor, ExecutorError

TOKEN = "sidecar-secret-of-this-test"  # of a test

PRINT_PROCESS = "import os; print(os.getpid())"
"""A cell's first line, for :attr:`Run.process`."""

WAITS = "print('on')\nimport threading\nthreading.Event().wait()"
"""A cell that runs until it is interrupted, and takes no processor time."""


@attrs.define(eq=False)
class Sidecar:
    """A sidecar process."""

    process: trio.Process
    url: str

    def remote(self) -> RemoteCells:
        return RemoteCells("side", Executor(self.url, TOKEN))

    def children(self) -> set[int]:
        """Return the processes below the sidecar."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(path.parent.name)] = int(fields[1])
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found - {self.process.pid}


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    command = [sys.executable, "-m", "strata", "executor", "--port", "0", "--cells", "2"]
    command += ["--directory", str(tmp_path)]
    environment = {**os.environ, "STRATA_WORKER_TOKEN": TOKEN}
    process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE, env=environment)
    assert process.stderr is not None
    try:
        text = b""
        with trio.fail_after(60):
            while b"listens on " not in text or not text.endswith(b"\n"):
                part = await process.stderr.receive_some()
                assert part, text
                text += part
        yield Sidecar(process, text.decode().rpartition("listens on ")[2].strip())
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@attrs.define(eq=False)
class Run:
    """A run of a cell."""

    console: str = ""
    outcome: CellOutcome | None = None
    manifest: Mapping[str, Any] = attrs.field(factory=dict)
    questions: list[Mapping[str, Any]] = attrs.field(factory=list)
    interrupt: Interrupt = attrs.field(factory=Interrupt)
    printed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def process(self) -> int:
        """The id of the cell's process."""
        return int(self.console.removeprefix("stdout:"))

    async def of(self, remote: RemoteCells, source: str, *inputs: bytes, **more: Any) -> CellOutcome:
        """Run a cell with JSON values ``x0``, ``x1`` …"""
        with tempfile.TemporaryFile() as values, tempfile.TemporaryFile() as output:
            values.write(b"-- other values --" + b"".join(inputs))
            values.flush()
            places, at = [], 18
            for number, data in enumerate(inputs):
                places.append(CellInput(f"x{number}", "json/object", 0, at, len(data)))
                at += len(data)
            job = CellJob(source=source, name="cell a", inputs=places, files=[values.fileno()], **more)
            with trio.fail_after(60):
                self.outcome = await remote.run(
                    job,
                    output.fileno(),
                    self._print,
                    answerer=self._answer,
                    interrupt=self.interrupt,
                )
            if self.outcome.ok:
                self.manifest = read_bundle(output.fileno()).manifest
        return self.outcome

    async def _print(self, stream: str, data: bytes) -> None:
        self.console += f"{stream}:{data.decode()}"
        self.printed.set()

    async def _answer(self, question: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
        self.questions.append(question)
        if question["table"] != "demo:a.t":
            return {"error": "Table not found"}, None
        table = pa.table({"n": [1, 2, 3]})
        with tempfile.TemporaryFile() as file:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            return {}, os.dup(file.fileno())


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not true():  # noqa: ASYNC110  # the kernel's processes tell no event
            await trio.sleep(0.02)


async def test_a_cell_takes_values_prints_and_leaves_values(sidecar: Sidecar) -> None:
    """The values go there, what it prints comes back with its stream, and the bundle holds what it defines."""
    run = Run()
    source = "import sys\nprint('hello')\nprint('oh', file=sys.stderr)\ny = x0 + x1"
    outcome = await run.of(sidecar.remote(), source, b"41", b"1", defines=["y"])
    assert (Ended.OK, "") == (outcome.ended, outcome.message)
    assert "stdout:hello" in run.console
    assert "stderr:oh" in run.console
    assert "42" == run.manifest["variables"]["y"]["preview"]
    health = await sidecar.remote().executor.health()
    assert "notebook_cell@v1" in health.refs
    assert "pyarrow" in health.features["runtime_id"]


async def test_a_cell_asks_the_server_and_has_its_answer(sidecar: Sidecar) -> None:
    """``strata.fetch`` is asked over the stream; rows and refusals arrive in the cell, and no address is there."""
    run = Run()
    source = """
rows = strata.fetch("demo:a.t", columns=["n"])["n"].to_pylist()
try:
    strata.fetch("demo:other.t")
except Exception as error:
    text = str(error)
import os
environment = dict(os.environ)
"""
    outcome = await run.of(sidecar.remote(), source, defines=["rows", "text", "environment"])
    assert Ended.OK is outcome.ended, outcome.message
    assert ["demo:a.t", "demo:other.t"] == [one["table"] for one in run.questions]
    previews = {name: one["preview"] for name, one in run.manifest["variables"].items()}
    assert "[1, 2, 3]" == previews["rows"]
    assert "Table not found" in previews["text"]
    assert TOKEN not in previews["environment"]


async def test_errors_and_limits_are_outcomes(sidecar: Sidecar) -> None:
    """A raised error has its line; each limit is an outcome that names it; the next cell runs."""
    remote = sidecar.remote()
    raised = await Run().of(remote, "x = 1\n1 / 0")
    assert (Ended.RAISED, 2) == (raised.ended, raised.line)
    small = CellLimits(memory_bytes=256 << 20, wall_seconds=1, console_bytes=100, output_bytes=1 << 20)
    for source, ended in (
        ("while True: pass", Ended.TIMED_OUT),
        ("print('a' * 1000)", Ended.CONSOLE),
        ("b = bytes(2 << 20)", Ended.OUTPUT),
        ("import os; os._exit(3)", Ended.PROCESS_ENDED),
    ):
        outcome = await Run().of(remote, source, limits=small, defines=["b"])
        assert ended is outcome.ended, outcome.message
        assert outcome.message
    assert (await Run().of(remote, "x = 1")).ok


async def test_an_interrupt_ends_a_cell_that_ignores_it(sidecar: Sidecar) -> None:
    """SIGINT reaches the cell; one that goes on is killed, and no process of it is left."""
    for source in (
        f"{PRINT_PROCESS}\nwhile True: pass",
        f"{PRINT_PROCESS}\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ):
        run = Run()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.of, sidecar.remote(), source)
            await run.printed.wait()
            run.interrupt.asked.set()
        assert run.outcome is not None
        assert Ended.INTERRUPTED is run.outcome.ended
        assert run.process not in sidecar.children()


async def test_a_server_that_leaves_leaves_no_cell(sidecar: Sidecar) -> None:
    """When the server's connection is gone, as after its death, the cell's process ends and its place is free."""
    remote = sidecar.remote()
    assert (await Run().of(remote, "1")).ok
    for _ in range(3):
        run = Run()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.of, remote, f"{PRINT_PROCESS}\nwhile True: pass")
            await run.printed.wait()
            process = run.process
            assert process in sidecar.children()
            nursery.cancel_scope.cancel()
        await until(lambda gone=process: gone not in sidecar.children())
    assert (await Run().of(remote, "1")).ok


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_sidecar_that_dies_is_an_outcome(sidecar: Sidecar, number: int) -> None:
    """A sidecar that is killed or stopped while a cell runs: a sentence, and none of its processes is left."""
    run = Run()
    children: set[int] = set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.of, sidecar.remote(), WAITS)
        await run.printed.wait()
        children = sidecar.children()
        sidecar.process.send_signal(number)
    assert run.outcome is not None
    assert Ended.WORKER_LOST is run.outcome.ended
    assert "The worker side was lost while the cell ran" in run.outcome.message
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    later = await Run().of(sidecar.remote(), "1")
    assert Ended.NOT_STARTED is later.ended
    assert "cannot be reached" in later.message


async def test_places_and_tokens_are_checked(sidecar: Sidecar) -> None:
    """A cell beyond the places is refused with a sentence, and so is one with a wrong token."""
    wrong = RemoteCells("side", Executor(sidecar.url, "wrong"))
    refused = await Run().of(wrong, "1")
    assert Ended.NOT_STARTED is refused.ended
    assert "does not accept this server's token" in refused.message
    async with trio.open_nursery() as nursery:
        for run in (Run(), Run()):
            nursery.start_soon(run.of, sidecar.remote(), WAITS)
            await run.printed.wait()
        full = await Run().of(sidecar.remote(), "1")
        assert Ended.NOT_STARTED is full.ended
        assert "busy" in full.message
        nursery.cancel_scope.cancel()


ENDED = b'{"ended": "ok", "output_bytes": %d, "message": ""}'
LIES = {
    "length": frame_of(CellKind.OUTPUT, b"abc") + frame_of(CellKind.ENDED, ENDED % 4),
    "cut": frame_of(CellKind.OUTPUT, b"abc"),
    "half": frame_of(CellKind.STDOUT, b"abc")[:-1],
    "kind": bytes([77, 0, 0, 0, 0]),
    "size": bytes([1, 255, 255, 255, 255]),
    "after": frame_of(CellKind.ENDED, ENDED % 0) * 2,
    "outcome": frame_of(CellKind.ENDED, b'{"ended": "fine"}'),
    "json": frame_of(CellKind.ENDED, b"["),
    "console": frame_of(CellKind.STDOUT, b"a" * 2000),
    "question": frame_of(CellKind.ASK, b'{"number": 7, "question": {}}'),
    "nothing": b"",
}


@pytest.mark.parametrize("more", [0, 1])
async def test_what_an_executor_says_of_a_cell_is_cut(more: int) -> None:
    """Sentence and traceback are whole up to their limits; the server does not rely on the executor's own."""
    said = {
        "ended": "raised",
        "output_bytes": 0,
        "message": "m" * (MAX_MESSAGE_CHARACTERS + more),
        "traceback": "t" * (MAX_TRACEBACK_CHARACTERS + more),
    }
    frame = frame_of(CellKind.ENDED, json.dumps(said).encode())
    async with scripted(answer(frame, kind=CELL_STREAM)) as server:
        outcome = await Run().of(RemoteCells("side", Executor(server.url, None)), "1")
    assert Ended.RAISED is outcome.ended
    assert ("m" * MAX_MESSAGE_CHARACTERS, "t" * MAX_TRACEBACK_CHARACTERS) == (
        outcome.message, outcome.traceback
    )  # fmt: skip


@pytest.mark.parametrize("lie", sorted(LIES))
async def test_an_answer_that_lies_is_an_outcome(lie: str) -> None:
    """A length that is not true, a stream that is cut, unknown frames: the cell's outcome, and no result."""
    async with scripted(answer(LIES[lie], kind=CELL_STREAM)) as server:
        remote = RemoteCells("side", Executor(server.url, None))
        outcome = await Run().of(remote, "1", limits=CellLimits(console_bytes=1000))
    assert Ended.WORKER_LOST is outcome.ended
    assert "Run the cell again" in outcome.message


async def test_health_of_an_executor_without_cells_tells_none(tmp_path: Path) -> None:
    """An executor that does not answer is an error with a code, as for transforms."""
    with pytest.raises(ExecutorError) as caught:
        await Executor("http://127.0.0.1:1", None).health()
    assert "executor_unreachable" == caught.value.code

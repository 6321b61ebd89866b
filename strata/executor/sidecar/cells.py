"""Run cells of notebooks for servers, each in a sandboxed process, and send what it prints and asks."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from strata.cells.runner import (
    NO_ENVIRONMENT,
    CellInput,
    CellJob,
    CellLimits,
    CellOutcome,
    CellRunner,
    Ended,
    Interrupt,
)
from strata.cells.runtime import own_runtime
from strata.config.sections.notebook_environments import Lock, LockError, parse_lock
from strata.executor.protocol.cell_frames import (
    ANSWER_BYTES,
    ANSWER_HEAD,
    CHUNK_BYTES,
    FRAME_BYTES,
    PING_SECONDS,
    RUNTIME_CHANGED,
    CellKind,
    CellStreamError,
    facts_of,
    frame_of,
)
from strata.executor.protocol.messages import BuildDescription
from strata.executor.sidecar.builds import BuildDirectory, BuildError, BuildLimits
from strata.executor.sidecar.environments import Environments, EnvironmentUnusableError

ANSWER_SECONDS: Final = 600.0
"""Seconds for a server to answer a question of a cell; then the cell is ended."""

LANGUAGES: Final = ("python", "sql")

Write = Callable[[bytes], Awaitable[None]]
"""Sends bytes of the answer."""


Send = Callable[..., Awaitable[None]]
"""Sends a frame: its kind, and its payload."""


@attrs.define(eq=False)
class _Question:
    """A question that waits for its answer."""

    number: int
    answered: trio.Event = attrs.field(factory=trio.Event)
    answer: Mapping[str, Any] = attrs.field(factory=dict)
    descriptor: int | None = None

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


@attrs.define(eq=False)
class _RunningCell:
    """A cell that runs: how to interrupt it, and what it waits for."""

    directory: Path
    tenant: str | None
    interrupt: Interrupt = attrs.field(factory=Interrupt)
    question: _Question | None = None
    asked: int = 0


@attrs.define(eq=False)
class CellService:
    """The cells of an executor.

    Attributes:
        limits: The bounds of what a server may ask for.
        most: Maximum cells at a time.
        runner: Starts their processes.
        places: Cells that are received or run.
        environments: Makes environments; None: it makes none.
    """

    limits: BuildLimits
    most: int
    runner: CellRunner = attrs.field(factory=CellRunner)
    places: int = 0
    environments: Environments | None = None
    _running: dict[str, _RunningCell] = attrs.field(factory=dict, init=False)

    async def run(
        self, what: BuildDescription, directory: BuildDirectory, inputs: Sequence[Path], write: Write
    ) -> None:
        """Run a cell, and write its frames.

        Raises:
            BuildError: If the description is none of a cell; nothing is written then.
        """
        if not what.build_id:
            raise BuildError("InvalidRequest", "build_id is missing.")
        if what.params.get("runtime_id") not in (None, own_runtime()):
            raise BuildError(RUNTIME_CHANGED, "The executor has another runtime.", 409)
        descriptors: list[int] = []
        cell = _RunningCell(directory.path, what.tenant)
        output = await trio.to_thread.run_sync(_unnamed, directory.path)
        self._running[what.build_id] = cell
        try:
            descriptors += [os.open(path, os.O_RDONLY) for path in inputs]
            job, lock = self._job(what, descriptors), self._lock(what)
            sending = trio.Lock()

            async def send(kind: CellKind, payload: bytes = b"") -> None:
                async with sending:  # frames of two tasks are not mixed
                    await write(frame_of(kind, payload))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(_live, send)
                outcome = await self._outcome(job, lock, output, cell, send)
                await _finish(send, output, outcome)
                nursery.cancel_scope.cancel()
        finally:
            del self._running[what.build_id]
            if cell.question is not None:
                cell.question.close()
            for descriptor in (output, *descriptors):
                os.close(descriptor)

    async def _outcome(
        self, job: CellJob, lock: Lock | None, output: int, cell: _RunningCell, send: Send
    ) -> CellOutcome:
        """Run a cell, in its environment if it has one."""
        run = partial(
            self.runner.run,
            output=output,
            console=partial(_print, send),
            answerer=partial(_ask, cell, send),
            interrupt=cell.interrupt,
        )
        if lock is None or self.environments is None:
            return await run(job)
        async with trio.open_nursery() as nursery:
            made = trio.Event()
            nursery.start_soon(_cancel_on_interrupt, cell.interrupt, made, nursery.cancel_scope)
            try:
                async with self.environments.using(lock, cell.tenant) as packages:
                    made.set()  # from here on the interrupt is the process's
                    found = await run(attrs.evolve(job, lock=lock.requirements, environment=str(packages)))
            except EnvironmentUnusableError as error:
                found = CellOutcome(ended=Ended.NOT_STARTED, message=str(error))
            nursery.cancel_scope.cancel()
            return found
        return CellOutcome(
            ended=Ended.INTERRUPTED, message="The cell was interrupted before its environment was made."
        )

    def _lock(self, what: BuildDescription) -> Lock | None:
        """Return the lock of a cell's environment.

        Raises:
            BuildError: If it is none, or this executor makes no environments.
        """
        asked = what.params.get("environment")
        if asked is None:
            return None
        if self.environments is None:
            raise BuildError("NoEnvironments", NO_ENVIRONMENT)
        if not isinstance(asked, dict) or not isinstance(asked.get("requirements"), str):
            raise BuildError("InvalidParams", "environment has no requirements.")
        try:
            return parse_lock(asked["requirements"])
        except LockError as error:
            raise BuildError("InvalidParams", str(error)) from None

    def interrupt(self, build_id: str) -> bool:
        """Interrupt a cell; returns whether it runs here."""
        found = self._running.get(build_id)
        if found is not None:
            found.interrupt.asked.set()
        return found is not None

    async def take_answer(self, build_id: str, number: int, body: AsyncIterator[bytes]) -> bool:
        """Take the answer to a question; returns whether a cell waits for it.

        Raises:
            BuildError: If the body is none, or too large.
            OSError: If it cannot be written.
        """
        cell = self._running.get(build_id)
        question = cell.question if cell is not None else None
        if cell is None or question is None or question.number != number or question.answered.is_set():
            return False
        descriptor: int | None = await trio.to_thread.run_sync(_unnamed, cell.directory)
        try:
            assert descriptor is not None
            facts = await self._received(body, descriptor)
            if cell.question is not question or question.answered.is_set():
                return False
            if facts.get("file") is True:
                question.descriptor, descriptor = descriptor, None
            question.answer = facts["answer"]
            question.answered.set()
            return True
        finally:
            if descriptor is not None:
                os.close(descriptor)

    async def _received(self, body: AsyncIterator[bytes], descriptor: int) -> Mapping[str, Any]:
        """Receive an answer: its JSON text, and the file into a descriptor."""
        text, length, total = bytearray(), -1, 0
        async for part in body:
            total += len(part)
            if total > self.limits.input_bytes:
                most = self.limits.input_bytes
                raise BuildError("InputTooLarge", f"The answer has more than {most} bytes.", 413)
            rest: bytes | memoryview = part
            if length < 0 or len(text) < length:
                text += part
                rest = b""
                if length < 0 and len(text) >= ANSWER_HEAD.size:
                    (length,) = ANSWER_HEAD.unpack_from(text)
                    del text[: ANSWER_HEAD.size]
                if length > ANSWER_BYTES:
                    raise BuildError("InvalidRequest", "The answer is too long.")
                if 0 <= length < len(text):
                    rest = bytes(text[length:])
                    del text[length:]
            if rest:
                await trio.to_thread.run_sync(_write, descriptor, rest)
        try:
            facts = facts_of(bytes(text))
        except CellStreamError as error:
            raise BuildError("InvalidRequest", f"The answer is none: {error}.") from None
        if len(text) != length or not isinstance(facts.get("answer"), dict):
            raise BuildError("InvalidRequest", "The answer is none.")
        return facts

    def _job(self, what: BuildDescription, files: Sequence[int]) -> CellJob:
        params = what.params
        try:
            limits = self._limits(params)
            job = CellJob(
                source=_of(params, "source", str),
                name=_of(params, "name", str, "cell"),
                defines=_texts(params.get("defines", [])),
                inputs=[
                    CellInput(one.name, one.format, place, 0, os.fstat(files[place]).st_size)
                    for place, one in enumerate(what.inputs)
                ],
                files=files,
                bound=_of(params, "bound", dict, {}),
                limits=limits,
                language=_of(params, "language", str, "python"),
                tables=[
                    {"variable": one["variable"], "uri": one["uri"], "snapshot": one["snapshot"]}
                    for one in _of(params, "tables", list, [])
                ],
                result=_of(params, "result", str, "result"),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise BuildError("InvalidParams", f"A parameter of the cell is wrong: {error}") from None
        if job.language not in LANGUAGES:
            raise BuildError("InvalidParams", "language is none of python, sql.")
        return job

    def _limits(self, params: Mapping[str, Any]) -> CellLimits:
        """Return the limits that a server asks for, and at most this executor's."""
        plain, asked = CellLimits(), _of(params, "limits", dict, {})

        def bound(name: str, most: float) -> float:
            value = asked.get(name, getattr(plain, name))
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**62:
                raise ValueError(f"limits.{name}")
            return min(value, most)

        mine = self.limits
        return CellLimits(
            memory_bytes=int(bound("memory_bytes", mine.memory_bytes)),
            cpu_seconds=max(1, int(bound("cpu_seconds", mine.seconds * mine.threads))),
            wall_seconds=bound("wall_seconds", mine.seconds),
            output_bytes=int(bound("output_bytes", mine.spill_bytes)),
            console_bytes=int(bound("console_bytes", plain.console_bytes * 16)),
        )

    async def close(self) -> None:
        """End all processes."""
        await self.runner.close()


async def _cancel_on_interrupt(interrupt: Interrupt, made: trio.Event, scope: trio.CancelScope) -> None:
    """End what waits for an environment on an interrupt, and nothing once it is made."""
    await interrupt.asked.wait()
    if not made.is_set():
        scope.cancel()


async def _live(send: Send) -> None:
    while True:
        await send(CellKind.PING)
        await trio.sleep(PING_SECONDS)


async def _print(send: Send, stream: str, data: bytes) -> None:
    kind = CellKind.STDERR if stream == "stderr" else CellKind.STDOUT
    for start in range(0, len(data), FRAME_BYTES):
        await send(kind, data[start : start + FRAME_BYTES])


async def _ask(
    cell: _RunningCell, send: Send, question: Mapping[str, Any]
) -> tuple[Mapping[str, Any], int | None]:
    """Ask the server, and wait for its answer."""
    cell.asked += 1
    text = json.dumps({"number": cell.asked, "question": dict(question)}).encode()
    if len(text) > FRAME_BYTES:
        cell.asked -= 1
        return {"error": f"A question has at most {FRAME_BYTES} bytes; read fewer columns or filters."}, None
    cell.question = asked = _Question(cell.asked)
    try:
        await send(CellKind.ASK, text)
        with trio.move_on_after(ANSWER_SECONDS):
            await asked.answered.wait()
        if not asked.answered.is_set():
            return {"error": f"The server did not answer within {ANSWER_SECONDS:g} s."}, None
        descriptor, asked.descriptor = asked.descriptor, None
        return asked.answer, descriptor
    finally:
        cell.question = None
        asked.close()


async def _finish(send: Send, output: int, outcome: CellOutcome) -> None:
    """Send the bundle, then the outcome."""
    at = 0
    while True:
        chunk = await trio.to_thread.run_sync(os.pread, output, CHUNK_BYTES, at)
        if not chunk:
            break
        await send(CellKind.OUTPUT, chunk)
        at += len(chunk)
    facts = attrs.asdict(outcome) | {"ended": outcome.ended.value, "output_bytes": at}
    await send(CellKind.ENDED, json.dumps(facts).encode())


def _unnamed(directory: Path) -> int:
    """Open a file that has no name, and goes with its descriptor; blocking."""
    with tempfile.TemporaryFile(dir=directory) as file:
        return os.dup(file.fileno())


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _of(params: Mapping[str, Any], name: str, kind: type, default: object = None) -> Any:
    found = params.get(name, default)
    if not isinstance(found, kind):
        raise TypeError(name)
    return found


def _texts(found: object) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError("defines")
    return found

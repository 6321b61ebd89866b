"""Run cells on an executor: send it the job, pass on what the cell prints and asks, and take its bundle."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import attrs
import structlog
import trio

from strata.cells.bundle import BLOCK, MAX_MANIFEST_BYTES, MAX_MEMBERS
from strata.cells.runner import (
    INTERRUPT_SECONDS,
    MAX_ASKS,
    START_SECONDS,
    Answerer,
    CellJob,
    CellOutcome,
    Console,
    Ended,
    Interrupt,
)
from strata.executor.protocol.cell_frames import (
    CELL_STREAM,
    RUNTIME_CHANGED,
    AnswerBody,
    CellKind,
    CellStreamError,
    facts_of,
    read_frames,
)
from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.protocol.messages import NOTEBOOK_CELL, BuildDescription, InputHead
from strata.executor.protocol.multipart import CHUNK_BYTES, Part
from strata.http.calling.exchange import Response

SILENCE_SECONDS: Final = 15.0
"""Seconds without a frame after which the executor counts as hung: it sends a sign of life each three."""

TRANSFER_SECONDS: Final = 600.0
"""Seconds to send the values that a cell takes, and to receive its bundle."""

GRACE_SECONDS: Final = 5.0
"""Seconds beyond a limit for the executor to tell the outcome itself; then the connection is cut."""

ENVIRONMENT_SECONDS: Final = 1_200.0
"""Seconds for the executor to make the environment of a cell, its turn included."""

BUNDLE_OVERHEAD: Final = MAX_MANIFEST_BYTES + MAX_MEMBERS * 2 * BLOCK
"""Bytes of a bundle besides its values and displays."""

MAX_MESSAGE_CHARACTERS: Final = 2_000
"""Maximum characters of the sentence of an outcome; the rest is cut."""

MAX_TRACEBACK_CHARACTERS: Final = 64 * 1024
"""Maximum characters of the traceback of an outcome; the rest is cut."""

MAX_PARTS: Final = 200
"""Maximum values that are sent to a cell: each is a part of the request."""

log = structlog.get_logger(__name__)


class RuntimeChangedError(Exception):
    """The executor has another runtime than the one for which the cell was sent; nothing has run."""


@attrs.frozen(eq=False)
class RemoteCells:
    """Runs cells on one executor.

    Attributes:
        worker: Its name, for messages.
        executor: The executor, as one tenant calls it.
        runtime: The runtime that it must have, which it checks; ``None``: any.
        tenant: The tenant, for the executor's turns among tenants; ``None``: it is not told.
    """

    worker: str
    executor: Executor
    runtime: str | None = None
    tenant: str | None = None

    async def run(
        self,
        job: CellJob,
        output: int,
        console: Console,
        *,
        answerer: Answerer,
        interrupt: Interrupt,
    ) -> CellOutcome:
        """Run a cell.

        Args:
            job: The cell, with its inputs.
            output: An empty file, open for writing, for the bundle; what is in it is not checked.
            console: Takes what the cell prints, while it runs.
            answerer: Answers what it asks for.
            interrupt: Interrupts it.

        Returns:
            The outcome. What was received of a bundle counts only if the cell ended by itself.

        Raises:
            RuntimeChangedError: If the executor has another runtime.
        """
        run = _RemoteRun(self, job, output, console, answerer, interrupt)
        try:
            found = await run.run()
        except ExecutorError as error:
            if error.code == RUNTIME_CHANGED and self.runtime is not None:
                raise RuntimeChangedError from None
            begun = run.begun or (error.begun and error.code in ("executor_broken", "executor_protocol"))
            ended = Ended.WORKER_LOST if begun else Ended.NOT_STARTED
            found = self.lost(str(error), ended)
        except CellStreamError as error:
            found = self.lost(f"its answer is none: {error}.")
        if found.ended in (Ended.WORKER_LOST, Ended.NOT_STARTED):
            log.warning("a worker did not run a cell", worker=self.worker, outcome=found.ended.value)
        return attrs.evolve(found, seconds=trio.current_time() - run.began)

    def lost(self, why: str, ended: Ended = Ended.WORKER_LOST) -> CellOutcome:
        """Return the outcome of a cell that its worker did not bring to an end."""
        what = "did not run the cell" if ended is Ended.NOT_STARTED else "was lost while the cell ran"
        return CellOutcome(ended=ended, message=f"The worker {self.worker} {what}: {why} Run the cell again.")


@attrs.define(eq=False)
class _RemoteRun:
    """One run: what came of it so far."""

    cells: RemoteCells
    job: CellJob
    output: int
    console: Console
    answerer: Answerer
    interrupt: Interrupt
    build_id: str = attrs.field(factory=lambda: f"cell-{secrets.token_hex(16)}")
    began: float = attrs.field(factory=trio.current_time)
    begun: bool = False
    received: int = 0
    printed: int = 0
    asked: int = 0
    unresponsive: bool = False
    found: CellOutcome | None = None

    async def run(self) -> CellOutcome:
        """Run the cell; a cell that does not end is cut off.

        Raises:
            ExecutorError: If the executor does not run it, or its connection breaks.
            CellStreamError: If its answer is none of a cell.
        """
        if len(self.job.inputs) > MAX_PARTS:
            text = f"The cell takes {len(self.job.inputs)} values; a worker takes at most {MAX_PARTS}."
            return CellOutcome(ended=Ended.NOT_STARTED, message=text)
        failure: ExecutorError | CellStreamError | OSError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._interrupted, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + TRANSFER_SECONDS
            try:
                await self._exchange(nursery.cancel_scope)
            except (ExecutorError, CellStreamError, OSError) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if self.found is not None and failure is None:  # what follows an outcome makes it none
            return self.found
        if self.interrupt.asked.is_set():
            return CellOutcome(ended=Ended.INTERRUPTED, message="The cell was interrupted.")
        if isinstance(failure, OSError):
            return self.cells.lost("its results cannot be written on the server's disk.")
        if failure is not None:
            raise failure
        return self.cells.lost("it did not tell the cell's outcome in time.")

    async def _exchange(self, scope: trio.CancelScope) -> None:
        limits = self.job.limits
        description = BuildDescription(
            self.build_id,
            NOTEBOOK_CELL,
            self._params(),
            [*self._heads()],
            origin="notebook",
            tenant=self.cells.tenant,
        )
        executing = self.cells.executor.execute(description, self._parts(), media_type=CELL_STREAM)
        async with executing as response:
            self.begun, self.began = True, trio.current_time()
            scope.deadline = self.began + START_SECONDS + limits.wall_seconds + GRACE_SECONDS
            if self.job.lock:
                scope.deadline += ENVIRONMENT_SECONDS
            async with aclosing(_heard(response)) as parts, aclosing(read_frames(parts)) as frames:
                async for kind, payload in frames:
                    if kind is CellKind.OUTPUT and not self.received:
                        scope.deadline = trio.current_time() + TRANSFER_SECONDS
                    await self._frame(kind, payload)

    def _params(self) -> Mapping[str, Any]:
        job, limits = self.job, self.job.limits
        runtime = {} if self.cells.runtime is None else {"runtime_id": self.cells.runtime}
        environment = {"environment": {"requirements": job.lock}} if job.lock else {}
        return (
            runtime
            | environment
            | {
                "source": job.source,
                "language": job.language,
                "timeout_seconds": limits.wall_seconds,
                "name": job.name,
                "defines": list(job.defines),
                "bound": dict(job.bound),
                "tables": [dict(one) for one in job.tables],
                "result": job.result,
                "limits": attrs.asdict(limits),
            }
        )

    def _heads(self) -> Sequence[InputHead]:
        return [
            InputHead(one.name, one.content_type, one.nbytes, f"input{place}")
            for place, one in enumerate(self.job.inputs)
        ]

    def _parts(self) -> Sequence[Part]:
        return [
            Part(
                f"input{place}",
                f"input{place}",
                "application/octet-stream",
                descriptor=self.job.files[one.file],
                size=one.nbytes,
                offset=one.offset,
            )
            for place, one in enumerate(self.job.inputs)
        ]

    async def _interrupted(self, scope: trio.CancelScope) -> None:
        await self.interrupt.asked.wait()
        if self.begun:
            await self.cells.executor.tell(self.build_id, "interrupt")
            await trio.sleep(INTERRUPT_SECONDS + GRACE_SECONDS)
            if self.received:
                return  # its bundle comes, in its own time
        scope.cancel()

    async def _frame(self, kind: CellKind, payload: bytes) -> None:
        match kind:
            case CellKind.STDOUT | CellKind.STDERR:
                await self._print("stdout" if kind is CellKind.STDOUT else "stderr", payload)
            case CellKind.ASK:
                await self._answer(facts_of(payload))
            case CellKind.OUTPUT:
                self.received += len(payload)
                if self.received > self.job.limits.output_bytes + BUNDLE_OVERHEAD:
                    raise CellStreamError("its bundle has more bytes than the cell may keep")
                await trio.to_thread.run_sync(_write, self.output, payload)
            case CellKind.ENDED:
                self.found = self._outcome(facts_of(payload))
            case CellKind.PING:
                pass

    async def _print(self, stream: str, payload: bytes) -> None:
        room = self.job.limits.console_bytes - self.printed
        self.printed += len(payload)
        if room < len(payload):
            raise CellStreamError("it printed more than the cell may")
        await self.console(stream, payload)

    async def _answer(self, facts: Mapping[str, Any]) -> None:
        number, question = facts.get("number"), facts.get("question")
        self.asked += 1
        if number != self.asked or number > MAX_ASKS or not isinstance(question, dict):
            raise CellStreamError("it asked what is no question")
        answer, descriptor = await self.answerer(question)
        try:
            body = AnswerBody.of(answer, descriptor)
            await self.cells.executor.tell(self.build_id, f"answers/{number}", body, body.size)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _outcome(self, facts: Mapping[str, Any]) -> CellOutcome:
        try:
            ended = Ended(facts["ended"])
        except (KeyError, ValueError):
            raise CellStreamError("it told no outcome") from None
        if facts.get("output_bytes") != self.received:
            raise CellStreamError("it sent another number of bytes than it told")
        line, text = facts.get("line"), facts.get("traceback")
        return CellOutcome(
            ended=ended,
            message=_plain(facts.get("message"), MAX_MESSAGE_CHARACTERS) or "",
            traceback=_plain(text, MAX_TRACEBACK_CHARACTERS),
            line=line if isinstance(line, int) and not isinstance(line, bool) else None,
        )


async def _heard(response: Response) -> AsyncGenerator[bytes]:
    """Yield an answer's parts.

    Raises:
        CellStreamError: If none comes for :data:`SILENCE_SECONDS`.
    """
    async with aclosing(aiter(response)) as parts:  # type: ignore[type-var]
        while True:
            part = None
            with trio.move_on_after(SILENCE_SECONDS) as waiting:
                part = await anext(parts, None)
            if waiting.cancelled_caught:
                raise CellStreamError(f"it has not been heard of for {SILENCE_SECONDS:g} s")
            if part is None:
                return
            yield part


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:CHUNK_BYTES]) :]


def _plain(text: object, most: int) -> str | None:
    return text[:most] if isinstance(text, str) else None

"""Runs cells in tests, and reads what they leave."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from strata.cells.bundle import Bundle, read_bundle
from strata.cells.runner import (
    Answerer,
    CellInput,
    CellJob,
    CellLimits,
    CellOutcome,
    CellRunner,
    Ended,
    Interrupt,
)


@attrs.define
class Ran:
    """A run of a cell: its outcome, its output, its bundle and the file of it."""

    outcome: CellOutcome
    stdout: str
    stderr: str
    bundle: Bundle | None
    file: int

    @property
    def ended(self) -> Ended:
        return self.outcome.ended

    def value(self, name: str) -> bytes:
        """Return the bytes of a value."""
        assert self.bundle is not None
        place = self.bundle.members[self.bundle.manifest["variables"][name]["file"]]
        return os.pread(self.file, place.nbytes, place.offset)

    def shown(self) -> list[str]:
        """Return the texts that were shown."""
        assert self.bundle is not None
        places = [self.bundle.members[one["file"]] for one in self.bundle.manifest["displays"]]
        return [os.pread(self.file, place.nbytes, place.offset).decode() for place in places]


@attrs.define
class Cells:
    """Runs cells one after the other, each with the values of those before that it names."""

    runner: CellRunner
    limits: CellLimits = attrs.field(factory=CellLimits)
    kept: dict[str, Ran] = attrs.field(factory=dict)

    async def run(
        self,
        source: str,
        defines: str = "",
        reads: str = "",
        *,
        without: Sequence[str] = (),
        interrupt: Interrupt | None = None,
        answerer: Answerer | None = None,
        bound: Mapping[str, Any] | None = None,
        printing: trio.Event | None = None,
        sql: bool = False,
        **limits: float,
    ) -> Ran:
        printed = {"stdout": b"", "stderr": b""}

        async def console(stream: str, data: bytes) -> None:
            printed[stream] += data
            if printing is not None:
                printing.set()

        inputs = []
        for place, name in enumerate(reads.split()):
            found = self.kept[name]
            assert found.bundle is not None
            facts = found.bundle.manifest["variables"][name]
            member = found.bundle.members[facts["file"]]
            inputs.append(CellInput(name, facts["content_type"], place, member.offset, member.nbytes))
        job = CellJob(
            source=source,
            name="c",
            defines=defines.split(),
            inputs=inputs,
            files=[self.kept[name].file for name in reads.split()],
            bound=bound or {},
            language="sql" if sql else "python",
            limits=attrs.evolve(self.limits, **limits),
        )
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        with trio.fail_after(120):
            outcome = await self.runner.run(
                job, descriptor, console, answerer=answerer, interrupt=interrupt, without=without
            )
        bundle = read_bundle(descriptor) if os.fstat(descriptor).st_size and outcome.ok else None
        ran = Ran(outcome, printed["stdout"].decode(), printed["stderr"].decode(), bundle, descriptor)
        if bundle is not None:
            self.kept |= dict.fromkeys(bundle.manifest["variables"], ran)
        return ran


@asynccontextmanager
async def cells() -> AsyncIterator[Cells]:
    """Run cells in processes that are ended with the block."""
    runner = CellRunner()
    found = Cells(runner)
    try:
        yield found
    finally:
        await runner.close()

"""A step of a file in a reader: what it may open, how long it may take, and what a death at it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import attrs
import structlog

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers.messages import (
    Answer,
    Expand,
    ExpandRun,
    Failed,
    ListNext,
    NoMemory,
    Read,
    ReadRun,
    RefusedThere,
    Request,
)
from strata.readers.pool import ReaderPool
from strata.readers.processes import Opener, Reader, ReaderDiedError, ReaderLateError
from strata.tables.errors import file_name, unreadable

ATTEMPTS = 2
"""Readers that may die at one step of a file before the file is refused."""

BUSY_SECONDS = 1.0
"""Seconds a step waits for the other row groups of its reader before it moves to another reader."""

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Step:
    """What steps of one file have in common.

    Attributes:
        what: The kind of file, such as ``data file``.
        location: Where the file is.
        file_key: The file's identity.
        open: Opens a file for the reader by its location: of those that belong to the step; raises OSError or
            a refusal.
        seconds: Seconds a step may take.
        late: The refusal of a step that takes longer.
        pool: The readers.
        died: Readers that died at the present step.
    """

    what: str
    location: str
    file_key: str
    open: Opener
    seconds: float
    late: Refused
    pool: ReaderPool
    died: int = 0

    def refusal(self, answer: Answer) -> Exception:
        """Return what to raise for an answer that is no result."""
        match answer:
            case RefusedThere(reason, detail, code, logged):
                if logged:
                    log.warning("file_unreadable", file=file_name(self.location), cause=logged)
                return RefusalError(Refused(Reason(reason), detail, code=code))
            case NoMemory():
                name = file_name(self.location)
                rows = "rows" if self.what == "data file" else "entries"
                detail = f"The {rows} of {name} need more memory than a file may take (memory_budget_bytes)"
                return RefusalError(Refused(Reason.TOO_LARGE, detail, code="memory_budget"))
            case Failed(error, where):
                return RuntimeError(f"a reader failed: {error} at {where}")
            case _:
                return RuntimeError("a reader gave an answer of another kind")

    def note_death(self, status: str) -> None:
        """Count a reader that died at the step, and of what; raises RefusalError if it was the second."""
        self.died += 1
        again = self.died >= ATTEMPTS
        self.pool.note_death(self.file_key, status, again=again)
        log.warning("reader_died", file=file_name(self.location), status=status, refused=again)
        if again:
            raise RefusalError(unreadable(self.what, self.location))


def kind_of(request: Request) -> str:
    """Return the kind of a step, as metrics name it."""
    return _KINDS.get(type(request.body), "other")


_KINDS: dict[type, str] = {
    Expand: "footer",
    ExpandRun: "footers",
    Read: "rows",
    ReadRun: "rows_of_files",
    ListNext: "manifest",
}


class Turn:
    """Context manager: a step's turn in a reader.

    Attributes:
        taken: Whether the reader is free for the step.
        memory: The memory that came with the answer.
    """

    def __init__(self, step: Step, reader: Reader) -> None:
        self._step, self._reader = step, reader
        self._slot: int | None = None
        self.memory: object = None
        self.taken = False

    def __enter__(self) -> Self:
        if self._step.pool.is_deadly(self._step.file_key):
            raise RefusalError(unreadable(self._step.what, self._step.location))
        self.taken = self._reader.lock.acquire(timeout=BUSY_SECONDS)
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._slot is not None:
            self._reader.slots.give_back(self._slot)
        if self.taken:
            self._reader.lock.release()

    def take_slot(self) -> int | None:
        """Take a slot of the reader for the answer, until the turn ends or :meth:`keep_slot`."""
        self._slot = self._reader.slots.take()
        return self._slot

    def keep_slot(self) -> int | None:
        """Return the slot that was taken, which is the caller's to give back from now on."""
        slot, self._slot = self._slot, None
        return slot

    def call(self, request: Request, descriptors: Sequence[int] = ()) -> Answer | None:
        """Return the answer; None if the reader had died before, or died now for the first time.

        Raises:
            RefusalError: DATA_UNREADABLE if it is the second, the step's ``late`` if the reader does not
                answer.
        """
        if not self._reader.alive:
            return None
        if self._reader.has_ended():  # by another hand than this step's: the file is not to blame
            self._reader.end()
            self._step.pool.note_ended("idle")
            return None
        self._step.pool.note_step(kind_of(request))
        try:
            answer, self.memory = self._reader.call(request, self._step.open, self._step.seconds, descriptors)
        except ReaderDiedError as error:
            self._step.note_death(error.status)
            return None
        except ReaderLateError:
            self._step.pool.note_ended("late")
            raise RefusalError(self._step.late) from None
        self._step.died = 0
        return answer

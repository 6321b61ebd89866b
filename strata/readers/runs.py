"""Expand several files, or read several small row groups, with one request to a reader.

A step costs a millisecond of its own, which small files and row groups are not worth. What cannot be done
together is left out: done alone, it is refused with its name, or takes the memory that it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from strata.readers.messages import (
    TOGETHER,
    Answer,
    ExpandRun,
    FileGiven,
    Part,
    PlanOf,
    ReadRun,
    Request,
    RunExpanded,
    RunRead,
)
from strata.readers.openers import said
from strata.readers.pool import READERS, ReaderPool
from strata.readers.processes import Reader
from strata.readers.row_groups import SharedSlice, buffers_of, late, number_of, row_groups_in, step_of, told
from strata.readers.steps import Turn
from strata.tables import FileTask, RowGroupTask, ScanPlan
from strata.tables.errors import refusable
from strata.tables.files.confined import LocalFileIO

BodyOf: TypeAlias = Callable[[PlanOf, int | None], ExpandRun | ReadRun]
"""Makes a request of the scan, as the reader knows it, and a slot."""


@refusable
def expand_run(
    plan: ScanPlan, files: Sequence[FileTask], seconds: float, pool: ReaderPool = READERS
) -> list[tuple[RowGroupTask, ...]]:
    """Return the row groups of the first files, perhaps not of all; blocking, at most ``seconds``.

    Returns a refusal (TIMED_OUT) if the reader does not answer.
    """

    def body(scan: PlanOf, _slot: int | None) -> ExpandRun:
        return ExpandRun(scan, tuple(files))

    with _answered(plan, files, body, seconds, pool) as (answer, _turn, _reader):
        if not isinstance(answer, RunExpanded):
            return []
        return [row_groups_in(plan, file, one) for file, one in zip(files, answer.files, strict=False)]


@refusable
def read_run(
    plan: ScanPlan,
    tasks: Sequence[RowGroupTask],
    *,
    batch_rows: int,
    checksums: bool,
    seconds: float,
    pool: ReaderPool = READERS,
) -> list[SharedSlice]:
    """Return the rows of the first row groups, perhaps not of all; blocking, at most ``seconds``.

    Args:
        plan: The scan's plan.
        tasks: The row groups; their files have no deletes.
        batch_rows: Most rows of a record batch.
        checksums: Whether the segments' checksums are wanted.
        seconds: Seconds it may take.
        pool: The readers.

    Returns a refusal (TIMED_OUT) if the reader does not answer.
    """

    def body(scan: PlanOf, slot: int | None) -> ReadRun:
        return ReadRun(scan, tuple(tasks), batch_rows, checksums, slot)

    files = [task.file for task in tasks]
    with _answered(plan, files, body, seconds, pool) as (answer, turn, reader):
        if not isinstance(answer, RunRead):
            return []
        parts: list[Part] = []
        for one in answer.groups:
            parts += [one.segment] if one.kept is None else [one.segment, one.kept]
        encoded = iter(buffers_of(turn, reader, parts))
        return [
            SharedSlice(next(encoded), None if one.kept is None else next(encoded), task.num_rows, one.crc32)
            for one, task in zip(answer.groups, tasks, strict=False)
        ]


@contextmanager
def _answered(
    plan: ScanPlan, files: Sequence[FileTask], body: BodyOf, seconds: float, pool: ReaderPool
) -> Iterator[tuple[Answer | None, Turn, Reader]]:
    """Ask a reader; the answer is None if it died, or at one of the files readers died lately.

    The files are opened before, with one question: a reader that asks for each takes a millisecond longer.
    """
    with (
        _opened(plan, files, seconds, pool) as (given, descriptors),
        _leased(pool) as reader,
        Turn(step_of(plan, files, seconds, pool), reader) as turn,
    ):
        answer = None
        # A death is not counted against a file: which one it was shows when each is read alone.
        if turn.taken and not any(pool.is_deadly(file.file_key) for file in files):
            scan = reader.plan_of(number_of(plan), plan)
            request = Request(body(scan, turn.take_slot()), given=given)
            answer = told(turn, reader, plan, request, descriptors)
        yield answer, turn, reader


@contextmanager
def _leased(pool: ReaderPool) -> Iterator[Reader]:
    reader = pool.lease()
    try:
        yield reader
    finally:
        pool.release(reader)


@contextmanager
def _opened(
    plan: ScanPlan, files: Sequence[FileTask], seconds: float, pool: ReaderPool
) -> Iterator[tuple[tuple[tuple[str, FileGiven], ...], list[int]]]:
    """Open files, as many as come with a request; yields what to say of each, and the descriptors."""
    io = plan.scan.table.io
    assert isinstance(io, LocalFileIO), "runs are of local files"
    locations = list(dict.fromkeys(file.path for file in files))[:TOGETHER]
    found = pool.open_all(io, locations, seconds, late(seconds))
    descriptors = [one for one in found if isinstance(one, int)]
    try:
        yield (
            tuple((location, said(one)) for location, one in zip(locations, found, strict=True)),
            descriptors,
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)

"""A scan's plan on its way to a reader: without its files, and without what only the server needs."""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers.messages import FileGiven
from strata.tables import LoadedTable, ScanPlan
from strata.tables.caches import Caches
from strata.tables.files.confined import LocalFileIO
from strata.tables.files.prefetched import Parts, Range
from strata.tables.plan.model import PlannedFiles, Totals

_UNREAD: dict[str, Any] = {
    "snapshots": [], "snapshot_log": [], "metadata_log": [], "statistics": [], "partition_statistics": [],
    "refs": {}, "current_snapshot_id": None,
}  # fmt: skip
"""Parts of a table's metadata that no reader needs: with 10,000 snapshots they are megabytes."""


@attrs.frozen
class _Table:
    """What a reader needs of a :class:`LoadedTable`."""

    ref: Any
    uuid: str
    metadata_location: str
    metadata: TableMetadata


def pickled(plan: ScanPlan) -> bytes:
    """Return a plan for readers."""
    table = plan.scan.table
    caller = table.ref.caller
    ref = table.ref if caller is None else attrs.evolve(table.ref, caller=caller.nameless)
    sent = _Table(ref, table.uuid, table.metadata_location, table.metadata.model_copy(update=_UNREAD))
    scan = attrs.evolve(plan.scan, table=sent)  # type: ignore[arg-type]  # until it is unpickled
    nothing = PlannedFiles(plan.plan_key, (), Totals(0, 0, deletes=False), 0)
    sent_plan = attrs.evolve(plan, scan=scan, files=(), totals=nothing.totals, planned=nothing)
    return pickle.dumps(sent_plan, pickle.HIGHEST_PROTOCOL)


def unpickled(data: bytes, io: FileIO, caches: Caches) -> ScanPlan:
    """Return the plan in a reader, which opens files with ``io``."""
    plan: ScanPlan = pickle.loads(data)  # noqa: S301  # the server's own
    sent: Any = plan.scan.table
    table = LoadedTable(sent.ref, sent.uuid, sent.metadata_location, sent.metadata, io, caches)
    return attrs.evolve(plan, scan=attrs.evolve(plan.scan, table=table))


class HandedFileIO(LocalFileIO):
    """File I/O of a reader: asks the server for each file's descriptor.

    Args:
        ask: Returns the descriptor of the file at a location, and the ranges of it that are there, None for
            all of it; raises OSError or a refusal.
    """

    def __init__(self, ask: Callable[[str], tuple[int, list[Range] | None]]) -> None:
        super().__init__({})
        self._ask = ask
        self._given: dict[str, _Given] = {}

    @contextmanager
    def given(self, files: Sequence[tuple[str, FileGiven]], descriptors: Sequence[int]) -> Iterator[None]:
        """Hold files for a step, each to be opened any number of times; closes the descriptors."""
        left = iter(descriptors)
        self._given = {
            location: _Given(one, next(left) if one.errno is None and one.refused is None else None)
            for location, one in files
        }
        try:
            yield
        finally:
            found, self._given = self._given, {}
            for one in found.values():
                one.close()

    def is_local(self, location: str) -> bool:  # noqa: ARG002  # it has descriptors of local files only
        """Return True."""
        return True

    def open_local(self, location: str) -> Any:
        """Return the file at ``location``, open for random access; the caller closes it."""
        if (given := self._given.get(location)) is not None:
            return given.opened()
        descriptor, ranges = self._ask(location)
        file = mapped(descriptor)
        if ranges is None:
            return file
        whole = file.read_buffer()
        parts = [(start, whole.slice(start, end - start)) for start, end in ranges]
        return pa.PythonFile(Parts(whole.size, parts), mode="r")


@attrs.define
class _Given:
    """A file that came with a request.

    Attributes:
        said: Whether it came, or why not.
        descriptor: Its descriptor, until it is mapped.
    """

    said: FileGiven
    descriptor: int | None
    _data: Any = None

    def opened(self) -> Any:
        """Return the file for Arrow; raises why there is none."""
        raise_refused(self.said)
        if self._data is None:
            assert self.descriptor is not None
            descriptor, self.descriptor = self.descriptor, None
            self._data = mapped(descriptor).read_buffer()
        return pa.BufferReader(self._data)

    def close(self) -> None:
        """Close the descriptor of a file that was not opened."""
        if self.descriptor is not None:
            os.close(self.descriptor)


def raise_refused(given: FileGiven) -> None:
    """Raise why the server gave no file; returns if it gave one."""
    if given.refused is not None:
        reason, detail, code = given.refused
        raise RefusalError(Refused(Reason(reason), detail, code=code))
    if given.errno is not None:
        raise OSError(given.errno, os.strerror(given.errno))


def mapped(descriptor: int) -> Any:
    """Return an open file for Arrow, which opens no path; closes the descriptor. For readers.

    The file is mapped: one that is cut meanwhile ends the process that reads it.

    Raises:
        OSError: If it cannot be mapped.
    """
    try:
        size = os.fstat(descriptor).st_size
        memory = mmap.mmap(descriptor, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) if size else b""
    finally:
        os.close(descriptor)
    return pa.BufferReader(pa.py_buffer(memory))

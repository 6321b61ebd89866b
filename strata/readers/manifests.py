"""Have manifest lists and manifests parsed in readers, many small ones with one request.

This is the server's side; the reader's is :mod:`strata.readers.child.manifests`.
A file that is not local is fetched by the server, and what the reader gets is memory with its bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress

import attrs
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile, PartitionFieldSummary

from strata.outcomes import RefusalError, Refused
from strata.readers.messages import (
    TOGETHER,
    Answer,
    EntrySent,
    Listed,
    ListEntries,
    Listing,
    ListManifests,
    ListNext,
    ManifestSent,
    NoMemory,
    Request,
)
from strata.readers.openers import said
from strata.readers.pool import READERS, ReaderPool
from strata.readers.processes import Reader, numbers
from strata.readers.shared_memory import SEALED
from strata.readers.steps import Step, Turn
from strata.tables import LoadedTable
from strata.tables.errors import Reading, unreadable
from strata.tables.files.confined import LocalFileIO
from strata.tables.plan.manifest_source import PART, EntriesPart
from strata.tables.plan.manifests import Entry, Metrics

MOST_BYTES = 256 << 20
"""Bytes of a manifest or manifest list that is fetched; a larger one is an error."""

LISTINGS = 4
"""Listings that a reader keeps open; of more, the oldest is closed, and begun again if it is wanted."""


@attrs.frozen
class ReaderManifests:
    """Parses manifests in readers (:class:`strata.tables.plan.manifest_source.ManifestSource`).

    Attributes:
        seconds: Seconds a step may take.
        late: The refusal of a step that takes longer.
        pool: The readers.
        together: Most manifests of a request.
        part: Most entries of an answer.
    """

    seconds: float
    late: Refused
    pool: ReaderPool = READERS
    together: int = TOGETHER
    part: int = PART

    def manifests(self, table: LoadedTable, manifest_list: str) -> Iterator[Sequence[ManifestFile]]:
        """See :class:`strata.tables.plan.manifest_source.ManifestSource`."""
        return self._manifests(table, ListManifests(whole=True), (manifest_list,))

    def first_manifests(
        self, table: LoadedTable, locations: Sequence[str]
    ) -> Iterator[Sequence[ManifestFile]]:
        """See :class:`strata.tables.plan.manifest_source.ManifestSource`."""
        for location in locations:
            yield from self._manifests(table, ListManifests(whole=False), (location,))

    def _manifests(
        self, table: LoadedTable, what: ListManifests, locations: tuple[str, ...]
    ) -> Iterator[Sequence[ManifestFile]]:
        with closing(_Reading(self, table, what, locations)) as reading:
            while not reading.done:
                yield [_manifest(one) for one in reading.next().manifests]

    def entries(
        self, table: LoadedTable, manifests: Sequence[ManifestFile], *, metrics: bool
    ) -> Iterator[EntriesPart]:
        """See :class:`strata.tables.plan.manifest_source.ManifestSource`."""
        specs = {
            spec_id: spec
            for spec_id, spec in table.metadata.specs().items()
            if any(one.partition_spec_id == spec_id for one in manifests)
        }
        at, passed, together = 0, 0, self.together
        while at < len(manifests):
            batch = tuple(manifests[at : at + together])
            what = ListEntries(batch, specs, metrics)
            place = 0
            with closing(
                _Reading(self, table, what, [one.manifest_path for one in batch], passed)
            ) as reading:
                try:
                    while not reading.done:
                        for number, entries in _by_manifest(reading, len(batch)):
                            passed = (passed if number == place else 0) + len(entries)
                            place = number
                            yield EntriesPart(at + number, entries)
                except _NotTogetherError:
                    at, together = at + place, 1
                    continue
            at, passed = at + len(batch), 0


class _NotTogetherError(Exception):
    """A reader died at one of several files, or has no memory for one: each is tried on its own."""


class _Reading:
    """A listing in readers; goes on in another one where the first has ended.

    Args:
        source: The readers.
        table: The files' table.
        what: What to parse.
        locations: The files.
        passed: Items to pass over.

    Attributes:
        done: Whether there is no further part.
        step: The steps of it.
    """

    def __init__(
        self,
        source: ReaderManifests,
        table: LoadedTable,
        what: ListManifests | ListEntries,
        locations: Sequence[str],
        passed: int = 0,
    ) -> None:
        self.done = False
        self._part = source.part
        self._io, self._what, self._locations, self._passed = table.io, what, tuple(locations), passed
        self._keys = [f"{table.ref.source} {table.uuid} {location}" for location in locations]
        self._number = next(numbers)
        self._reader: Reader | None = None
        kind = "manifest list" if isinstance(what, ListManifests) and what.whole else "manifest"
        self.step = Step(
            kind, self._locations[0], self._keys[0], _nothing, source.seconds, source.late, source.pool
        )

    def next(self) -> Listed:
        """Return the next part; blocking.

        Raises:
            RefusalError: As of what is parsed, and as of :class:`strata.readers.steps.Turn`.
            _NotTogetherError: If there are several files.
        """
        pool = self.step.pool
        for location, key in zip(self._locations, self._keys, strict=True):
            if pool.is_deadly(key):
                raise RefusalError(unreadable(self.step.what, location))
        answer = None
        while answer is None:
            answer = self._asked()
            if len(self._locations) > 1 and (self.step.died or isinstance(answer, NoMemory)):
                raise _NotTogetherError
        if not isinstance(answer, Listed):
            raise self.step.refusal(answer)
        self._passed += len(answer.manifests) + len(answer.entries)
        self.done = answer.done
        return answer

    def _asked(self) -> Answer | None:
        """Ask a reader; None if it is busy, has ended, or has closed the listing.

        Files are opened, or fetched, before a reader is taken: no reader waits for a store.
        """
        before, self._reader = self._reader, None
        known = before is not None and before.alive and self._number in before.opened
        pool, answer = self.step.pool, None
        with ExitStack() as files:
            opening = None if known else self._opened(files)
            reader = pool.lease(alone=self.step.died > 0, again=before)
            try:
                with Turn(self.step, reader) as turn:
                    if turn.taken and (opening or self._number in reader.opened):
                        answer = self._noted(reader, self._answer(turn, reader, opening))
                        self._reader = reader
            finally:
                pool.release(reader)
        return answer

    def _opened(self, files: ExitStack) -> tuple[Listing, list[int]]:
        """Open the files; returns what to ask, and the descriptors, which are closed with ``files``."""
        descriptors: list[int] = []
        given = []
        for found in _given(self._io, self._locations, self.step):
            if isinstance(found, int):
                files.callback(os.close, found)
                descriptors.append(found)
            given.append(said(found))
        return Listing(self._what, self._locations, tuple(given)), descriptors

    def _answer(self, turn: Turn, reader: Reader, opening: tuple[Listing, list[int]] | None) -> Answer | None:
        if opening is None:
            return turn.call(Request(ListNext(self._number, None, self._part)))
        _make_room(reader)
        return turn.call(Request(ListNext(self._number, opening[0], self._part, self._passed)), opening[1])

    def _noted(self, reader: Reader, answer: Answer | None) -> Answer | None:
        """Note whether the reader has the listing open after an answer."""
        if isinstance(answer, Listed) and not answer.done:
            if self._number not in reader.opened:
                reader.opened.add(self._number)
                reader.listings.append(self._number)
        elif self._number in reader.opened:
            reader.opened.discard(self._number)
            with suppress(ValueError):
                reader.listings.remove(self._number)
        return answer

    def close(self) -> None:
        """Have the reader close it; never blocks."""
        if self._reader is not None:
            with suppress(ValueError):
                self._reader.listings.remove(self._number)
            self._reader.close_group(self._number)


def _make_room(reader: Reader) -> None:
    """Have a reader close its oldest listing before it opens one more; call under its lock."""
    with suppress(IndexError):
        while len(reader.listings) >= LISTINGS:
            number = reader.listings.popleft()
            reader.opened.discard(number)
            reader.closing.append(number)


def _given(io: FileIO, locations: Sequence[str], step: Step) -> Iterator[int | OSError | RefusalError]:
    """Open files for a reader: yields their descriptors, or why there is none."""
    if isinstance(io, LocalFileIO) and all(map(io.is_local, locations)):
        try:
            yield from step.pool.open_all(io, locations, step.seconds, step.late)
        except (OSError, RefusalError) as error:
            yield from [error] * len(locations)
        return
    for location in locations:
        try:
            if isinstance(io, LocalFileIO) and io.is_local(location):
                yield step.pool.open(io, location, step.seconds, step.late)
                continue
            with Reading(step.what, location):
                yield _fetched(io, location)
        except (OSError, RefusalError) as error:
            yield error


def _fetched(io: FileIO, location: str) -> int:
    """Fetch a file; returns the descriptor of memory with its bytes."""
    with io.new_input(location).open() as source:
        data = source.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"the file has more than {MOST_BYTES} bytes")
    descriptor = os.memfd_create("strata-fetched", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(descriptor), "wb", buffering=0) as memory:
            left = memoryview(data)
            while left:
                left = left[memory.write(left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALED)
    except BaseException:  # raised again: no other code closes it
        os.close(descriptor)
        raise
    return descriptor


def _nothing(location: str) -> tuple[int, None]:  # noqa: ARG001  # the files go with the request
    raise PermissionError(errno.EPERM, "no file of this step")


def _by_manifest(reading: _Reading, most: int) -> Iterator[tuple[int, list[Entry | None]]]:
    """Yield the entries of the next part by manifest, of which there are less than ``most``; blocking.

    Raises:
        RefusalError: As :meth:`_Reading.next`; also if a reader names a manifest that there is not.
    """
    before, found = 0, list[Entry | None]()
    for place, entry in reading.next().entries:
        if not before <= place < most:
            raise RefusalError(unreadable(reading.step.what, reading.step.location))
        if place != before and found:
            yield before, found
            found = []
        before = place
        found.append(None if entry is None else _entry(entry))
    if found:
        yield before, found


def _manifest(one: ManifestSent) -> ManifestFile:
    parts = None if one.partitions is None else [PartitionFieldSummary(*part) for part in one.partitions]
    head = (one.path, one.length, one.spec_id, one.content, one.sequence_number)
    return ManifestFile(*head, *[None] * 8, parts, None, None)


def _entry(one: EntrySent) -> Entry:
    found = one.metrics
    return Entry(
        one.content,
        one.path,
        one.file_format,
        one.partition,
        one.spec_id,
        one.sequence_number,
        one.record_count,
        one.size,
        one.equality_ids,
        one.referenced_data_file,
        one.content_offset,
        one.content_size,
        None if found is None else Metrics(found.values, found.nulls, found.nans, found.lower, found.upper),
    )

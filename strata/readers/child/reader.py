"""A reader: answers the server's requests, one at a time, until the server closes the link."""

from __future__ import annotations

import gc
import io
import mmap
import os
import resource
import socket
import traceback
import zlib
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import structlog

from strata.outcomes import RefusalError
from strata.readers.child.manifests import OpenListing, encoded
from strata.readers.child.walls import raise_walls
from strata.readers.child.warm_up import warm_up
from strata.readers.messages import (
    Answer,
    Expand,
    Expanded,
    ExpandRun,
    Failed,
    Group,
    GroupRead,
    ListNext,
    NoMemory,
    Part,
    PlanOf,
    Read,
    ReadRun,
    RefusedThere,
    RunExpanded,
    RunRead,
    SliceRead,
    TellWalls,
    Walls,
    WantFile,
    answer_bytes,
    given_of,
    receive,
    request_of,
    send,
)
from strata.readers.plans import HandedFileIO, raise_refused, unpickled
from strata.readers.shared_memory import SLOT_BYTES, SLOTS, own_memory
from strata.tables import RowGroup, ScanPlan, apply_residual
from strata.tables.caches import Caches
from strata.tables.files.footer_check import FOOTER_CHECK
from strata.tables.files.prefetched import Range
from strata.tables.read.expand import row_groups_of
from strata.tables.read.ipc import encode_into, encoded_size
from strata.tables.read.row_group import ranges_of

CACHE_BYTES = 32 << 20
"""Bytes of footers and deletes that a reader keeps."""

_ALONE = (RefusalError, MemoryError, pa.ArrowMemoryError)
"""What ends a run before the file or row group, which is done alone then and gives its reason."""

_ALIGNED = 64
"""Bytes to which the second part of a slot is aligned, as Arrow's buffers are."""

_STATUS_BYTES = 64 << 10


class Reader:
    """The state of a reader.

    Args:
        link: Connection to the server.
        slots: Descriptor of the shared memory.
        missing: Walls that this process has not.

    Attributes:
        logged: What reading the present file has logged.
    """

    def __init__(self, link: socket.socket, slots: int, missing: tuple[str, ...]) -> None:
        self._link = link
        self._missing = missing
        self._memory = memoryview(mmap.mmap(slots, SLOTS * SLOT_BYTES))
        self._plans: dict[int, ScanPlan] = {}
        self._groups: dict[int, RowGroup] = {}
        self._listings: dict[int, OpenListing] = {}
        self._io = HandedFileIO(self._ask)
        self._caches = Caches()
        self._caches.resize(CACHE_BYTES)
        self.logged: list[str] = []

    def warm_up(self, *, ahead: bool) -> None:
        """Read something, so that the first request does not wait for what a process does once.

        Args:
            ahead: Whether no request waits yet.
        """
        warm_up(self._memory, SLOT_BYTES, ahead=ahead)

    def run(self) -> None:
        """Answer until the link is closed."""
        while (message := receive(self._link)) is not None:
            request = request_of(message[0])
            for number in request.closed:
                self._close(number)
            if request.body is None:
                continue
            self.logged.clear()
            with self._io.given(request.given, message[1] if request.given else []):
                answer, descriptor = self._answered(request.body, message[1])
            sent = answer if isinstance(answer, bytes) else answer_bytes(answer)
            send(self._link, sent, () if descriptor is None else (descriptor,))
            if descriptor is not None:
                os.close(descriptor)

    def _answered(
        self, body: Expand | ExpandRun | Read | ReadRun | ListNext | TellWalls, descriptors: list[int]
    ) -> tuple[Answer | bytes, int | None]:
        try:
            match body:
                case TellWalls():
                    return Walls(list(self._missing)), None
                case ListNext():
                    return self._listed(body, descriptors), None
                case Expand():
                    return self._expanded(body), None
                case ExpandRun():
                    return self._expanded_run(body), None
                case ReadRun():
                    return self._read_run(body)
                case Read():
                    return self._read(body)
        except RefusalError as refusal:
            refused, log = refusal.refused, "; ".join(self.logged)
            return RefusedThere(refused.reason.value, refused.detail, refused.code, log), None
        except (MemoryError, pa.ArrowMemoryError) as error:
            return NoMemory(str(error)), None
        except Exception as error:  # noqa: BLE001  # a bug ends the request, not the reader
            places = traceback.extract_tb(error.__traceback__)[-4:]
            where = ", ".join(f"{place.filename.rpartition('/')[2]}:{place.lineno}" for place in places)
            return Failed(type(error).__name__, where), None

    def _plan(self, wanted: PlanOf) -> ScanPlan:
        for number in wanted.forgotten:
            self._plans.pop(number, None)
        if wanted.pickled is not None:
            self._plans[wanted.number] = unpickled(wanted.pickled, self._io, self._caches)
        return self._plans[wanted.number]

    def _expanded(self, body: Expand) -> Expanded:
        plan = self._plan(body.plan)
        found, field_ids = row_groups_of(plan, body.file)
        ranges = [ranges_of(plan, body.file, index) if body.ranges else [] for index, *_ in found]
        groups = [Group(*one, each) for one, each in zip(found, ranges, strict=True)]
        return Expanded(groups, sorted(field_ids))

    def _expanded_run(self, body: ExpandRun) -> RunExpanded:
        plan, found = self._plan(body.plan), []
        for file in body.files:
            try:
                groups, field_ids = row_groups_of(plan, file)
            except _ALONE:
                break
            found.append(Expanded([Group(*one) for one in groups], sorted(field_ids)))
        return RunExpanded(found)

    def _read_run(self, body: ReadRun) -> tuple[RunRead, int | None]:
        plan = self._plan(body.plan)
        if body.slot is not None:
            memory = self._memory[body.slot * SLOT_BYTES : (body.slot + 1) * SLOT_BYTES]
            return self._read_into(plan, body, memory), None
        descriptor, mapped = own_memory(SLOT_BYTES)  # of which only what is written takes memory
        try:
            return self._read_into(plan, body, memoryview(mapped)), descriptor
        except BaseException:  # raised again: no other code closes it
            os.close(descriptor)
            raise

    @staticmethod
    def _read_into(plan: ScanPlan, body: ReadRun, memory: memoryview) -> RunRead:
        """Encode row groups into memory of a slot's size, up to the first that must be read alone."""
        found, end = [], 0
        for task in body.tasks:
            try:
                batches = _whole(RowGroup(plan, task, batch_rows=body.batch_rows))
                kept = None if plan.passthrough else apply_residual(plan, task, batches)
            except _ALONE:
                break
            begin = end
            middle = begin + _aligned(encoded_size(batches))
            end = middle + (0 if kept is None else _aligned(encoded_size(kept)))
            if end > SLOT_BYTES:
                break
            segment = _part(batches, memory, begin)
            crc32 = (
                zlib.crc32(memory[segment.offset : segment.offset + segment.nbytes]) if body.checksums else 0
            )
            found.append(GroupRead(segment, None if kept is None else _part(kept, memory, middle), crc32))
        return RunRead(found)

    def _listed(self, body: ListNext, descriptors: list[int]) -> bytes:
        if body.opening is not None:
            self._listings[body.number] = OpenListing(body.opening, body.passed, descriptors)
        listing, done = self._listings[body.number], True
        try:
            found = listing.next(body.most)
            sent = encoded(found, *listing.reading)
            done = found.done
        finally:
            if done:
                self._close(body.number)
        return sent

    def _read(self, body: Read) -> tuple[SliceRead, int | None]:
        if body.opening is not None:
            opening, task = body.opening, body.opening.task
            group = RowGroup(
                self._plan(opening.plan),
                task,
                batch_rows=opening.batch_rows,
                slice_rows=opening.slice_rows,
            )
            self._groups[body.group] = group
        group = self._groups[body.group]
        group.threads = body.threads
        try:
            while body.opening is not None and group.passed < body.opening.passed:
                group.read()
            before = group.passed
            assert body.opening is None or before == body.opening.passed, "slices of other sizes"
            batches = group.read(body.many)
            if group.passed == before:
                return SliceRead(group.passed, False, None, None, body.crc32 or 0, False), None  # noqa: FBT003
            kept = None if group.plan.passthrough else apply_residual(group.plan, group.task, batches)
            return self._placed(group, batches, kept, body)
        except BaseException:  # raised again: the server opens it anew, if at all, and its memory is wanted
            self._close(body.group)
            raise
        finally:
            if group.done:
                self._close(body.group)

    def _close(self, number: int) -> None:
        for opened in (self._groups.pop(number, None), self._listings.pop(number, None)):
            if opened is not None:
                opened.close()

    def _placed(
        self,
        group: RowGroup,
        batches: Sequence[pa.RecordBatch],
        kept: Sequence[pa.RecordBatch] | None,
        body: Read,
    ) -> tuple[SliceRead, int | None]:
        """Encode the rows into the slot, or into memory of their own."""
        first = _aligned(encoded_size(batches))
        size = first + (0 if kept is None else encoded_size(kept))
        descriptor: int | None = None
        memory: memoryview | None = None
        if body.slot is not None and size <= SLOT_BYTES:
            memory = self._memory[body.slot * SLOT_BYTES : (body.slot + 1) * SLOT_BYTES]
        elif size:
            descriptor, mapped = own_memory(size)
            memory = memoryview(mapped)
        try:
            segment = _part(batches, memory, 0)
            visible = None if kept is None else _part(kept, memory, first)
            crc32 = 0
            if body.crc32 is not None:
                crc32 = body.crc32
                if memory is not None:
                    crc32 = zlib.crc32(memory[segment.offset : segment.offset + segment.nbytes], crc32)
        except BaseException:  # raised again: no other code closes it
            if descriptor is not None:
                os.close(descriptor)
            raise
        own = descriptor is not None
        return SliceRead(group.passed, group.done, segment, visible, crc32, own), descriptor

    def _ask(self, location: str) -> tuple[int, list[Range] | None]:
        """Return the descriptor of the file at ``location``, from the server, and its ranges there."""
        send(self._link, answer_bytes(WantFile(location)))
        found = receive(self._link)
        if found is None:
            raise ConnectionResetError("the server has gone")
        given = given_of(found[0])
        raise_refused(given)
        return found[1][0], given.ranges


def _whole(group: RowGroup) -> list[pa.RecordBatch]:
    """Return the batches of a row group without deletes."""
    found: list[pa.RecordBatch] = []
    try:
        while not group.done:
            found += group.read()
    finally:
        group.close()
    return found


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _part(batches: Sequence[pa.RecordBatch], memory: memoryview | None, offset: int) -> Part:
    if not batches or memory is None:
        return Part(0, 0, 0)
    begin, nbytes = encode_into(batches, memory[offset:])
    return Part(offset + begin, nbytes, sum(batch.num_rows for batch in batches))


def serve(link: socket.socket, slots: int, memory_bytes: int, outside: Sequence[str], *, ahead: bool) -> None:
    """Be a reader, in a process of its own, until the server closes the link.

    Args:
        link: Connection to the server.
        slots: Descriptor of the shared memory; closed.
        memory_bytes: Most bytes of data besides those that it begins with; 0: no limit.
        outside: Walls that its parent has not.
        ahead: Whether no request waits for it yet.
    """
    with open("/proc/self/status", "rb", buffering=0) as status:  # noqa: PTH123  # no path of files
        missing = (*outside, *raise_walls())
        reader = Reader(link, slots, missing)
        _serve(reader, slots, status, memory_bytes, ahead=ahead)


def _serve(reader: Reader, slots: int, status: io.RawIOBase, memory_bytes: int, *, ahead: bool) -> None:
    """Answer, behind the walls.

    Args:
        reader: The reader.
        slots: Descriptor of the shared memory; closed.
        status: The process's status file, which cannot be opened any more.
        memory_bytes: As of :func:`serve`.
        ahead: As of :func:`serve`.
    """
    FOOTER_CHECK.needless()  # this process may die
    os.close(slots)

    def keep(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        cause = event.get("exc_info")
        reader.logged.append(f"{event.get('event')}: {type(cause).__name__}: {cause}")
        raise structlog.DropEvent

    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    pa.set_io_thread_count(1)  # it does one thing at a time
    reader.warm_up(ahead=ahead)
    if memory_bytes:  # after threads have their stacks: no file must be blamed for one that cannot begin
        most = _data_bytes(status) + memory_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    gc.freeze()
    with suppress(OSError):  # the server has gone
        reader.run()


def _data_bytes(status: io.RawIOBase) -> int:
    """Return the bytes of data that the process has now, as the limit counts them (proc(5), VmData)."""
    lines = (status.read(_STATUS_BYTES) or b"").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(b"VmData:")) * 1024

"""What the server and its reader processes say to each other.

The server's requests are pickled: readers believe the server. What readers answer is not believed: it is
MessagePack, decoded into these types and checked, since a file may have taken a reader over.
"""

from __future__ import annotations

import array
import pickle
import socket
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import attrs
import msgspec
from pyiceberg.manifest import DataFileContent, FileFormat, ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec

from strata.tables import FileTask, RowGroupTask
from strata.tables.files.prefetched import Range

MOST_BYTES = 64 << 20
"""Bytes of the largest message; a scan's specification has at most the values that a request may have."""

_HEAD = 4
TOGETHER = 32
"""Most files that come with one request, as descriptors."""

MOST_DIGITS = 80
"""Most digits of a decimal: Iceberg's have 38, a damaged file's as many as a few more bytes hold."""

DECIMAL, UUID_BYTES = 1, 2
"""Codes of MessagePack's extensions for partition values of these types: digits, and 16 bytes."""


@attrs.frozen
class PlanOf:
    """A scan, by a number that a reader knows, or with the pickled plan for one that does not.

    Attributes:
        number: The scan's number.
        pickled: The plan without files, as :func:`strata.readers.plans.pickled` gives it; None if known.
        forgotten: Numbers of scans that the reader forgets.
    """

    number: int
    pickled: bytes | None
    forgotten: tuple[int, ...] = ()


@attrs.frozen
class Expand:
    """Name the row groups of a file that may hold rows of the scan.

    Attributes:
        plan: The scan.
        file: The file.
        ranges: Whether the ranges of each row group's columns are wanted.
    """

    plan: PlanOf
    file: FileTask
    ranges: bool = False


@attrs.frozen
class Open:
    """How to open a row group.

    Attributes:
        plan: The scan.
        task: The row group.
        batch_rows: Most rows of a batch.
        slice_rows: Most rows of a slice.
        passed: Rows to pass over: those that another reader has read already.
    """

    plan: PlanOf
    task: RowGroupTask
    batch_rows: int
    slice_rows: int
    passed: int


@attrs.frozen
class Read:
    """Read the next slice of a row group into shared memory.

    Attributes:
        group: The row group's number.
        opening: How to open it; None if the reader has it open.
        crc32: Checksum of the slices before, continued over the segment; None where none is wanted.
        slot: Slot of the shared memory for the rows; None if all are in use.
        many: Slices to read as one.
        threads: Whether its columns are decoded on all cores.
    """

    group: int
    opening: Open | None
    crc32: int | None
    slot: int | None
    many: int = 1
    threads: bool = False


@attrs.frozen
class ExpandRun:
    """Do :class:`Expand` for files, up to the first that must be done alone.

    Attributes:
        plan: The scan.
        files: The files.
    """

    plan: PlanOf
    files: tuple[FileTask, ...]


@attrs.frozen
class ReadRun:
    """Read whole row groups into one slot, up to the first that must be read alone.

    Attributes:
        plan: The scan.
        tasks: The row groups.
        batch_rows: Most rows of a batch.
        checksums: Whether the segments' checksums are wanted.
        slot: Slot of the shared memory for the rows; None if all are in use.
    """

    plan: PlanOf
    tasks: tuple[RowGroupTask, ...]
    batch_rows: int
    checksums: bool
    slot: int | None


@attrs.frozen
class ListManifests:
    """Parse a manifest list.

    Attributes:
        whole: False: the files are manifests of a snapshot without a manifest list.
    """

    whole: bool


@attrs.frozen
class ListEntries:
    """Parse manifests.

    Attributes:
        manifests: The manifests.
        specs: The table's partition specs by id.
        metrics: Whether column statistics are wanted.
    """

    manifests: tuple[ManifestFile, ...]
    specs: Mapping[int, PartitionSpec]
    metrics: bool


@attrs.frozen
class Listing:
    """What to parse of which files.

    Attributes:
        what: What to parse.
        locations: The files.
        given: For each file whether its descriptor comes with the request, in this order, or why not.
    """

    what: ListManifests | ListEntries
    locations: tuple[str, ...]
    given: tuple[FileGiven, ...]


@attrs.frozen
class ListNext:
    """Parse the next part of a listing.

    Attributes:
        number: The listing's number.
        opening: What to parse; None if the reader has it open.
        most: Most items of the part.
        passed: Items to pass over, of all files together: those that another reader has parsed already.
    """

    number: int
    opening: Listing | None
    most: int
    passed: int = 0


@attrs.frozen
class TellWalls:
    """Say which walls are missing around the reader."""


@attrs.frozen
class Request:
    """A request, and what is not needed any more.

    Attributes:
        body: The request; None: nothing but what is closed, without an answer.
        closed: Row groups to close.
        given: Files that come with it, at most :data:`TOGETHER`: their descriptors, or why there is none.
    """

    body: Expand | ExpandRun | Read | ReadRun | ListNext | TellWalls | None
    closed: tuple[int, ...] = ()
    given: tuple[tuple[str, FileGiven], ...] = ()


class WantFile(msgspec.Struct, frozen=True, tag="file"):
    """The reader wants a file opened; the server answers with :class:`FileGiven` and the descriptor."""

    location: str


class Part(msgspec.Struct, frozen=True):
    """Encoded rows in shared memory.

    Attributes:
        offset: Offset of the first byte in the slot, or in the memory that came with the answer.
        nbytes: Bytes.
        rows: Rows.
    """

    offset: int
    nbytes: int
    rows: int


class SliceRead(msgspec.Struct, frozen=True, tag="slice"):
    """A slice was read.

    Attributes:
        passed: Rows of the row group read so far.
        done: Whether that was all of it; the reader has closed it then.
        segment: The rows before the filter; None for a part of a delete file, which has no rows.
        kept: The rows that the filter kept, with the columns of the result; None without a filter.
        crc32: Checksum of the segments up to and including this one.
        own: Whether the rows are in memory of their own, whose descriptor came with the answer.
    """

    passed: int
    done: bool
    segment: Part | None
    kept: Part | None
    crc32: int
    own: bool


class Group(msgspec.Struct, frozen=True, array_like=True):
    """A row group of a file: index, position of its first row, rows, estimated bytes, ranges."""

    index: int
    first_row: int
    rows: int
    nbytes: int
    ranges: list[Range] = []


class Expanded(msgspec.Struct, frozen=True, tag="expanded"):
    """The row groups of a file that may hold rows, and the ids of the fields that the file has."""

    groups: list[Group]
    field_ids: list[int]


class RunExpanded(msgspec.Struct, frozen=True, tag="run_expanded"):
    """The first files of a run were expanded."""

    files: list[Expanded]


class GroupRead(msgspec.Struct, frozen=True, array_like=True):
    """A row group of a run: places in memory as of :class:`SliceRead`, and the checksum of its segment."""

    segment: Part
    kept: Part | None
    crc32: int


class RunRead(msgspec.Struct, frozen=True, tag="run_read"):
    """The first row groups of a run were read."""

    groups: list[GroupRead]


class ManifestSent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A manifest, as its list describes it; attributes as of pyiceberg's ``ManifestFile``."""

    path: str
    length: int | None
    spec_id: int
    content: ManifestContent | None
    sequence_number: int | None
    partitions: list[tuple[bool | None, bool | None, bytes | None, bytes | None]] | None


class MetricsSent(msgspec.Struct, frozen=True, array_like=True):
    """Column statistics; attributes as of :class:`strata.tables.plan.manifests.Metrics`."""

    values: dict[int, int]
    nulls: dict[int, int]
    nans: dict[int, int]
    lower: dict[int, bytes]
    upper: dict[int, bytes]


class EntrySent(msgspec.Struct, frozen=True, array_like=True):
    """A live file; attributes as of :class:`strata.tables.plan.manifests.Entry`, in their order."""

    content: DataFileContent
    path: str
    file_format: FileFormat
    partition: tuple[Any, ...]
    spec_id: int
    sequence_number: int
    record_count: int
    size: int
    equality_ids: tuple[int, ...]
    referenced_data_file: str | None
    content_offset: int | None
    content_size: int | None
    metrics: MetricsSent | None


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """The next part of a listing.

    Attributes:
        manifests: Manifests of a manifest list.
        entries: Entries of manifests, each with its manifest's index; None for that of a deleted file.
        done: Whether that was all of it; the reader has closed it then.
    """

    manifests: list[ManifestSent]
    entries: list[tuple[int, EntrySent | None]]
    done: bool


class Walls(msgspec.Struct, frozen=True, tag="walls"):
    """The names of the walls that are missing around the reader."""

    missing: list[str]


class RefusedThere(msgspec.Struct, frozen=True, tag="refused"):
    """The file was refused: the reason's value, the sentence for the user, the word for machines."""

    reason: str
    detail: str
    code: str | None
    log: str


class NoMemory(msgspec.Struct, frozen=True, tag="memory"):
    """The reader's memory does not hold the slice."""

    detail: str


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A bug: the exception's type and the innermost places of its traceback, for the log."""

    error: str
    where: str


Answer: TypeAlias = (
    WantFile
    | SliceRead
    | RunRead
    | Expanded
    | RunExpanded
    | Listed
    | Walls
    | RefusedThere
    | NoMemory
    | Failed
)


def _partition_value(code: int, data: memoryview) -> Decimal | UUID:
    """Return a partition value of a type that MessagePack lacks; raises ValueError for what is none."""
    if code == UUID_BYTES:
        return UUID(bytes=bytes(data))
    if code != DECIMAL:
        raise ValueError("no such type")
    try:
        found = Decimal(bytes(data[:MOST_DIGITS]).decode("ascii"))
    except ArithmeticError:
        raise ValueError("no decimal") from None
    _, digits, exponent = found.as_tuple()
    if not found.is_finite() or len(digits) > MOST_DIGITS or not -MOST_DIGITS <= int(exponent) <= MOST_DIGITS:
        raise ValueError("no decimal of Iceberg's")
    return found


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer, ext_hook=_partition_value)


class FileGiven(msgspec.Struct, frozen=True):
    """Answer to :class:`WantFile`: the descriptor came with it, or why there is none.

    Attributes:
        errno: Number of the operating system's error.
        refused: The refusal's reason, detail and code.
        ranges: Ranges of the file that are there, of one that is not local; None: all of it.
    """

    errno: int | None = None
    refused: tuple[str, str, str | None] | None = None
    ranges: list[Range] | None = None


_GIVEN = msgspec.msgpack.Decoder(FileGiven)


def send(link: socket.socket, message: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a message, with descriptors; raises OSError if the other end has gone or does not read."""
    head = len(message).to_bytes(_HEAD, "big")
    if descriptors:
        link.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])
        link.sendall(message)
    else:
        link.sendall(head + message)


def receive(link: socket.socket) -> tuple[bytes, list[int]] | None:
    """Receive a message and the descriptors that came with it; None at the end.

    Raises:
        OSError: If the other end has gone in the middle, or says nothing in time.
        ValueError: If the message is larger than :data:`MOST_BYTES`.
    """
    width = array.array("i").itemsize
    head, ancillary, _, _ = link.recvmsg(_HEAD, socket.CMSG_SPACE(TOGETHER * width), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % width])
    if not head:
        return None
    head += _exactly(link, _HEAD - len(head))
    size = int.from_bytes(head, "big")
    if size > MOST_BYTES:
        raise ValueError("the message is too large")
    return _exactly(link, size), list(descriptors)


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = bytearray(size)
    view, done = memoryview(parts), 0
    while done < size:
        got = link.recv_into(view[done:])
        if not got:
            raise ConnectionResetError("the other end has gone")
        done += got
    return bytes(parts)


def request_bytes(request: Request) -> bytes:
    """Return a request as it is sent."""
    return pickle.dumps(request, pickle.HIGHEST_PROTOCOL)


def request_of(message: bytes) -> Request:
    """Return the request of a message of the server's; called in readers only."""
    request = pickle.loads(message)  # noqa: S301  # the server's own
    assert isinstance(request, Request)
    return request


def answer_bytes(answer: Answer | FileGiven) -> bytes:
    """Return an answer as it is sent."""
    return _ENCODER.encode(answer)


def answer_of(message: bytes) -> Answer:
    """Return the answer of a message of a reader's.

    Raises:
        msgspec.DecodeError: If it is none.
    """
    return _DECODER.decode(message)


def given_of(message: bytes) -> FileGiven:
    """Return the server's answer to :class:`WantFile`."""
    return _GIVEN.decode(message)

"""Packs on disk: a data file of segments and a sidecar that describes them. All functions block.

The sidecar is written last, after the data is synced, and renamed into place: a sidecar without its data
cannot exist, and a data file without sidecar is a leftover. The sidecar's modification time is the pack's
last use in nanoseconds; an odd value means that the pack was used again after it was written.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import attrs
import msgspec
import pyarrow as pa

from strata.cache.index import Pack, PackedSegment, SegmentKey
from strata.durable import PRIVATE_MODE, sync_directory, write_parts
from strata.regular_files import open_regular, read_regular
from strata.tables import FieldKey
from strata.tables.read.ipc import Encoded

DATA = ".pack"
SIDECAR = ".index"
TEMPORARY = ".part"

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing of a file: the process or the system has no descriptors or memory left."""

_COPY_BLOCK = 1 * 1024 * 1024


class _Entry(msgspec.Struct, array_like=True):
    file_key: str
    row_group: int
    offset: int
    length: int
    crc32: int
    rows: int


class _Sidecar(msgspec.Struct):
    version: int
    size: int
    fields: list[tuple[int, str]]
    schema: bytes
    entries: list[_Entry]


_VERSION = 2
_CRC_BYTES = 4

_stamp_lock = threading.Lock()
_last_stamp = [0]


def sidecar_of(path: Path) -> Path:
    """Return the path of a data file's sidecar."""
    return path.with_suffix(SIDECAR)


@attrs.frozen
class Columns:
    """Columns of a pack's segments: identities in order, and their Arrow schema."""

    fields: tuple[FieldKey, ...]
    schema: pa.Schema


def write_sidecar(path: Path, size: int, columns: Columns, segments: Sequence[PackedSegment]) -> Pack:
    """Write the sidecar of a synced data file; returns the pack.

    Raises:
        OSError: If the sidecar cannot be written; data file and sidecar are removed.
    """
    entries = [_Entry(s.key.file_key, s.key.row_group, s.offset, s.length, s.crc32, s.rows) for s in segments]
    schema = columns.schema.serialize().to_pybytes()
    entry = msgspec.msgpack.encode(_Sidecar(_VERSION, size, list(columns.fields), schema, entries))
    data = zlib.crc32(entry).to_bytes(_CRC_BYTES, "big") + entry
    final = sidecar_of(path)
    temporary = final.with_name(final.name + TEMPORARY)
    try:
        descriptor = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            write_parts(descriptor, [data])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _stamp(temporary, again=False)
        temporary.rename(final)
        sync_directory(path.parent)
    except OSError:
        for left in (temporary, final, path):
            with suppress(OSError):  # the first error is raised; what stays is removed at the next opening
                left.unlink(missing_ok=True)
        raise
    return Pack(path, size + len(data), columns.fields, columns.schema, tuple(segments))


def load(root: Path) -> tuple[list[Pack], list[Path]]:
    """Return the complete packs in ``root``, least recently used first, and the leftover files.

    Raises:
        OSError: If the directory cannot be listed, or no descriptor or memory is left to read a sidecar: what
            cannot be read now is no leftover.
    """
    packs: list[tuple[int, Pack]] = []
    kept: set[Path] = set()
    ours: list[Path] = []
    try:
        there = list(root.iterdir())
    except FileNotFoundError:
        return [], []  # nothing cached yet
    for path in there:
        if path.suffix not in (DATA, SIDECAR, TEMPORARY):
            continue  # a foreign file stays
        ours.append(path)
        if path.suffix == SIDECAR:
            found = _load_one(path)
            if found is not None:
                pack, moment = found
                packs.append((moment, attrs.evolve(pack, protected=bool(moment & 1))))
                kept |= {path, pack.path}
    packs.sort(key=lambda item: item[0])
    return [pack for _, pack in packs], [path for path in ours if path not in kept]


def _load_one(sidecar: Path) -> tuple[Pack, int] | None:
    """Return a pack and the time of its last use, or None for a leftover."""
    path = sidecar.with_suffix(DATA)
    try:
        with read_regular(sidecar) as file:
            data = file.read()
        crc32, entry = int.from_bytes(data[:_CRC_BYTES], "big"), data[_CRC_BYTES:]
        if zlib.crc32(entry) != crc32:
            return None
        found = msgspec.msgpack.decode(entry, type=_Sidecar)
        schema = pa.ipc.read_schema(pa.py_buffer(found.schema))
        whole = path.stat().st_size == found.size
        coherent = _coherent(found, schema.names)  # .names decodes them, which may fail
        moment = sidecar.stat().st_mtime_ns
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        return None
    except (msgspec.MsgspecError, pa.ArrowException, UnicodeDecodeError):
        return None
    if not (whole and coherent):
        return None
    segments = tuple(
        PackedSegment(SegmentKey(e.file_key, e.row_group), e.offset, e.length, e.crc32, e.rows)
        for e in found.entries
    )
    return Pack(path, found.size + len(data), tuple(found.fields), schema, segments), moment


def _coherent(found: _Sidecar, names: Sequence[str]) -> bool:
    """Test a sidecar's plausibility; its checksum shows only that it is unchanged since it was written."""
    return (
        found.version == _VERSION
        and len(found.fields) == len(set(found.fields)) == len(names)
        and all(
            min(e.row_group, e.offset, e.length, e.rows) >= 0 and e.offset + e.length <= found.size
            for e in found.entries
        )
    )


def measure(root: Path) -> tuple[int, int]:
    """Return the bytes of the packs in ``root`` and the time of the last use (ns since the epoch; 0: none).

    Opens no file.
    """
    found = _by_use(root)
    return sum(size for _, size, _ in found), max((moment for moment, _, _ in found), default=0)


def trim(root: Path, budget: int) -> int:
    """Remove packs in ``root``, least recently used first, until the budget (bytes) holds.

    Returns the bytes that remain; a directory without any is removed, too. The shard must not be open.

    Raises:
        OSError: If the directory cannot be read or a pack cannot be removed.
    """
    found = _by_use(root)
    left = sum(size for _, size, _ in found)
    for _, size, path in found:
        if left <= budget:
            break
        failure = remove([path])
        if failure is not None:
            raise failure
        left -= size
    if not left:
        with suppress(OSError):  # missing, or with a foreign file in it
            root.rmdir()
    return left


def _by_use(root: Path) -> list[tuple[int, int, Path]]:
    """Return (last use, bytes, data file) of each pack, sorted; leftovers have last use 0."""
    sizes: dict[Path, int] = {}
    moments: dict[Path, int] = {}
    try:
        with os.scandir(root) as entries:
            for entry in entries:
                path = root / entry.name
                if path.suffix not in (DATA, SIDECAR, TEMPORARY):
                    continue
                pack = path.with_suffix(DATA) if path.suffix == SIDECAR else path
                with suppress(FileNotFoundError):  # removed meanwhile
                    facts = entry.stat()
                    sizes[pack] = sizes.get(pack, 0) + facts.st_size
                    if path.suffix == SIDECAR:
                        moments[pack] = facts.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((moments.get(path, 0), size, path) for path, size in sizes.items())


def remove(paths: Iterable[Path]) -> OSError | None:
    """Remove data files with their sidecars (sidecar first) and leftovers; missing files are no error.

    Tries all of them; returns the first error.
    """
    failure: OSError | None = None
    for path in paths:
        try:
            if path.suffix == DATA:
                sidecar_of(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        except OSError as error:  # the others are removed all the same
            failure = failure or error
    return failure


def touch(paths: Iterable[Path]) -> None:
    """Record the packs as used now, in the order given."""
    for path in paths:
        with suppress(OSError):  # evicted meanwhile, or the disk is broken: this use is not remembered
            _stamp(sidecar_of(path), again=True)


def _stamp(path: Path, *, again: bool) -> None:
    """Set the time of last use; later calls set later times, however coarse the clock."""
    with _stamp_lock:
        _last_stamp[0] = moment = max(time.time_ns() & ~1, _last_stamp[0] + 2)
    os.utime(path, ns=(moment | again, moment | again))


def read(path: Path, packed: PackedSegment) -> bytes | None:
    """Return a segment's bytes; ``None`` if they cannot be read or fail their checksum."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return None
    try:
        data = os.pread(descriptor, packed.length, packed.offset)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if len(data) != packed.length or zlib.crc32(data) != packed.crc32:
        return None
    return data


def checksum(blob: Path, offset: int, length: int, crc32: int = 0) -> int:
    """Continue the CRC-32 ``crc32`` over ``length`` bytes of a file.

    Raises:
        OSError: If the file is shorter or cannot be read.
    """
    left = length
    with read_regular(blob, buffering=0) as file:
        file.seek(offset)
        while left:
            block = file.read(min(_COPY_BLOCK, left))
            if not block:
                raise OSError("the blob is shorter than its segments")
            crc32 = zlib.crc32(block, crc32)
            left -= len(block)
    return crc32


def adopt(root: Path, blob: Path, columns: Columns, segments: Sequence[PackedSegment]) -> Pack | None:
    """Make a finished blob's file a pack by a hard link; blocking.

    Returns ``None`` where the file system refuses the link, as across file systems; then the segments are to
    be copied (:meth:`PackWriter.copy`).

    Raises:
        OSError: If the sidecar cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{secrets.token_hex(12)}{DATA}"
    try:
        os.link(blob, path)
    except OSError:
        return None
    try:
        size = path.stat().st_size
    except OSError:
        with suppress(OSError):  # a link that stays is removed at the next opening
            path.unlink()
        raise
    return write_sidecar(path, size, columns, segments)


def extend(segments: list[PackedSegment], part: PackedSegment) -> None:
    """Append a segment to the list, or extend the last segment by its next, adjacent part.

    Raises:
        ValueError: If the part does not begin where the last one of its segment ended.
    """
    last = segments[-1] if segments else None
    if last is None or last.key != part.key:
        segments.append(part)
        return
    if last.offset + last.length != part.offset:
        raise ValueError("the parts of a segment must be adjacent")
    segments[-1] = attrs.evolve(
        last, length=last.length + part.length, crc32=part.crc32, rows=last.rows + part.rows
    )


class PackWriter:
    """Writer of a new pack; not thread-safe.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, root: Path, columns: Columns) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._columns = columns
        self._final = root / f"{secrets.token_hex(12)}{DATA}"
        self._path = self._final.with_name(self._final.name + TEMPORARY)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
        self._segments: list[PackedSegment] = []
        self.size = 0

    def append(self, key: SegmentKey, encoded: Encoded, crc32: int) -> None:
        """Write a segment, or the next part of the last one.

        Args:
            key: Key of the segment.
            encoded: The messages to write.
            crc32: CRC-32 of the segment's messages so far, these included.

        Raises:
            OSError: If they cannot be written.
        """
        write_parts(self._fd, encoded.parts)
        extend(self._segments, PackedSegment(key, self.size, encoded.nbytes, crc32, encoded.rows))
        self.size += encoded.nbytes

    def cut(self, key: SegmentKey) -> bool:
        """Remove the incomplete last segment if its key is ``key``; returns whether any segment remains."""
        if self._segments and self._segments[-1].key == key:
            self.size = self._segments.pop().offset
            os.ftruncate(self._fd, self.size)
        return bool(self._segments)

    def copy(self, blob: Path, segment: PackedSegment, done: int, length: int) -> None:
        """Append ``length`` bytes of a finished blob's segment, of which ``done`` bytes are already written.

        Raises:
            OSError: If the blob is shorter, or a read or write fails.
        """
        with read_regular(blob, buffering=0) as file:
            file.seek(segment.offset + done)
            data = file.read(length)
        if len(data) != length:
            raise OSError("the blob is shorter than its segments")
        self.append(segment.key, Encoded((data,), length, 0 if done else segment.rows), segment.crc32)

    def commit(self) -> Pack:
        """Sync the data, rename the file into place, write the sidecar; returns the pack.

        Raises:
            OSError: If any of that fails.
        """
        os.fsync(self._fd)
        self._path.rename(self._final)
        self._close()
        return write_sidecar(self._final, self.size, self._columns, self._segments)

    def abort(self) -> None:
        """Remove the unfinished file; idempotent, and without effect after a commit."""
        if self._fd >= 0:
            try:
                self._path.unlink(missing_ok=True)
            finally:
                self._close()

    def _close(self) -> None:
        descriptor, self._fd = self._fd, -1
        os.close(descriptor)

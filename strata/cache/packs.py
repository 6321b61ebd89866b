"""Packs on disk: a file of segments and a sidecar that says what is in it. Everything here blocks.

The sidecar is written last, after the bytes are on disk, and renamed into place: an entry without its bytes
cannot exist, and a file without sidecar is a leftover. Its modification time is the pack's last use, in
nanoseconds; an odd one says that the pack was used again after it was made.
"""

from __future__ import annotations

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
from strata.tables import FieldKey
from strata.tables.read.ipc import Encoded

DATA = ".pack"
SIDECAR = ".index"
TEMPORARY = ".part"

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


_VERSION = 1
_CRC_BYTES = 4

_stamp_lock = threading.Lock()
_last_stamp = [0]


def sidecar_of(path: Path) -> Path:
    """Return the sidecar of a pack's file."""
    return path.with_suffix(SIDECAR)


@attrs.frozen
class Columns:
    """What the segments of a pack are made of: identities in order, and their Arrow schema."""

    fields: tuple[FieldKey, ...]
    schema: pa.Schema


def write_sidecar(path: Path, size: int, columns: Columns, segments: Sequence[PackedSegment]) -> Pack:
    """Make a synced data file findable; returns the pack.

    Raises:
        OSError: If that cannot be written; then neither file is left.
    """
    entries = [_Entry(s.key.file_key, s.key.row_group, s.offset, s.length, s.crc32, s.rows) for s in segments]
    schema = columns.schema.serialize().to_pybytes()
    entry = msgspec.msgpack.encode(_Sidecar(_VERSION, size, list(columns.fields), schema, entries))
    data = zlib.crc32(entry).to_bytes(_CRC_BYTES, "big") + entry
    final = sidecar_of(path)
    temporary = final.with_name(final.name + TEMPORARY)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_MODE)
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
            left.unlink(missing_ok=True)
        raise
    return Pack(path, size + len(data), columns.fields, columns.schema, tuple(segments))


def load(root: Path) -> tuple[list[Pack], list[Path]]:
    """Return the whole packs below ``root``, least recently used first, and the files that are leftovers."""
    packs: list[tuple[int, Pack]] = []
    kept: set[Path] = set()
    ours: list[Path] = []
    try:
        there = list(root.iterdir())
    except FileNotFoundError:
        return [], []  # a tenant that has cached nothing yet
    for path in there:
        if path.suffix not in (DATA, SIDECAR, TEMPORARY):
            continue  # a foreign file is not ours to remove
        ours.append(path)
        if path.suffix == SIDECAR:
            pack = _load_one(path)
            if pack is not None:
                moment = path.stat().st_mtime_ns
                packs.append((moment, attrs.evolve(pack, proven=bool(moment & 1))))
                kept |= {path, pack.path}
    packs.sort(key=lambda item: item[0])
    return [pack for _, pack in packs], [path for path in ours if path not in kept]


def _load_one(sidecar: Path) -> Pack | None:
    path = sidecar.with_suffix(DATA)
    try:
        data = sidecar.read_bytes()
        crc32, entry = int.from_bytes(data[:_CRC_BYTES], "big"), data[_CRC_BYTES:]
        if zlib.crc32(entry) != crc32:
            return None
        found = msgspec.msgpack.decode(entry, type=_Sidecar)
        schema = pa.ipc.read_schema(pa.py_buffer(found.schema))
        whole = path.stat().st_size == found.size
        coherent = _coherent(found, schema.names)  # which are decoded only now
    except (OSError, msgspec.MsgspecError, pa.ArrowException, UnicodeDecodeError):
        return None
    if not (whole and coherent):
        return None
    segments = tuple(
        PackedSegment(SegmentKey(e.file_key, e.row_group), e.offset, e.length, e.crc32, e.rows)
        for e in found.entries
    )
    return Pack(path, found.size + len(data), tuple(found.fields), schema, segments)


def _coherent(found: _Sidecar, names: Sequence[str]) -> bool:
    """Whether a sidecar can be true; the checksum says only that it is what somebody wrote."""
    return (
        found.version == _VERSION
        and len(found.fields) == len(set(found.fields)) == len(names)
        and all(
            min(e.row_group, e.offset, e.length, e.rows) >= 0 and e.offset + e.length <= found.size
            for e in found.entries
        )
    )


def measure(root: Path) -> tuple[int, int]:
    """Return the bytes of the packs below ``root`` and when the last of them was used; reads no file."""
    found = _by_use(root)
    return sum(size for _, size, _ in found), max((moment for moment, _, _ in found), default=0)


def trim(root: Path, budget: int) -> int:
    """Remove packs below ``root``, the one unused for longest first, until the budget holds.

    Returns the bytes that are left. A directory that has nothing left goes, too. Nobody may have the shard
    open.
    """
    found = _by_use(root)
    left = sum(size for _, size, _ in found)
    for _, size, path in found:
        if left <= budget:
            break
        remove([path])
        left -= size
    if not left:
        with suppress(OSError):  # not there, or with a foreign file in it
            root.rmdir()
    return left


def _by_use(root: Path) -> list[tuple[int, int, Path]]:
    """Return (last use, bytes, data file) of each pack; leftovers count as unused for longest."""
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


def remove(paths: Iterable[Path]) -> None:
    """Remove packs (a data file with its sidecar, the sidecar first) and leftovers."""
    for path in paths:
        if path.suffix == DATA:
            sidecar_of(path).unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def touch(paths: Iterable[Path]) -> None:
    """Note packs as used now, in the order given."""
    for path in paths:
        with suppress(FileNotFoundError):  # evicted in the meantime
            _stamp(sidecar_of(path), again=True)


def _stamp(path: Path, *, again: bool) -> None:
    """Set the time of last use: of two uses the later has the later time, however coarse the clock."""
    with _stamp_lock:
        _last_stamp[0] = moment = max(time.time_ns() & ~1, _last_stamp[0] + 2)
    os.utime(path, ns=(moment | again, moment | again))


def read(path: Path, packed: PackedSegment) -> bytes | None:
    """Return a segment's bytes, or None if they are not those that were written."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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
    """Return the CRC-32 of bytes of a file, carried on from ``crc32``.

    Raises:
        OSError: If they are not all there.
    """
    left = length
    with blob.open("rb", buffering=0) as file:
        file.seek(offset)
        while left:
            block = file.read(min(_COPY_BLOCK, left))
            if not block:
                raise OSError("the blob is shorter than its segments")
            crc32 = zlib.crc32(block, crc32)
            left -= len(block)
    return crc32


def adopt(root: Path, blob: Path, columns: Columns, segments: Sequence[PackedSegment]) -> Pack | None:
    """Make a finished blob a pack: a second name for its file; None where that cannot be.

    It is copied then (:meth:`PackWriter.copy`): on another file system, or one without links.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{secrets.token_hex(12)}{DATA}"
    try:
        os.link(blob, path)
    except OSError:
        return None
    return write_sidecar(path, path.stat().st_size, columns, segments)


def extend(segments: list[PackedSegment], part: PackedSegment) -> None:
    """Add a segment, or the next part of the one that was added last and lies right before it."""
    last = segments[-1] if segments else None
    if last is None or last.key != part.key:
        segments.append(part)
        return
    if last.offset + last.length != part.offset:
        raise ValueError("the parts of a segment lie one behind the other")
    segments[-1] = attrs.evolve(
        last, length=last.length + part.length, crc32=part.crc32, rows=last.rows + part.rows
    )


class PackWriter:
    """A pack being written; one thread at a time."""

    def __init__(self, root: Path, columns: Columns) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._columns = columns
        self._final = root / f"{secrets.token_hex(12)}{DATA}"
        self._path = self._final.with_name(self._final.name + TEMPORARY)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_MODE)
        self._segments: list[PackedSegment] = []
        self.size = 0

    def append(self, key: SegmentKey, encoded: Encoded, crc32: int) -> None:
        """Add a segment, or to the one that was added last.

        Args:
            key: Whose it is.
            encoded: The next of its messages.
            crc32: The checksum of all its messages up to here.
        """
        write_parts(self._fd, encoded.parts)
        extend(self._segments, PackedSegment(key, self.size, encoded.nbytes, crc32, encoded.rows))
        self.size += encoded.nbytes

    def cut(self, key: SegmentKey) -> bool:
        """Take back what there is of ``key``, which will not become whole; whether anything is left."""
        if self._segments and self._segments[-1].key == key:
            self.size = self._segments.pop().offset
            os.ftruncate(self._fd, self.size)
        return bool(self._segments)

    def copy(self, blob: Path, segment: PackedSegment, done: int, length: int) -> None:
        """Add ``length`` bytes of a finished blob's segment, of which ``done`` are added already.

        Raises:
            OSError: If they are not all there, or cannot be written.
        """
        with blob.open("rb", buffering=0) as file:
            file.seek(segment.offset + done)
            data = file.read(length)
        if len(data) != length:
            raise OSError("the blob is shorter than its segments")
        self.append(segment.key, Encoded((data,), length, 0 if done else segment.rows), segment.crc32)

    def commit(self) -> Pack:
        """Sync the bytes, give the file its name, write the sidecar."""
        os.fsync(self._fd)
        self._path.rename(self._final)
        self._close()
        return write_sidecar(self._final, self.size, self._columns, self._segments)

    def abort(self) -> None:
        """Remove the file; harmless when repeated and after a commit."""
        if self._fd >= 0:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1

"""In-memory index of a cache shard: segments by key, packs by recency of use.

Pure state without I/O, owned by one thread (the actor's loop). The unit of eviction is the pack, a file of
segments.

Eviction is a segmented LRU (Karedla, Love and Wherry, "Caching Strategies to Improve Disk System
Performance", 1994): a new pack is probationary and becomes protected when it is used again. Probationary
packs are evicted first, so data that is read once, however much, evicts nothing that is read repeatedly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path

import attrs
import pyarrow as pa

from strata.tables import FieldKey


@attrs.frozen
class SegmentKey:
    """Key of a segment: one row group of a data file, with its delete files.

    Attributes:
        file_key: Identity of the file's rows (:attr:`strata.tables.FileTask.file_key`).
        row_group: Index of the row group in the file.
    """

    file_key: str
    row_group: int


@attrs.frozen
class PackedSegment:
    """Location of a segment (encoded record-batch messages) in a file.

    Attributes:
        key: The row group.
        offset: Offset of the first byte in the file.
        length: Length in bytes.
        crc32: CRC-32 of the bytes.
        rows: Number of rows.
    """

    key: SegmentKey
    offset: int
    length: int
    crc32: int
    rows: int


@attrs.frozen
class Pack:
    """A complete file of segments that all have the same columns.

    Attributes:
        path: The data file; its sidecar has the same name with another suffix.
        size: Bytes of data file and sidecar.
        fields: Identity of the columns, in order.
        schema: Arrow schema of the columns when they were written; only the types count, names may change.
        segments: Locations of the segments.
        protected: Whether the pack was used again after it was written.
    """

    path: Path
    size: int
    fields: tuple[FieldKey, ...]
    schema: pa.Schema
    segments: tuple[PackedSegment, ...]
    protected: bool = False


@attrs.frozen
class Segment:
    """A segment found in the index; an eviction may remove its file before it is read.

    Attributes:
        path: The pack's data file.
        packed: Location in that file.
        fields: Identity of the columns, in order.
        schema: Arrow schema of the columns when they were written.
    """

    path: Path
    packed: PackedSegment
    fields: tuple[FieldKey, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.packed.rows


def _segment(pack: Pack, packed: PackedSegment) -> Segment:
    return Segment(pack.path, packed, pack.fields, pack.schema)


PROTECTED_PART = 0.75
"""Maximum part of the budget for protected packs; beyond, the least recently used turn probationary."""

LARGEST_PART = 0.5
"""Maximum size of a pack as a part of the budget; a larger pack is not installed."""


class CacheIndex:
    """Segments by key and packs by recency of use, within a budget of bytes.

    Args:
        budget: Maximum bytes of all packs.

    Attributes:
        budget: Maximum bytes of all packs.
        bytes: Bytes of the packs in the index.
        evictions: Number of segments evicted so far.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self.evictions = 0
        self._probation: OrderedDict[Path, Pack] = OrderedDict()
        self._protected: OrderedDict[Path, Pack] = OrderedDict()
        self._protected_bytes = 0
        self._live: dict[Path, int] = {}
        self._segments: dict[SegmentKey, list[Segment]] = {}

    def __len__(self) -> int:
        """Return the number of segments in the index."""
        return sum(self._live.values())

    def packs(self) -> Iterator[Pack]:
        """Yield packs in eviction order: probationary, then protected; least recently used first."""
        yield from self._probation.values()
        yield from self._protected.values()

    def most_of_one_pack(self, budget: int) -> int:
        """Return the maximum bytes of a new pack within a total ``budget``.

        At most :data:`LARGEST_PART` of the budget, and not more than protected packs leave free: one large
        scan must not evict all else.
        """
        return max(0, min(int(budget * LARGEST_PART), budget - self._protected_bytes))

    def find(self, key: SegmentKey, fields: Collection[FieldKey]) -> Segment | None:
        """Return the narrowest segment of ``key`` that has all ``fields``, and mark its pack as used."""
        wanted = set(fields)
        covering = [s for s in self._segments.get(key, ()) if wanted.issubset(s.fields)]
        if not covering:
            return None
        best = min(covering, key=lambda segment: segment.packed.length)
        self._use(best.path)
        return best

    def _use(self, path: Path) -> None:
        if path in self._protected:
            self._protected.move_to_end(path)
            return
        self._protect(path, self._probation.pop(path))

    def _protect(self, path: Path, pack: Pack) -> None:
        self._protected[path] = pack
        self._protected_bytes += pack.size
        while self._protected_bytes > self.budget * PROTECTED_PART and self._protected:
            old, demoted = self._protected.popitem(last=False)
            self._protected_bytes -= demoted.size
            self._probation[old] = demoted

    def add(self, pack: Pack) -> list[Path]:
        """Add a pack as the most recently used; returns the files to remove.

        A pack larger than what protected packs leave of the budget is not added: its own file is returned.
        """
        if pack.size > self.budget - self._protected_bytes or not pack.segments:
            return [pack.path]
        if pack.protected:
            self._protect(pack.path, pack)
        else:
            self._probation[pack.path] = pack
        self._live[pack.path] = 0
        self.bytes += pack.size
        gone: list[Path] = []
        for packed in pack.segments:
            gone += self._supersede(packed.key, pack.fields)
            self._segments.setdefault(packed.key, []).append(_segment(pack, packed))
            self._live[pack.path] += 1
        return gone + self.shrink()

    def shrink(self) -> list[Path]:
        """Drop packs in the order of :meth:`packs` until the budget holds; returns their files."""
        gone = []
        while self.bytes > self.budget and (pack := next(self.packs(), None)) is not None:
            self.evictions += self._live[pack.path]
            gone += self.drop(pack.path)
        return gone

    def forget(self, segment: Segment) -> list[Path]:
        """Drop one segment; returns the pack's file if no other segment of it remains."""
        found = self._segments.get(segment.packed.key, [])
        if segment not in found:
            return []
        found.remove(segment)
        if not found:
            del self._segments[segment.packed.key]
        return self._died(segment.path)

    def drop(self, path: Path) -> list[Path]:
        """Drop a pack with all its segments; returns its file, or nothing if the index has no such pack."""
        pack = self._probation.pop(path, None)
        if pack is None:
            pack = self._protected.pop(path, None)
            if pack is None:
                return []
            self._protected_bytes -= pack.size
        del self._live[path]
        self.bytes -= pack.size
        for packed in pack.segments:
            found = self._segments.get(packed.key, [])
            segment = _segment(pack, packed)
            if segment in found:
                found.remove(segment)
            if not found:
                self._segments.pop(packed.key, None)
        return [path]

    def clear(self) -> list[Path]:
        """Drop all packs; returns their files."""
        return [gone for pack in list(self.packs()) for gone in self.drop(pack.path)]

    def _supersede(self, key: SegmentKey, fields: tuple[FieldKey, ...]) -> list[Path]:
        """Drop older segments of the same row group whose columns are a subset of ``fields``."""
        columns = set(fields)
        older = [s for s in self._segments.get(key, ()) if columns.issuperset(s.fields)]
        return [gone for segment in older for gone in self.forget(segment)]

    def _died(self, path: Path) -> list[Path]:
        self._live[path] -= 1
        return self.drop(path) if not self._live[path] else []

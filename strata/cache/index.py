"""What a cache shard holds, in memory: which segments, in which packs, used how recently.

Pure state without I/O, owned by one thread (the actor's loop). Packs are the unit of eviction: a pack is one
file, and its segments come and go with it.

Eviction is a segmented LRU (Karedla, Love and Wherry, "Caching Strategies to Improve Disk System
Performance", 1994): a new pack is on trial, and only one that was used again is proven. The trial goes first,
so data that is read once, however much, pushes out nothing that is read over and over.
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
    """One row group of one data file as a table sees it (its delete files included)."""

    file_key: str
    row_group: int


@attrs.frozen
class PackedSegment:
    """A segment inside a file: encoded record-batch messages.

    Attributes:
        key: Which row group.
        offset: First byte in the file.
        length: Bytes.
        crc32: Checksum of those bytes.
        rows: Rows.
    """

    key: SegmentKey
    offset: int
    length: int
    crc32: int
    rows: int


@attrs.frozen
class Pack:
    """A file of segments, whole and on disk; all have the same columns.

    Attributes:
        path: The file with the bytes; its sidecar is beside it.
        size: Bytes of both on disk.
        fields: Identity of the columns, in order.
        schema: Their Arrow schema when they were written; only types matter, for columns get renamed.
        segments: What is in it.
        proven: It was used again after it was made.
    """

    path: Path
    size: int
    fields: tuple[FieldKey, ...]
    schema: pa.Schema
    segments: tuple[PackedSegment, ...]
    proven: bool = False


@attrs.frozen
class Segment:
    """A segment that was found; ``path`` may be gone by the time it is read."""

    path: Path
    packed: PackedSegment
    fields: tuple[FieldKey, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        """Its rows."""
        return self.packed.rows


def _segment(pack: Pack, packed: PackedSegment) -> Segment:
    return Segment(pack.path, packed, pack.fields, pack.schema)


PROVEN_PART = 0.75
"""Most of the budget that proven packs take; the rest is for packs on trial."""

LARGEST_PART = 0.5
"""Largest pack that is taken, as a part of the budget: what one scan can have at most."""


class CacheIndex:
    """Segments by key, packs by recency.

    Args:
        budget: Most bytes of packs.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self.evictions = 0
        self._trial: OrderedDict[Path, Pack] = OrderedDict()
        self._proven: OrderedDict[Path, Pack] = OrderedDict()
        self._proven_bytes = 0
        self._live: dict[Path, int] = {}
        self._segments: dict[SegmentKey, list[Segment]] = {}

    def __len__(self) -> int:
        """Segments that can be found."""
        return sum(self._live.values())

    def packs(self) -> Iterator[Pack]:
        """Packs in the order in which they go: those on trial, then the proven; longest unused first."""
        yield from self._trial.values()
        yield from self._proven.values()

    def most_of_one_pack(self, budget: int) -> int:
        """Bytes of the largest pack to be made when ``budget`` is what there can be.

        At most a part of it, and never more than is not proven: one large scan must not flush all else.
        """
        return max(0, min(int(budget * LARGEST_PART), budget - self._proven_bytes))

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
        if path in self._proven:
            self._proven.move_to_end(path)
            return
        self._prove(path, self._trial.pop(path))

    def _prove(self, path: Path, pack: Pack) -> None:
        self._proven[path] = pack
        self._proven_bytes += pack.size
        while self._proven_bytes > self.budget * PROVEN_PART and self._proven:
            old, demoted = self._proven.popitem(last=False)
            self._proven_bytes -= demoted.size
            self._trial[old] = demoted

    def add(self, pack: Pack) -> list[Path]:
        """Take a pack in as the most recently used; return the files that go for it.

        A pack that is larger than what is not proven is not taken: its files are then those to go.
        """
        if pack.size > self.budget - self._proven_bytes or not pack.segments:
            return [pack.path]
        if pack.proven:
            self._prove(pack.path, pack)
        else:
            self._trial[pack.path] = pack
        self._live[pack.path] = 0
        self.bytes += pack.size
        gone: list[Path] = []
        for packed in pack.segments:
            gone += self._supersede(packed.key, pack.fields)
            self._segments.setdefault(packed.key, []).append(_segment(pack, packed))
            self._live[pack.path] += 1
        return gone + self.shrink()

    def shrink(self) -> list[Path]:
        """Drop packs, in the order of :meth:`packs`, until the budget holds; return their files."""
        gone = []
        while self.bytes > self.budget and (pack := next(self.packs(), None)) is not None:
            self.evictions += self._live[pack.path]
            gone += self.drop(pack.path)
        return gone

    def forget(self, segment: Segment) -> list[Path]:
        """Drop one segment; returns its file if nothing else in it lives."""
        found = self._segments.get(segment.packed.key, [])
        if segment not in found:
            return []
        found.remove(segment)
        if not found:
            del self._segments[segment.packed.key]
        return self._died(segment.path)

    def drop(self, path: Path) -> list[Path]:
        """Drop a pack with all its segments; returns its file."""
        pack = self._trial.pop(path, None)
        if pack is None:
            pack = self._proven.pop(path, None)
            if pack is None:
                return []
            self._proven_bytes -= pack.size
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
        """Drop everything."""
        return [gone for pack in list(self.packs()) for gone in self.drop(pack.path)]

    def _supersede(self, key: SegmentKey, fields: tuple[FieldKey, ...]) -> list[Path]:
        """Drop older segments of the same row group whose columns the new one has."""
        columns = set(fields)
        older = [s for s in self._segments.get(key, ()) if columns.issuperset(s.fields)]
        return [gone for segment in older for gone in self.forget(segment)]

    def _died(self, path: Path) -> list[Path]:
        self._live[path] -= 1
        return self.drop(path) if not self._live[path] else []

"""One tenant's cache: the index and the files below one directory.

Methods marked *loop* touch only memory and belong to one thread; those marked *worker* block and touch only
files. What the index lets go of is returned as paths for :meth:`CacheShard.remove_files`: decide, then act.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import attrs
import pyarrow as pa

from strata.cache import packs
from strata.cache.index import CacheIndex, Pack, PackedSegment, Segment, SegmentKey
from strata.cache.packs import Columns, PackWriter
from strata.cache.sliced import Damaged, projected
from strata.tables import FieldKey
from strata.tables.read.ipc import decode

TOUCH_EVERY = 16
"""Packs used after which recency is written down; a crash forgets at most so many."""


@attrs.frozen
class CacheStats:
    """Counters of a shard since it was opened, and what it holds."""

    hits: int
    misses: int
    segments: int
    bytes: int
    budget: int
    evictions: int
    damaged: int


class Allowance(Protocol):
    """What a shard may have of the bytes that all shards share; belongs to the loop."""

    def share(self) -> int:
        """Return the bytes it can count on, if it needs them."""

    def granted(self) -> int:
        """Return the bytes it may have now."""

    def claim(self, wanted: int) -> int:
        """Ask for ``wanted`` bytes; return how many it may have."""

    def release(self, to: int) -> None:
        """Tell that it has only ``to`` bytes."""


class CacheShard:
    """Segments of one tenant, kept within a budget of bytes on disk.

    Attributes:
        generation: How often it was cleared. A pack begun in an earlier one is not installed any more.
    """

    def __init__(self, root: Path, budget_bytes: int, allowance: Allowance | None = None) -> None:
        self._root = root
        self._most = budget_bytes
        self._allowance = allowance
        self._index = CacheIndex(budget_bytes)
        self._hits = 0
        self._misses = 0
        self._damaged = 0
        self._used: dict[Path, None] = {}
        self.generation = 0

    @classmethod
    def open(cls, root: Path, *, budget_bytes: int, allowance: Allowance | None = None) -> CacheShard:
        """*Worker.* Open the shard in ``root``; remove leftovers and what is over budget.

        Args:
            root: Its directory; made when there is something to be put into it.
            budget_bytes: Most bytes it may have.
            allowance: What it may have of what is shared; then :meth:`settle` is to be called next.
        """
        shard = cls(root, budget_bytes, allowance)
        found, leftovers = packs.load(root)
        packs.remove(leftovers)
        for pack in found:
            packs.remove(shard._index.add(pack))
        return shard

    def settle(self) -> list[Path]:
        """*Loop.* Claim what was found on disk; returns files to remove."""
        if self._allowance is not None:
            self._allowance.claim(self._index.bytes)
        return self.fit()

    def fit(self) -> list[Path]:
        """*Loop.* Shrink to what it may have by now; returns files to remove."""
        granted = self._most if self._allowance is None else self._allowance.granted()
        self._index.budget = min(self._most, granted)
        return self._released(self._index.shrink())

    @property
    def most_of_one_scan(self) -> int:
        """*Loop.* Bytes that one scan may leave here."""
        share = self._most if self._allowance is None else self._allowance.share()
        return self._index.most_of_one_pack(min(self._most, share))

    def _released(self, files: list[Path]) -> list[Path]:
        if self._allowance is not None:
            self._allowance.release(self._index.bytes)
            self._index.budget = min(self._most, self._allowance.granted())
        return files

    def lookup(self, key: SegmentKey, fields: Collection[FieldKey]) -> Segment | None:
        """*Loop.* Return a segment of ``key`` that has all ``fields``, perhaps more."""
        found = self._index.find(key, fields)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._used.pop(found.path, None)
        self._used[found.path] = None
        return found

    def holds(self, key: SegmentKey, fields: Collection[FieldKey]) -> bool:
        """*Loop.* Whether :meth:`lookup` would find something; counts as no look-up."""
        return self._index.find(key, fields) is not None

    def read(
        self, segment: Segment, fields: Sequence[FieldKey], schema: pa.Schema
    ) -> list[pa.RecordBatch] | Damaged:
        """*Worker.* Return the segment's rows with the columns ``fields``, named and typed by ``schema``."""
        data = packs.read(segment.path, segment.packed)
        if data is None:
            return Damaged()
        positions = [segment.fields.index(field) for field in fields]
        try:
            return [projected(batch, positions, schema) for batch in decode(segment.schema, data)]
        except (pa.ArrowException, OSError, EOFError):
            return Damaged()

    def read_raw(self, segment: Segment) -> bytes | Damaged:
        """*Worker.* Return the segment's encoded messages, checked."""
        data = packs.read(segment.path, segment.packed)
        return Damaged() if data is None else data

    def forget(self, segment: Segment) -> list[Path]:
        """*Loop.* Drop the pack of a segment that turned out to be damaged; returns files to remove."""
        self._damaged += 1
        self._hits -= 1
        self._misses += 1
        return self._released(self._index.drop(segment.path))

    def begin_pack(self, columns: Columns) -> PackWriter:
        """*Worker.* Begin a pack of segments with these columns."""
        return PackWriter(self._root, columns)

    def checksum(self, blob: Path, offset: int, length: int, crc32: int) -> int:
        """*Worker.* Carry a checksum on over the next bytes of a finished blob."""
        return packs.checksum(blob, offset, length, crc32)

    def adopt(self, blob: Path, columns: Columns, segments: Sequence[PackedSegment]) -> Pack | None:
        """*Worker.* Make a finished blob a pack, without copying it; None where the file system forbids."""
        return packs.adopt(self._root, blob, columns, segments)

    def install(self, pack: Pack, generation: int) -> list[Path]:
        """*Loop.* Make a pack findable that was begun in ``generation``; returns files to remove."""
        if generation != self.generation or pack.size > self.most_of_one_scan:
            return [pack.path]
        if self._allowance is not None:
            granted = self._allowance.claim(min(self._most, self._index.bytes + pack.size))
            self._index.budget = min(self._most, granted)
        return self._released(self._index.add(pack))

    def set_budget(self, budget_bytes: int) -> list[Path]:
        """*Loop.* Change the most it may have; returns files to remove."""
        self._most = budget_bytes
        return self.fit()

    def clear(self) -> list[Path]:
        """*Loop.* Drop everything; returns files to remove."""
        self._used.clear()
        self.generation += 1
        return self._released(self._index.clear())

    def remove_files(self, paths: Iterable[Path]) -> None:
        """*Worker.* Remove what the index let go of."""
        packs.remove(paths)

    def take_used(self) -> list[Path]:
        """*Loop.* Return packs lately used, for :meth:`note_used`; none below :data:`TOUCH_EVERY`."""
        if len(self._used) < TOUCH_EVERY:
            return []
        used, self._used = list(self._used), {}
        return used

    def note_used(self, paths: Iterable[Path]) -> None:
        """*Worker.* Write recency down, so that it survives a restart."""
        packs.touch(paths)

    def stats(self) -> CacheStats:
        """*Loop.* Return the counters."""
        index = self._index
        return CacheStats(
            self._hits, self._misses, len(index), index.bytes, self._most, index.evictions, self._damaged
        )

"""Cache shard of one tenant: an index in memory and the packs in one directory.

Methods marked *loop* touch only memory and belong to one thread; methods marked *worker* block and touch only
files. The index returns the paths of dropped packs for :meth:`CacheShard.remove_files`: decide, then act.
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
"""Packs used before their recency is written to disk; a crash loses the recency of at most this many."""


@attrs.frozen
class CacheStats:
    """Counters of a shard since it was opened, and its size.

    Attributes:
        hits: Look-ups that found a segment.
        misses: Look-ups that found none, damaged segments included.
        segments: Segments in the index.
        bytes: Bytes of the packs.
        budget: Maximum bytes of the shard.
        evictions: Segments evicted.
        damaged: Segments that failed their checksum.
    """

    hits: int
    misses: int
    segments: int
    bytes: int
    budget: int
    evictions: int
    damaged: int


class Allowance(Protocol):
    """A shard's part of the bytes that all shards share; belongs to the loop."""

    def share(self) -> int:
        """Return the bytes the shard can count on if it needs them."""

    def granted(self) -> int:
        """Return the bytes granted to the shard now."""

    def claim(self, wanted: int) -> int:
        """Ask for a grant of ``wanted`` bytes; return the bytes granted."""

    def release(self, to: int) -> None:
        """Reduce the grant to ``to`` bytes."""


class CacheShard:
    """Segments of one tenant, within a budget of bytes on disk.

    Attributes:
        generation: Number of times the shard was cleared; a pack begun in an earlier generation is not
            installed.
        failure: Why the directory could not be read; None if it was. Until then the shard is empty and takes
            no packs.
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
        self.failure: OSError | None = None

    @classmethod
    def open(cls, root: Path, *, budget_bytes: int, allowance: Allowance | None = None) -> CacheShard:
        """*Worker.* Open the shard in ``root``; removes leftovers and packs over budget.

        A directory that cannot be read is noted as :attr:`failure`; see :meth:`take`.

        Args:
            root: The shard's directory; created with the first pack.
            budget_bytes: Maximum bytes of the shard.
            allowance: The shard's part of shared bytes, if any; :meth:`settle` must be called next.
        """
        shard = cls(root, budget_bytes, allowance)
        try:
            shard._index = shard.read_disk()
        except OSError as error:  # the cache is an aid: its tenant is served without it
            shard.failure = error
        return shard

    def read_disk(self) -> CacheIndex:
        """*Worker.* Return an index of the packs on disk; removes leftovers and packs over budget.

        Raises:
            OSError: If the directory cannot be read now.
        """
        index = CacheIndex(self._most)
        found, leftovers = packs.load(self._root)
        packs.remove(leftovers)
        for pack in found:
            packs.remove(index.add(pack))
        return index

    def take(self, index: CacheIndex) -> list[Path]:
        """*Loop.* Use the packs of a directory that can be read again; returns files to remove."""
        self._index, self.failure = index, None
        return self.settle()

    def settle(self) -> list[Path]:
        """*Loop.* Claim the bytes found on disk; returns files to remove."""
        if self._allowance is not None:
            self._allowance.claim(self._index.bytes)
        return self.fit()

    def fit(self) -> list[Path]:
        """*Loop.* Shrink to the bytes granted now; returns files to remove."""
        granted = self._most if self._allowance is None else self._allowance.granted()
        self._index.budget = min(self._most, granted)
        return self._released(self._index.shrink())

    @property
    def most_of_one_scan(self) -> int:
        """*Loop.* Maximum bytes that one scan may add to the shard."""
        if self.failure is not None:
            return 0
        share = self._most if self._allowance is None else self._allowance.share()
        return self._index.most_of_one_pack(min(self._most, share))

    def _released(self, files: list[Path]) -> list[Path]:
        if self._allowance is not None:
            self._allowance.release(self._index.bytes)
            self._index.budget = min(self._most, self._allowance.granted())
        return files

    def lookup(self, key: SegmentKey, fields: Collection[FieldKey]) -> Segment | None:
        """*Loop.* Return a segment of ``key`` with all ``fields``, perhaps more; counts a hit or a miss."""
        found = self._index.find(key, fields)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._used.pop(found.path, None)
        self._used[found.path] = None
        return found

    def holds(self, key: SegmentKey, fields: Collection[FieldKey]) -> bool:
        """*Loop.* Test whether :meth:`lookup` would find a segment; counts neither hit nor miss."""
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
        """*Worker.* Return the segment's encoded messages, with their checksum verified."""
        data = packs.read(segment.path, segment.packed)
        return Damaged() if data is None else data

    def forget(self, segment: Segment) -> list[Path]:
        """*Loop.* Drop the pack of a damaged segment and count its hit as a miss; returns files to remove."""
        self._damaged += 1
        self._hits -= 1
        self._misses += 1
        return self._released(self._index.drop(segment.path))

    def begin_pack(self, columns: Columns) -> PackWriter:
        """*Worker.* Begin a pack of segments with these columns."""
        return PackWriter(self._root, columns)

    def checksum(self, blob: Path, offset: int, length: int, crc32: int) -> int:
        """*Worker.* Continue a CRC-32 over the next bytes of a finished blob; raises :class:`OSError`."""
        return packs.checksum(blob, offset, length, crc32)

    def adopt(self, blob: Path, columns: Columns, segments: Sequence[PackedSegment]) -> Pack | None:
        """*Worker.* Link a finished blob as a pack, without a copy; ``None`` if the link is refused."""
        return packs.adopt(self._root, blob, columns, segments)

    def install(self, pack: Pack, generation: int) -> list[Path]:
        """*Loop.* Add a pack that was begun in ``generation``; returns files to remove.

        A pack of an earlier generation or above :attr:`most_of_one_scan` is not added: its file is returned.
        """
        if generation != self.generation or pack.size > self.most_of_one_scan:
            return [pack.path]
        if self._allowance is not None:
            granted = self._allowance.claim(min(self._most, self._index.bytes + pack.size))
            self._index.budget = min(self._most, granted)
        return self._released(self._index.add(pack))

    def set_budget(self, budget_bytes: int) -> list[Path]:
        """*Loop.* Set the maximum bytes of the shard; returns files to remove."""
        self._most = budget_bytes
        return self.fit()

    def clear(self) -> list[Path]:
        """*Loop.* Drop all packs; returns files to remove."""
        self._used.clear()
        self.generation += 1
        return self._released(self._index.clear())

    def remove_files(self, paths: Iterable[Path]) -> OSError | None:
        """*Worker.* Remove files of dropped packs; returns the first error, after trying all of them.

        A file that stays is read again when the shard is opened the next time.
        """
        return packs.remove(paths)

    def take_used(self) -> list[Path]:
        """*Loop.* Take the packs used since the last call, to note their use; none below ``TOUCH_EVERY``."""
        if len(self._used) < TOUCH_EVERY:
            return []
        used, self._used = list(self._used), {}
        return used

    def note_used(self, paths: Iterable[Path]) -> None:
        """*Worker.* Write the packs' recency to disk, so that it survives a restart."""
        packs.touch(paths)

    def stats(self) -> CacheStats:
        """*Loop.* Return the counters."""
        index = self._index
        return CacheStats(
            self._hits, self._misses, len(index), index.bytes, self._most, index.evictions, self._damaged
        )

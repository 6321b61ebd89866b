"""The cache: row groups of immutable data files, decoded once, on disk, a shard for each tenant."""

from strata.cache.index import CacheIndex, Pack, PackedSegment, Segment, SegmentKey
from strata.cache.packs import Columns, PackWriter, extend
from strata.cache.shard import CacheShard, CacheStats
from strata.cache.sliced import Damaged, SegmentReader

__all__ = [
    "CacheIndex",
    "CacheShard",
    "CacheStats",
    "Columns",
    "Damaged",
    "Pack",
    "PackWriter",
    "PackedSegment",
    "Segment",
    "SegmentKey",
    "SegmentReader",
    "extend",
]

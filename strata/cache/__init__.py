"""Cache of decoded row groups of immutable data files: on disk, one shard per tenant."""

from strata.cache.budget import CacheBudget, Cuts
from strata.cache.index import CacheIndex, Pack, PackedSegment, Segment, SegmentKey
from strata.cache.packs import Columns, PackWriter, extend, measure, trim
from strata.cache.shard import Allowance, CacheShard, CacheStats
from strata.cache.sliced import Damaged, SegmentReader

__all__ = [
    "Allowance",
    "CacheBudget",
    "CacheIndex",
    "CacheShard",
    "CacheStats",
    "Columns",
    "Cuts",
    "Damaged",
    "Pack",
    "PackWriter",
    "PackedSegment",
    "Segment",
    "SegmentKey",
    "SegmentReader",
    "extend",
    "measure",
    "trim",
]

"""Cache of decoded row groups of immutable data files: on disk, one shard per tenant.

A *segment* is one cached row group with a set of columns; a *pack* is a file of segments, with a *sidecar*
that describes them; a *shard* is the packs of one tenant and their index.
"""

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
